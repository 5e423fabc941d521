"""Trees of layers: names, modes, saving and loading, rows and shortcuts."""

import numpy as np
import pytest
from layer_cases import CASES, NORMS
from layer_runs import EACH_LIBRARY, draw, host

from minidl import (
    BatchNorm,
    Conv2d,
    Dropout,
    Layer,
    Linear,
    MaxPool2d,
    ModeNorm,
    ReLU,
    Residual,
    Sequential,
    to_device,
    to_host,
    use_backend,
)

EACH = pytest.mark.parametrize("name", CASES)


def rng():
    return np.random.default_rng(3)


def tree():
    return Sequential(
        Conv2d(3, 4, 3, rng=rng()),
        Residual(Sequential(BatchNorm(4), ReLU()), shortcut=ModeNorm(4, 2, rng=rng())),
        Sequential(ReLU(), Dropout(0.3, rng=rng())),
    )


NAMES = {
    "Linear": ["weight", "bias"],
    "Linear, no bias": ["weight"],
    "Conv2d, no bias": ["weight"],
    "Conv2d, stride and padding": ["weight", "bias"],
    "BatchNorm": ["weight", "bias", "running_mean", "running_var"],
    "BatchNorm, second moment": ["weight", "bias", "running_mean", "running_mean_square"],
    "InstanceNorm": ["weight", "bias"],
    "LayerNorm": ["weight", "bias"],
    "GroupNorm": ["weight", "bias"],
    "ModeNorm": ["weight", "bias", "gate.weight", "gate.bias", "running_mean", "running_mean_square"],
    "ModeGroupNorm": ["weight", "bias", "gate.weight", "gate.bias"],
    "MaxPool2d": [],
    "Sequential": ["0.weight", "0.bias", "2.weight", "2.bias"],
    "Residual": ["branch.weight", "branch.bias", "shortcut.weight", "shortcut.bias"],
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_state_are_those_of_pytorch(name):
    assert list(CASES[name].layer().state()) == NAMES[name]


@pytest.mark.parametrize("name", CASES)
def test_gradients_have_the_names_shapes_and_dtypes_of_the_parameters(name):
    for _, layer in CASES[name].layer("float32").named_layers():
        assert list(layer.grads) == list(layer.params)
        for key, p in layer.params.items():
            assert (layer.grads[key].shape, layer.grads[key].dtype) == (p.shape, p.dtype)


def test_shapes_of_the_parameters_are_those_of_the_paper():
    C, K = 4, 3
    shapes = {name: array.shape for name, array in ModeNorm(C, K, rng=rng()).state().items()}
    assert shapes == {
        "weight": (C,),
        "bias": (C,),
        "gate.weight": (K, C),
        "gate.bias": (K,),
        "running_mean": (K, C),
        "running_mean_square": (K, C),
    }
    shapes = {name: array.shape for name, array in CASES["ModeGroupNorm"].layer().state().items()}
    assert shapes == {"weight": (5,), "bias": (5,), "gate.weight": (4, 1), "gate.bias": (4,)}
    per_mode = ModeNorm(C, K, per_mode_affine=True, rng=rng()).state()
    assert per_mode["weight"].shape == per_mode["bias"].shape == (K, C)


@pytest.mark.parametrize("name", NORMS)
def test_running_statistics_are_kept_in_float64(name):
    for key, buffer in NORMS[name].layer("float16").buffers.items():
        assert buffer.dtype == np.float64, key


def test_the_tree_is_walked_in_the_order_of_assignment():
    paths = [path for path, _ in tree().named_layers()]
    assert paths == ["", "0", "1", "1.branch", "1.branch.0", "1.branch.1", "1.shortcut", "2", "2.0", "2.1"]
    assert [path for path, _ in tree().named_layers("net")][:2] == ["net", "net.0"]


def test_children_are_the_attributes_that_are_layers():
    class Pair(Layer):
        def __init__(self):
            super().__init__()
            self.second = ReLU()
            self.number = 3
            self.first = Linear(3, 4, rng=rng())

    assert [name for name, _ in Pair().children()] == ["second", "first"]
    assert list(Pair().state()) == ["first.weight", "first.bias"]


def test_train_and_eval_reach_every_layer_and_return_the_root():
    net = tree()
    assert all(layer.training for _, layer in net.named_layers())
    assert net.eval() is net
    assert not any(layer.training for _, layer in net.named_layers())
    assert net.train() is net
    assert all(layer.training for _, layer in net.named_layers())


def test_num_params_counts_what_is_trained():
    conv, bn, mn = 4 * 3 * 3 * 3 + 4, 2 * 4, 2 * 4 + 2 * 4 + 2
    assert tree().num_params() == conv + bn + mn


@EACH_LIBRARY
def test_zero_grad_reaches_every_layer():
    net = tree()
    for _, layer in net.named_layers():
        for grad in layer.grads.values():
            grad += 1
    net.zero_grad()
    assert not any(grad.any() for _, layer in net.named_layers() for grad in layer.grads.values())


@EACH_LIBRARY
@EACH
def test_a_state_goes_round(name):
    case = CASES[name]
    source, target = case.layer(), case.make(dtype="float64")
    state = source.state()
    target.load_state(state)
    assert target.state().keys() == state.keys()
    for key, value in target.state().items():
        np.testing.assert_array_equal(value, state[key], strict=True)
    if case.in_eval and not name.startswith("Dropout"):
        x = to_device(case.arrays()[0])
        np.testing.assert_array_equal(to_host(target.eval()(x)), to_host(source.eval()(x)))


@EACH_LIBRARY
@pytest.mark.parametrize("other", ["numpy", "cupy"])
def test_a_state_moves_between_libraries(library, other):
    if library == "numpy" and other == "cupy":
        return  # the other way round is the same
    source = tree()
    with use_backend(other):
        target = Sequential(Conv2d(3, 4, 3), Residual(Sequential(BatchNorm(4), ReLU()), ModeNorm(4, 2)), ReLU())
        target.load_state(source.state())
        assert all(type(array) is np.ndarray for array in target.state().values())
        for path, array in target._named_arrays().items():
            np.testing.assert_array_equal(host(array), source.state()[path], strict=True)


@EACH_LIBRARY
def test_a_state_is_a_copy():
    layer = CASES["ModeNorm"].layer()
    state = layer.state()
    before = {key: value.copy() for key, value in state.items()}
    for array in (*layer.params.values(), *layer.buffers.values()):
        array += 1
    for key, value in state.items():
        np.testing.assert_array_equal(value, before[key])
    layer.load_state(state)
    state["weight"] += 1
    np.testing.assert_array_equal(to_host(layer.params["weight"]), before["weight"])


@EACH_LIBRARY
def test_a_state_is_loaded_in_place_and_cast():
    layer = Linear(3, 4, rng=rng())
    weight, gradient = layer.params["weight"], layer.grads["weight"]
    state = {"weight": draw(1, 4, 3), "bias": draw(2, 4)}
    layer.load_state(state)
    assert layer.params["weight"] is weight
    assert layer.grads["weight"] is gradient
    np.testing.assert_array_equal(to_host(weight), state["weight"].astype("float32"), strict=True)


def test_a_state_that_does_not_fit_is_refused_by_name_and_nothing_changes():
    net = Sequential(Linear(3, 4, rng=rng()), BatchNorm(4))
    before = net.state()
    state = {"0.weight": np.zeros((4, 3)), "0.bias": np.zeros((5,)), "1.weight": np.zeros(4), "1.bias": np.zeros(4)}
    with pytest.raises(ValueError, match="load_state") as caught:
        net.load_state(state | {"1.running_mean": np.zeros(4), "1.gate.weight": np.zeros((2, 4))})
    assert str(caught.value) == (
        "Sequential.load_state: state must fit the layer, got missing 1.running_var; unexpected 1.gate.weight; "
        "0.bias has shape (5,), expected (4,); build the same network as the one that was saved"
    )
    for key, value in net.state().items():
        np.testing.assert_array_equal(value, before[key])


def test_an_empty_row_is_the_identity():
    x = draw(1, 3, 4)
    net = Sequential()
    np.testing.assert_array_equal(net(x), x)
    np.testing.assert_array_equal(net.backward(2 * x), 2 * x)


@EACH_LIBRARY
def test_a_layer_without_needs_dx_returns_none_and_the_same_gradients():
    x, dy = to_device(draw(1, 3, 3, 5, 7)), to_device(draw(2, 3, 4, 3, 5))
    with_dx, without = (Conv2d(3, 4, 3, needs_dx=needs, rng=rng(), dtype="float64") for needs in (True, False))
    for layer in (with_dx, without):
        layer(x)
    assert with_dx.backward(dy).shape == x.shape
    assert without.backward(dy) is None
    for key in ("weight", "bias"):
        np.testing.assert_array_equal(to_host(without.grads[key]), to_host(with_dx.grads[key]))
    first = Linear(3, 4, rng=rng(), dtype="float64")
    first.needs_dx = False
    first(to_device(draw(1, 5, 3)))
    assert first.backward(to_device(draw(2, 5, 4))) is None


def test_a_branch_and_a_shortcut_of_other_shapes_are_refused():
    net = Residual(MaxPool2d(2))
    with pytest.raises(ValueError, match="forward") as caught:
        net(draw(1, 3, 4, 5, 7))
    assert str(caught.value) == (
        "Residual.forward: branch and shortcut must give one shape, got (3, 4, 2, 3) and (3, 4, 5, 7); "
        "pass a shortcut that changes the shape as the branch does"
    )


def test_a_layer_of_its_own_must_write_forward_and_backward():
    with pytest.raises(NotImplementedError):
        Layer()(draw(1, 3))
    with pytest.raises(NotImplementedError):
        Layer().backward(draw(1, 3))


@EACH_LIBRARY
def test_one_seed_draws_the_same_parameters_on_every_library():
    for name, case in CASES.items():
        a = case.make(dtype="float32").state()
        with use_backend("numpy"):
            b = case.make(dtype="float32").state()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=f"{name} {key}")
