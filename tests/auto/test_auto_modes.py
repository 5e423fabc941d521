"""AutoModes beside a loop: which modes fade, when they go, that nothing jumps; and which splits are kept."""

import numpy as np
import pytest
import strict
from gradients import slope
from layer_runs import EACH_ENGINE, EACH_LIBRARY, draw, host
from tolerance import assert_close, rounding

from minidl import SGD, Dropout, Linear, ModeNorm, ReLU, Sequential, SoftmaxCrossEntropy, to_device
from minidl.auto import AutoModes, prune, split
from minidl.auto.prune import Watch, rarely_used

N, C = 16, 3


def network(modes, **options):
    rng = np.random.default_rng(0)
    norm = ModeNorm(C, modes, rng=rng, dtype="float64", **options)
    return Sequential(norm, ReLU(), Linear(C, 2, rng=rng, dtype="float64"))


def two_kinds(seed, size=N):
    """Return samples of two kinds, far apart, whose label is the sign of what is left once their kind is known."""
    rng = np.random.default_rng(seed)
    kind, labels = rng.integers(0, 2, size), rng.integers(0, 2, size)
    x = np.stack([6.0 * kind - 3, (2 * labels - 1) * (2 * kind - 1.0), rng.normal(size=size)], axis=1)
    return to_device(x + 0.1 * rng.normal(size=x.shape)), to_device(labels)


def train(net, optimiser, auto, updates, batch=two_kinds):
    criterion = SoftmaxCrossEntropy()
    for update in range(updates):
        x, labels = batch(update)
        auto.before(update, x, labels)
        criterion.forward(net.forward(x), labels)
        optimiser.zero_grad()
        net.backward(criterion.backward())
        optimiser.step()
        auto.after(update + 1)


@EACH_ENGINE
def test_a_mode_that_is_rarely_used_fades_and_goes_when_its_gates_are_below_rounding():
    net = network(4)
    optimiser = SGD(net, 0.01, momentum=0.9)
    layer = net.layers[0]
    layer.params["gate.bias"][1] -= 6.0  # a gate of a quarter of a percent
    layer.params["gate.weight"][...] *= 0.1
    auto = AutoModes(net, optimiser, "prune", window=10, until=100)
    train(net, optimiser, auto, 10)
    assert auto.modes() == {"0": 4}
    assert auto.state()["0"]["fading"] == [1]
    for start in range(10, 300, 10):
        gates = host(layer.gates)[:, 1].max()
        train(net, optimiser, auto, 10, batch=lambda update, start=start: two_kinds(start + update))
        if auto.modes() == {"0": 3}:
            break
    assert auto.modes() == {"0": 3}
    assert start > 100, "it fades by a quarter of a nat an update"
    assert gates < np.finfo(np.float64).eps
    assert auto.state()["0"]["fading"] == []
    assert optimiser.state()["velocity.0.gate.weight"].shape == (3, C)


def test_the_most_used_mode_never_goes_however_high_the_threshold():
    net = network(3)
    optimiser = SGD(net, 0.01)
    auto = AutoModes(net, optimiser, "prune", window=2, until=10**6, threshold=0.999)
    train(net, optimiser, auto, 400)
    assert auto.modes() == {"0": 1}


def test_after_until_no_mode_is_condemned():
    net = network(3)
    optimiser = SGD(net, 0.01)
    auto = AutoModes(net, optimiser, "prune", window=4, until=3, threshold=0.999)
    train(net, optimiser, auto, 8)
    assert auto.state()["0"]["fading"] == []


@pytest.mark.parametrize(
    ("usage", "fading", "going"),
    [([0.5, 0.04, 0.46], [], [1]), ([0.04, 0.03, 0.93], [2], [1]), ([0.01, 0.99], [0, 1], []), ([1.0], [], [])],
)
def test_modes_go_that_are_below_the_threshold_but_one_stays(usage, fading, going):
    assert rarely_used(np.array(usage), 0.05, fading) == going


def test_modes_that_fade_keep_their_places_when_another_goes():
    watch = Watch(network(5).layers[0], fading=[1, 3, 4])
    assert watch.kept([1, 3]) == [0, 2, 4]
    assert watch.fading == [2]


@EACH_ENGINE
def test_the_penalty_of_entropy_lets_modes_fall_out_of_use_until_its_time_is_over():
    found = {}
    for strength in (0.0, 3.0):
        net = network(4)
        optimiser = SGD(net, 0.1)
        auto = AutoModes(net, optimiser, "entropy", window=1000, until=60, strength=strength)
        train(net, optimiser, auto, 60)
        found[strength] = host(net.layers[0].gates).mean(axis=0).max()
        assert net.layers[0].gate_penalty == strength
        auto.before(60, *two_kinds(0))
        assert net.layers[0].gate_penalty == 0.0
    assert found[3.0] > 0.95 > 0.8 > found[0.0]


@EACH_ENGINE
def test_a_mode_is_split_where_that_lowers_the_loss():
    right = {}
    x, labels = two_kinds(999, 400)
    for most in (1, 2):
        net = network(1)
        optimiser = SGD(net, 0.1, momentum=0.5)
        auto = AutoModes(net, optimiser, "split", window=40, until=200, max_modes=most)
        train(net, optimiser, auto, 200, batch=lambda update: two_kinds(update, 64))
        assert auto.modes() == {"0": most}
        right[most] = (host(net.eval().forward(x)).argmax(axis=1) == host(labels)).mean()
    assert right[1] < 0.6 < 0.7 < right[2], "one mode cannot tell these labels at all"


def test_no_mode_is_split_where_the_labels_are_chance(monkeypatch):
    def chance(update):
        return draw(update, 64, C), np.random.default_rng([update, 1]).integers(0, 2, 64)

    found = {}
    for clear in (2, -1e9):  # standard errors
        monkeypatch.setattr(split, "CLEAR", clear)
        net = network(1)
        optimiser = SGD(net, 0.1)
        auto = AutoModes(net, optimiser, "split", window=5, until=60)
        train(net, optimiser, auto, 60, batch=chance)
        found[clear] = auto.modes()["0"]
    assert found[2] <= 2 < found[-1e9], "a split in ten passes a test of two standard errors by chance"


@EACH_LIBRARY
def test_a_trial_of_splits_leaves_the_network_as_it_was():
    rng = np.random.default_rng(5)
    net = network(2)
    net.layers.insert(1, Dropout(0.25, rng=rng))
    x, labels = two_kinds(0)
    net.forward(x)
    before, drawn = net.state(), rng.bit_generator.state
    layers = {"0": net.layers[0]}
    arrays = dict(net.layers[0].params)
    found = split.best_split(net, layers, x, labels, np.random.default_rng(1), rng)
    assert net.layers[0].num_modes == 2
    assert found is None or found.gain < 0
    assert rng.bit_generator.state == drawn
    assert all(net.layers[0].params[name] is array for name, array in arrays.items())
    for name, value in net.state().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_the_slope_of_a_split_is_that_of_the_loss():
    net = network(2)
    layer = net.layers[0]
    x, labels = two_kinds(3, 64)
    for update in range(5):
        net.forward(two_kinds(update)[0])
    layer.momentum = 0.0
    u = np.array([0.5, -0.3, 0.4])
    layers, modes, criterion = {"0": layer}, {"0": 1}, SoftmaxCrossEntropy()

    def loss(direction, x=x):
        with split._all_split(layers, modes, {"0": direction}, 1.0):
            return float(criterion.forward(net.forward(x), labels))

    with split._all_split(layers, modes, {"0": u}, 1.0):
        criterion.forward(net.forward(x), labels)
        net.zero_grad()
        net.backward(criterion.backward())
        found = split._slope(layer, 1)
    noise = rounding(loss, {"direction": u, "x": x})["y"]
    for c in range(C):
        line = np.eye(C)[c]
        want, error = slope(lambda h, line=line: loss(u + h * line), noise)
        assert error < 1e-2 * np.abs(found).max(), "a vacuous slope"
        assert_close(found[c], want, error)
    assert np.abs(found).max() > 1e-4
    assert_close(loss(u), loss(-u), noise, "the halves are swapped")


@EACH_LIBRARY
def test_a_state_goes_on_where_it_was_taken():
    def half(net):
        optimiser = SGD(net, 0.05)
        return optimiser, AutoModes(net, optimiser, "prune", window=12, until=100, threshold=0.2)

    net = network(4)
    optimiser, auto = half(net)
    train(net, optimiser, auto, 17)
    other = network(4)
    other.load_state(net.state())
    _its_optimiser, its_auto = half(other)
    its_auto.load_state(auto.tensors(), auto.state())
    for name, value in auto.tensors().items():
        np.testing.assert_array_equal(its_auto.tensors()[name], value)
    assert its_auto.state() == auto.state()
    assert auto.state()["0"]["batches"] == 5


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "auto must have the layers 0"),
        ({"0": {"fading": [4], "batches": 0}}, "auto of 0 must have modes that fade and a count"),
        ({"0": {"fading": [True], "batches": 0}}, "auto of 0 must have modes that fade and a count"),
        ({"0": {"fading": [], "batches": -1}}, "auto of 0 must have modes that fade and a count"),
        ({"0": {"fading": [0, 1, 2, 3], "batches": 1}}, "auto of 0 must have modes that fade and a count"),
    ],
)
def test_a_state_that_is_none_is_refused(state, message):
    net = network(4)
    auto = AutoModes(net, SGD(net, 0.1), "prune", window=2, until=3)
    with pytest.raises(ValueError, match=message):
        auto.load_state(auto.tensors(), state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"by": "chance"}, "by must be one of entropy, prune, split, got 'chance'; choose one"),
        ({"window": 0}, "window must be at least 1 update, got 0; try 100"),
        ({"optimiser": object()}, "optimiser must have follow, which minidl.SGD has, got object"),
        ({"model": Linear(2, 3)}, "model must have a ModeNorm, got none; use the norm mn"),
    ],
)
def test_what_cannot_work_is_refused_with_the_cure(changes, message):
    net = network(2)
    arguments = {"model": net, "optimiser": SGD(net, 0.1), "by": "prune", "window": 2, "until": 9}
    with pytest.raises(ValueError, match=message):
        AutoModes(**{**arguments, **changes})


def test_between_decisions_a_device_is_neither_waited_for_nor_sent_anything(library):
    from minidl import use_backend

    with strict.as_cupy(), use_backend("cupy"):
        net = network(4)
        optimiser = SGD(net, 0.01)
        auto = AutoModes(net, optimiser, "entropy", window=50, until=100)
        auto._watched["0"].fading = [2]
        criterion = SoftmaxCrossEntropy()
        batches = [two_kinds(update) for update in range(4)]
        for update, (x, labels) in enumerate(batches):
            with strict.recording() as record, strict.no_synchronisation():
                auto.before(update, x, labels)
                criterion.forward(net.forward(x), labels)
                optimiser.zero_grad()
                net.backward(criterion.backward())
                optimiser.step()
                auto.after(update + 1)
        assert record.uploads == 0


def test_fading_is_slow_enough_for_the_network_to_adapt_and_fast_enough_to_end():
    assert 0.05 < prune.FADE < 1
    assert prune.BELOW * np.finfo(np.float32).eps < 1e-8
