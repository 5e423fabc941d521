"""Modes are dropped and split without a change of the function, and the optimiser's memory goes with them."""

import math

import numpy as np
import pytest
from layer_runs import EACH_ENGINE, EACH_LIBRARY, draw, host, layer_rounding, run
from tolerance import assert_close, terms

from minidl import SGD, Adam, AdamW, ModeNorm, Sequential, to_device, use_backend
from minidl.norm.select import fit_modes, split_mode, take_modes

N, C, K = 7, 3, 4
LAYERS = [{}, {"per_mode_affine": True}, {"gate_input": "normalised", "gate_temperature": 3.0}]
each_layer = pytest.mark.parametrize("options", LAYERS, ids=str)


def made(training=True, modes=K, **options):
    """Return a layer with drawn parameters and statistics; its gates are far from even."""
    layer = ModeNorm(C, modes, momentum=0.3, dtype="float64", **options).train(training)
    for seed, (name, array) in enumerate(layer._named_arrays().items()):
        value = draw(seed, *array.shape)
        if name in ("running_mean_square", "gate.running_var"):
            value = 8 + np.abs(value)
        array[...] = to_device(value)
    return layer


@EACH_ENGINE
@each_layer
@pytest.mark.parametrize("training", [True, False])
def test_without_a_mode_whose_gates_are_below_rounding_nothing_changes(options, training):
    layer = made(training, **options)
    for _ in range(100):  # as AutoModes lets it fade
        layer.params["gate.bias"][1] -= layer.gate_temperature
    x, dy = draw(50, N, C, 3), draw(51, N, C, 3, mean=0.0)
    allowed = layer_rounding(layer, x, dy)
    momentum, layer.momentum = layer.momentum, 0.0
    y, want = run(layer, x, dy)
    assert host(layer.gates)[:, 1].max() < 2.0**-60
    take_modes(layer, [0, 2, 3])
    got_y, got = run(layer, x, dy)
    layer.momentum = momentum
    assert layer.num_modes == 3
    assert_close(got_y, y, allowed["y"])
    rows = [0, 2, 3]
    for name, gradient in got.items():
        by_mode = len(want[name]) == K and name != "dx"
        assert_close(gradient, want[name][rows] if by_mode else want[name], allowed[name], name)


@EACH_ENGINE
def test_without_a_mode_the_others_share_its_gates_in_proportion():
    layer, x = made(), draw(50, N, C, 3)
    layer.forward(to_device(x))
    before = host(layer.gates)[:, [3, 0]]
    take_modes(layer, [3, 0])
    layer.forward(to_device(x))
    assert_close(host(layer.gates), before / before.sum(axis=1, keepdims=True), terms(64, 8.0))


@EACH_ENGINE
@each_layer
@pytest.mark.parametrize("training", [True, False])
def test_a_mode_split_by_no_step_leaves_the_function_and_shares_its_gradient(options, training):
    layer, x, dy = made(training, **options), draw(50, N, C, 3), draw(51, N, C, 3, mean=0.0)
    allowed = layer_rounding(layer, x, dy)
    layer.momentum = 0.0
    y, want = run(layer, x, dy)
    zeros = to_device(np.zeros(C))
    assert split_mode(layer, 2, zeros, 0.0) == [0, 1, 2, 3, 2]
    got_y, got = run(layer, x, dy)
    assert_close(got_y, y, allowed["y"])
    for name, gradient in got.items():
        if len(gradient) == K + 1 and name != "dx":
            assert_close(gradient[2], gradient[4], 2 * allowed[name], name)
            gradient[2] += gradient[4]
            gradient = gradient[:K]
        assert_close(gradient, want[name], 2 * allowed[name], name)


@EACH_LIBRARY
def test_the_halves_of_a_split_mode_differ_by_the_step_in_their_logits():
    layer, x = made(gate_temperature=2.0), draw(50, N, C)
    step = draw(60, C, mean=0.0)
    split_mode(layer, 0, to_device(step), 0.25)
    layer.forward(to_device(x))
    log_g = np.log(host(layer.gates))
    assert_close(log_g[:, 0] - log_g[:, -1], 2 * (x @ step + 0.25) / 2.0, terms(200, np.abs(x) @ np.abs(step) + 20))


@pytest.mark.parametrize("modes", [[], [4], [-1, 0]])
def test_modes_that_are_not_there_cannot_be_taken(modes):
    with pytest.raises(ValueError, match=r"take_modes: modes must be some of 0 to 3, got .*; keep at least one"):
        take_modes(made(), modes)


OPTIMISERS = {
    "sgd": lambda net: SGD(net, 0.1, momentum=0.9, weight_decay=0.01),
    "groups": lambda net: SGD(net, 0.1, 0.9, groups={"gate.": {"lr": 0.5, "weight_decay": 0.1}}),
    "adam": lambda net: Adam(net, 0.1),
    "adamw": lambda net: AdamW(net, 0.1),
}


def step(net, optimiser, seed):
    optimiser.zero_grad()
    net.forward(to_device(draw(seed, N, C)))
    net.backward(to_device(draw(seed + 1, N, C, mean=0.0)))
    optimiser.step()


@EACH_LIBRARY
@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_that_follows_is_the_one_of_the_smaller_network(name):
    net = Sequential(made(), made(per_mode_affine=True))
    optimiser = OPTIMISERS[name](net)
    for seed in range(3):
        step(net, optimiser, 70 + seed)
    kept = [3, 1]
    rows = {f"1.{path}": kept for path in take_modes(net.layers[1], kept)}
    optimiser.follow(net, rows)

    twin = Sequential(made(), made(modes=2, per_mode_affine=True))
    twin.load_state(net.state())
    other = OPTIMISERS[name](twin)
    other.load_state(optimiser.state())
    for seed in range(3):
        step(net, optimiser, 80 + seed)
        step(twin, other, 80 + seed)
    for path, value in twin.state().items():
        np.testing.assert_array_equal(net.state()[path], value, err_msg=path)
    for path, value in other.state().items():
        np.testing.assert_array_equal(optimiser.state()[path], value, err_msg=path)


def test_what_an_optimiser_keeps_for_a_mode_goes_with_it():
    net = Sequential(made())
    optimiser = SGD(net, 0.1, momentum=0.9)
    step(net, optimiser, 70)
    before = optimiser.state()
    names = take_modes(net.layers[0], [2, 0, 2])
    optimiser.follow(net, {f"0.{name}": [2, 0, 2] for name in names})
    after = optimiser.state()
    for name in ("gate.weight", "gate.bias"):
        np.testing.assert_array_equal(after[f"velocity.0.{name}"], before[f"velocity.0.{name}"][[2, 0, 2]])
    np.testing.assert_array_equal(after["velocity.0.weight"], before["velocity.0.weight"])
    assert all(np.abs(value).max() > 0 for value in after.values())


def test_a_network_is_given_the_modes_of_a_state():
    net, other = Sequential(made(), made(modes=2)), Sequential(made(modes=1), made(modes=7))
    rows = fit_modes(net, other.state(), most=7)
    assert [layer.num_modes for layer in net.layers] == [1, 7]
    assert rows["0.gate.bias"] == [0]
    assert rows["1.running_mean"] == [0, 1, 1, 1, 1, 1, 1]
    net.load_state(other.state())
    with pytest.raises(ValueError, match="layer 1 must have 1 to 6 modes, got 7"):
        fit_modes(Sequential(made(), made()), other.state(), most=6)


def test_the_arrays_stay_in_the_networks_library():
    import strict

    with strict.as_cupy(), use_backend("cupy"):
        layer = made()
        take_modes(layer, [1])
        assert {type(array) for array in layer._named_arrays().values()} == {strict.ndarray}
        assert {type(array) for array in layer.grads.values()} == {strict.ndarray}


def test_a_split_halves_the_gate_exactly_in_the_logits():
    layer = made()
    before = host(layer.params["gate.bias"])[0]
    split_mode(layer, 0, np.zeros(C), 0.0)
    assert layer.params["gate.bias"][0] == layer.params["gate.bias"][-1] == before - math.log(2)
