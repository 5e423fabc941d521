"""States under PyTorch's names: every layer and norm, other conventions, biases that a norm takes, and refusals."""

import numpy as np
import pytest
from layer_cases import CASES, NORMS
from layer_runs import EACH_LIBRARY, draw
from tolerance import assert_close, rounding, terms

from minidl import BatchNorm, Conv2d, LeNet, LeNet1989, Linear, ModeNorm, ReLU, ResNet20, Sequential
from minidl.interchange import StateError, from_torch_state, layer_names, to_torch_state
from minidl.layers.base import Layer
from minidl.norm import norm_factory

WITH_STATE = [name for name, case in CASES.items() if case.layer().state()]


def drawn(layer, seed=0):
    """Return the layer with values of its own in all parameters and statistics, variances positive."""
    rng = np.random.default_rng(seed)
    layer.load_state({name: rng.uniform(0.5, 1.5, value.shape) for name, value in layer.state().items()})
    return layer


@EACH_LIBRARY
@pytest.mark.parametrize("name", WITH_STATE)
def test_a_layers_state_comes_back(name):
    layer, other = CASES[name].layer(), CASES[name].make(dtype="float64")
    from_torch_state(other, to_torch_state(layer))
    want = layer.state()
    for key, value in other.state().items():  # a mean of squares: variance and mean² apart, and together again
        assert_close(value, want[key], terms(4 * key.endswith("mean_square"), np.abs(want[key]) + 1), key)


@pytest.mark.parametrize("running", ["unbiased", "biased", "second_moment"])
def test_inference_is_the_same_whatever_batch_norm_stores(running):
    layer = drawn(BatchNorm(5, running=running, dtype="float64")).eval()
    layer.buffers.get("running_mean_square", np.zeros(5))[...] += 2  # above the square of the mean
    plain = BatchNorm(5, dtype="float64").eval()
    state = to_torch_state(layer)
    assert list(state) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    from_torch_state(plain, state)
    x = draw(1, 7, 5)
    assert_close(plain(x), layer(x), terms(20, np.abs(x).max() + 2))


def test_a_bias_before_a_batch_norm_moves_into_its_running_mean():
    rng = np.random.default_rng(0)
    with_bias = drawn(Sequential(Conv2d(3, 4, 3, dtype="float64"), BatchNorm(4, dtype="float64")))
    without = Sequential(Conv2d(3, 4, 3, bias=False, dtype="float64"), BatchNorm(4, dtype="float64"))
    from_torch_state(without, to_torch_state(with_bias))
    x = rng.normal(size=(5, 3, 7, 5))
    for net in (with_bias, without):
        net.eval()
    assert_close(without(x), with_bias(x), terms(100, 50.0))
    assert not np.array_equal(without.layers[1].buffers["running_mean"], with_bias.layers[1].buffers["running_mean"])


class _Clipped(Layer):
    """A norm of one's own with a running mean, to which a bias may matter."""

    def __init__(self, channels):
        super().__init__()
        self.add_param("weight", np.ones(channels))
        self.buffers["running_mean"] = np.zeros(channels)


@pytest.mark.parametrize("norm", [ModeNorm, _Clipped])
def test_a_bias_before_another_norm_is_unexpected(norm):
    net = Sequential(Conv2d(3, 4, 3, bias=False), norm(4))
    state = to_torch_state(net) | {"0.bias": np.zeros(4)}
    with pytest.raises(StateError, match=r"got unexpected 0\.bias; build"):
        from_torch_state(net, state)


def test_dataparallels_prefix_and_counters_are_ignored():
    net, other = drawn(ResNet20(5, norm=norm_factory("bn"), width=4)), ResNet20(5, norm=norm_factory("bn"), width=4)
    from_torch_state(other, {f"module.{name}": value for name, value in to_torch_state(net).items()})
    assert all(np.array_equal(value, net.state()[name]) for name, value in other.state().items())


def test_what_does_not_fit_is_listed_in_one_line_and_changes_nothing():
    net = drawn(Sequential(Linear(3, 4), ReLU(), Linear(4, 2)))
    before = net.state()
    state = to_torch_state(drawn(Sequential(Linear(3, 4), ReLU(), Linear(4, 2)), seed=1))
    state["2.weight"] = np.zeros((5, 4))
    state["0.bias"] = np.zeros(4, np.int8)
    state["fc.bias"] = state.pop("2.bias")
    with pytest.raises(StateError) as caught:
        from_torch_state(net, state)
    assert str(caught.value) == (
        "from_torch_state: the state must fit Sequential, got missing 2.bias; unexpected fc.bias; "
        "2.weight has shape (5, 4), expected (2, 4); 0.bias has dtype int8, expected floats; "
        "build the network that the state is of, with its classes, width and norm"
    )
    assert all(np.array_equal(value, before[name]) for name, value in net.state().items())


def test_a_long_list_of_names_is_cut():
    with pytest.raises(StateError, match=r"missing .*, and \d+ more; build") as caught:
        from_torch_state(ResNet20(10, width=1), {})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


class _Scaled(Layer):
    """A norm of one's own, with a layer within."""

    def __init__(self, channels):
        super().__init__()
        self.add_param("weight", np.ones(channels))
        self.gate = Linear(channels, 2)


def test_a_norm_of_ones_own_has_the_places_name():
    names = layer_names(ResNet20(10, norm=lambda channels, rng: _Scaled(channels), width=1))
    assert names["1"] == "bn1"
    assert names["1.gate"] == "bn1.gate"
    assert names["3.branch.1.gate"] == "layer1.0.bn1.gate"


# -- beside PyTorch ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["BatchNorm", "BatchNorm, second moment", "InstanceNorm", "LayerNorm", "GroupNorm"])
def test_a_norms_state_gives_the_same_in_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    case = NORMS[name]
    layer, (x, _) = case.layer(training=False), case.arrays()
    c = x.shape[1]
    theirs = {
        "BatchNorm": lambda: torch.nn.BatchNorm2d(c, layer.eps),
        "InstanceNorm": lambda: torch.nn.InstanceNorm2d(c, layer.eps, affine=True),
        "LayerNorm": lambda: torch.nn.GroupNorm(1, c, layer.eps),
        "GroupNorm": lambda: torch.nn.GroupNorm(2, c, layer.eps),
    }[name.partition(",")[0]]()
    theirs.double().eval().load_state_dict({k: torch.from_numpy(v) for k, v in to_torch_state(layer).items()})
    want = theirs(torch.from_numpy(x)).detach().numpy()
    assert_close(layer(x), want, terms(1000, np.abs(want).max()))
    other = case.make(dtype="float64").train(False)
    from_torch_state(
        other, dict(theirs.named_parameters()) | dict(theirs.named_buffers())
    )  # tensors, also trained ones
    assert_close(other(x), want, terms(1000, np.abs(want).max()))


@pytest.mark.parametrize(("make", "activation"), [(LeNet, "ReLU"), (LeNet1989, "Tanh")])
def test_lenet_is_a_sequential_of_pytorch(make, activation):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    nn = torch.nn
    net = make(7, norm=norm_factory("bn", dtype="float64"), rng=np.random.default_rng(0), dtype="float64").eval()
    layers = []
    for layer in net.layers:
        kind = type(layer).__name__
        if kind == "Conv2d":
            o, c, kernel, _ = layer.params["weight"].shape
            layers.append(nn.Conv2d(c, o, kernel, layer.stride, layer.padding, bias=False))
        elif kind == "BatchNorm":
            layers.append(nn.BatchNorm2d(layer.num_features))
        elif kind == "Linear":
            layers.append(nn.Linear(*layer.params["weight"].shape[::-1]))
        else:
            layers.append(
                {"Flatten": nn.Flatten, activation: getattr(nn, activation)}.get(kind, lambda: nn.MaxPool2d(2))()
            )
    theirs = nn.Sequential(*layers).double().eval()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in to_torch_state(net).items()})
    x = draw(3, 4, 3, 32, 32)
    want = theirs(torch.from_numpy(x)).detach().numpy()
    state = net.state()

    def forward(x, **state):
        net.load_state(state)
        return net(x)

    assert_close(forward(x, **state), want, rounding(forward, {"x": x} | state)["y"], "y")
