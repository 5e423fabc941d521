"""SGD: against values worked out by hand, a loop over single parameters, and PyTorch."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_runs import EACH_LIBRARY, host
from tolerance import assert_close, terms

from minidl import to_device
from minidl.adam import Adam
from minidl.layers.base import Layer
from minidl.optim import SGD

pytestmark = EACH_LIBRARY

SHAPES = {"weight": (4, 3), "bias": (5,), "gate.weight": (2, 3, 1)}
OPTIONS = [
    {},
    {"weight_decay": 0.07},
    {"momentum": 0.8},
    {"momentum": 0.8, "weight_decay": 0.07},
    {"momentum": 0.8, "nesterov": True},
    {"momentum": 0.8, "weight_decay": 0.07, "nesterov": True},
]


class Leaf(Layer):
    def __init__(self, rng, dtype="float64"):
        super().__init__()
        for name, shape in SHAPES.items():
            self.add_param(name, rng.standard_normal(shape).astype(dtype))


class Tree(Layer):
    """Two leaves, of one dtype or of two."""

    def __init__(self, rng, dtypes=("float64", "float64")):
        super().__init__()
        self.first = Leaf(rng, dtypes[0])
        self.second = Leaf(rng, dtypes[1])


def params(model):
    return {f"{path}.{name}": host(p) for path, layer in model.named_layers() for name, p in layer.params.items()}


def set_gradients(model, rng):
    """Write random gradients and return copies."""
    for _, layer in model.named_layers():
        for grad in layer.grads.values():
            grad[...] = to_device(rng.standard_normal(grad.shape))
    return {f"{path}.{name}": host(g) for path, layer in model.named_layers() for name, g in layer.grads.items()}


def test_sgd_takes_the_steps_worked_out_by_hand():
    layer = Layer()
    layer.add_param("p", np.array([1.0, -2.0]))
    optimiser = SGD(layer, lr=0.1, momentum=0.5, weight_decay=0.2)
    layer.grads["p"][...] = to_device(np.array([3.0, 4.0]))
    optimiser.step()  # g' = [3.2, 3.6] = v;  p = [0.68, -2.36]
    assert_close(host(layer.params["p"]), [0.68, -2.36], terms(16, 2.36))
    layer.grads["p"][...] = to_device(np.array([1.0, 0.0]))
    optimiser.lr = 0.01
    optimiser.step()  # g' = [1.136, -0.472], v = [2.736, 1.328]
    assert_close(host(layer.params["p"]), [0.65264, -2.37328], terms(32, 2.4))


def test_nesterov_takes_the_steps_worked_out_by_hand():
    layer = Layer()
    layer.add_param("p", np.array([1.0]))
    optimiser = SGD(layer, lr=0.1, momentum=0.5, nesterov=True)
    layer.grads["p"][:] = 2.0
    optimiser.step()  # v = 2, step 0.1·(2 + 1)
    assert_close(host(layer.params["p"]), [0.7], terms(16, 1.0))
    layer.grads["p"][:] = -1.0
    optimiser.step()  # v = 0, step 0.1·(−1 + 0)
    assert_close(host(layer.params["p"]), [0.8], terms(32, 1.0))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    momentum=st.sampled_from([0.0, 0.3, 0.9]),
    weight_decay=st.sampled_from([0.0, 0.05]),
    nesterov=st.booleans(),
    lrs=st.lists(st.floats(0, 2), min_size=1, max_size=4),
)
def test_sgd_on_flat_buffers_is_the_loop_over_parameters(seed, momentum, weight_decay, nesterov, lrs):
    rng = np.random.default_rng(seed)
    nesterov = nesterov and momentum > 0
    model = Tree(rng, ("float32", "float64"))
    expected = {name: p.astype(np.float64) for name, p in params(model).items()}
    velocity = {name: np.zeros_like(p) for name, p in expected.items()}
    # what p and v would be if no term cancelled; each of up to four steps takes a dozen roundings of these
    sizes, moved = {name: np.abs(p) for name, p in expected.items()}, dict.fromkeys(expected, 0.0)
    optimiser = SGD(model, lr=1.0, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
    for lr in lrs:
        optimiser.lr = lr
        grads = set_gradients(model, rng)
        optimiser.step()
        for name in expected:
            g = grads[name].astype(np.float64) + weight_decay * expected[name]
            velocity[name] = momentum * velocity[name] + g
            moved[name] = momentum * moved[name] + np.abs(grads[name]) + weight_decay * sizes[name]
            sizes[name] = sizes[name] + lr * (np.abs(g) + moved[name])
            expected[name] = expected[name] - lr * (g + momentum * velocity[name] if nesterov else velocity[name])
    for name, p in params(model).items():
        assert_close(p, expected[name], terms(4 * 12, sizes[name].max(), p.dtype), name)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_sgd_is_pytorchs(options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    model = Tree(rng)
    theirs = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in params(model).items()}
    ours = SGD(model, lr=0.3, **options)
    optimiser = torch.optim.SGD(theirs.values(), lr=0.3, **options)
    for lr in (0.3, 0.3, 0.05, 0.2):
        ours.lr = optimiser.param_groups[0]["lr"] = lr
        for name, grad in set_gradients(model, rng).items():
            theirs[name].grad = torch.tensor(grad)
        ours.step()
        optimiser.step()
    for name, p in params(model).items():
        largest = np.abs(p).max() + 4 * 0.3 * 10 * 4  # four steps by velocities of ten gradients up to 4
        assert_close(p, theirs[name].detach().numpy(), terms(4 * 16, largest), name)


def test_step_leaves_gradients_alone_and_zero_grad_clears_every_one():
    rng = np.random.default_rng(0)
    model = Tree(rng, ("float32", "float64"))
    optimiser = SGD(model, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True)
    grads = set_gradients(model, rng)
    optimiser.step()
    for path, layer in model.named_layers():
        for name, grad in layer.grads.items():
            np.testing.assert_array_equal(host(grad), grads[f"{path}.{name}"])
    optimiser.zero_grad()
    assert all(not grad.any() for _, layer in model.named_layers() for grad in layer.grads.values())


def test_parameters_and_gradients_keep_values_shapes_and_dtypes_and_share_one_buffer_a_dtype():
    rng = np.random.default_rng(1)
    model = Tree(rng, ("float32", "float64"))
    grads = set_gradients(model, rng)
    before = model.state()
    SGD(model, lr=0.1)
    after = model.state()
    for name, value in before.items():
        assert after[name].dtype == value.dtype
        np.testing.assert_array_equal(after[name], value)
    for path, layer in model.named_layers():
        for name, grad in layer.grads.items():
            np.testing.assert_array_equal(host(grad), grads[f"{path}.{name}"])
    for leaf in (model.first, model.second):
        for arrays in (leaf.params, leaf.grads):
            memories = [getattr(array, "_memory", array) for array in arrays.values()]
            assert len({id(memory.base) for memory in memories}) == 1
            assert not any(memory.flags.owndata for memory in memories)


def test_loading_a_state_into_the_model_reaches_the_optimiser():
    rng = np.random.default_rng(2)
    model, other = Tree(rng), Tree(rng)
    optimiser = SGD(model, lr=1.0)
    model.load_state(other.state())
    grads = set_gradients(model, rng)
    optimiser.step()
    for name, p in params(model).items():
        want = params(other)[name] - grads[name]
        assert_close(p, want, terms(4, np.abs(params(other)[name]) + np.abs(grads[name])), name)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_loaded_state_goes_on_bit_for_bit(options):
    def steps(model, optimiser, rng, count):
        for _ in range(count):
            set_gradients(model, rng)
            optimiser.step()

    rng = np.random.default_rng(4)
    model = Tree(rng, ("float32", "float64"))
    optimiser = SGD(model, lr=0.1, **options)
    steps(model, optimiser, np.random.default_rng(5), 3)
    copy = Tree(rng, ("float32", "float64"))
    resumed = SGD(copy, lr=0.1, **options)
    copy.load_state(model.state())
    resumed.load_state(optimiser.state())
    steps(model, optimiser, np.random.default_rng(6), 3)
    steps(copy, resumed, np.random.default_rng(6), 3)
    for name, value in (model.state() | optimiser.state()).items():
        np.testing.assert_array_equal((copy.state() | resumed.state())[name], value, err_msg=name)
    assert set(optimiser.state()) == {f"velocity.{name}" for name in params(model)}


def test_state_is_a_copy():
    rng = np.random.default_rng(7)
    model = Tree(rng)
    optimiser = SGD(model, lr=0.1, momentum=0.9)
    set_gradients(model, rng)
    optimiser.step()
    state = optimiser.state()
    kept = {name: value.copy() for name, value in state.items()}
    optimiser.step()
    for name, value in kept.items():
        np.testing.assert_array_equal(state[name], value)
        assert np.abs(optimiser.state()[name] - value).max() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("velocity.first.bias"), "got missing velocity.first.bias; load the state of the same network"),
        (lambda s: s.update(velocity=np.zeros(3)), "got unexpected velocity; load the state of the same network"),
        (
            lambda s: s.update({"velocity.first.bias": np.zeros(4)}),
            r"SGD.load_state: velocity.first.bias must have shape \(5,\), got \(4,\)",
        ),
    ],
)
def test_load_state_names_what_does_not_fit_and_changes_nothing(change, message):
    rng = np.random.default_rng(8)
    model = Tree(rng)
    optimiser = SGD(model, lr=0.1, momentum=0.9)
    set_gradients(model, rng)
    optimiser.step()
    before = optimiser.state()
    state = {name: value + 1 for name, value in before.items()}
    change(state)
    with pytest.raises(ValueError, match=message):
        optimiser.load_state(state)
    for name, value in before.items():
        np.testing.assert_array_equal(optimiser.state()[name], value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "SGD: lr must be at least 0 and finite, got -1.0; try 0.1"),
        ({"lr": float("nan")}, "SGD: lr must be at least 0 and finite, got nan; try 0.1"),
        ({"lr": 0.1, "momentum": 1.0}, r"SGD: momentum must lie in \[0, 1\), got 1.0; try 0.9"),
        (
            {"lr": 0.1, "weight_decay": -0.1},
            "SGD: weight_decay must be at least 0 and finite, got -0.1; try 1e-4",
        ),
        ({"lr": 0.1, "nesterov": True}, "SGD: nesterov must be used with momentum, got momentum 0; try"),
    ],
)
def test_sgd_refuses_settings_it_cannot_use(options, message):
    with pytest.raises(ValueError, match=message):
        SGD(Tree(np.random.default_rng(0)), **options)


MAKERS = [lambda model: SGD(model, 0.1, 0.9, 0.01), lambda model: Adam(model, 0.01)]


def trained(model, optimiser, seeds):
    """Take a step for each seed; return the parameters."""
    for seed in seeds:
        optimiser.zero_grad()
        set_gradients(model, np.random.default_rng(seed))
        optimiser.step()
    return params(model)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_of_network_and_optimiser_goes_on_as_they_do_and_apart_from_them(make, copied, library):
    if library == "strict":
        pytest.skip("arrays of the stand-in are not copied")
    model = Tree(np.random.default_rng(0))
    optimiser = make(model)
    trained(model, optimiser, [1, 2])
    other, another = copied((model, optimiser))
    before = params(model)
    got = trained(other, another, [3, 4])
    for name, array in params(model).items():
        np.testing.assert_array_equal(array, before[name])
    for name, array in trained(model, optimiser, [3, 4]).items():
        np.testing.assert_array_equal(got[name], array)
        assert (array != before[name]).any()


def test_an_array_put_in_a_parameters_place_is_trained():
    model = Tree(np.random.default_rng(0))
    optimiser = SGD(model, lr=0.5)
    value = np.random.default_rng(1).normal(size=SHAPES["bias"])
    model.second.params["bias"] = to_device(value.copy())
    grads = set_gradients(model, np.random.default_rng(2))
    optimiser.step()
    np.testing.assert_array_equal(params(model)["second.bias"], value - 0.5 * grads["second.bias"])


def test_a_gradient_put_in_a_gradients_place_is_used_and_cleared():
    model = Tree(np.random.default_rng(0))
    optimiser = SGD(model, lr=0.5)
    before = params(model)["first.bias"]
    model.first.grads["bias"] = to_device(np.full(SHAPES["bias"], 2.0))
    optimiser.step()
    np.testing.assert_array_equal(params(model)["first.bias"], before - 1)
    model.first.grads["bias"] = to_device(np.full(SHAPES["bias"], 2.0))
    optimiser.zero_grad()
    assert not host(model.first.grads["bias"]).any()


def test_two_optimisers_over_one_network_each_take_their_steps():
    model = Tree(np.random.default_rng(0))
    first, second = SGD(model, lr=0.25), SGD(model, lr=0.5)
    before = params(model)
    grads = set_gradients(model, np.random.default_rng(2))
    for optimiser in (first, second, first):
        optimiser.step()
    for name, array in params(model).items():
        assert_close(array, before[name] - grads[name], terms(8, np.abs(before[name]) + np.abs(grads[name])), name)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("change", ["gone", "of another shape", "of another dtype"])
def test_a_network_that_changed_is_refused_with_the_cure(make, change):
    model = Tree(np.random.default_rng(0))
    optimiser = make(model)
    arrays = model.first.params
    if change == "gone":
        del arrays["bias"]
    else:
        arrays["bias"] = to_device(np.zeros(3) if change == "of another shape" else np.zeros(5, np.float32))
    with pytest.raises(RuntimeError, match=r"^first.bias must be an array of \(5,\), float64, .*; make a new"):
        optimiser.step()
