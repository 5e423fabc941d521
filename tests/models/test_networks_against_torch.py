"""The paper's networks against PyTorch's of the same weights: outputs, all gradients, running statistics, names."""

import numpy as np
import pytest
from tolerance import assert_close, rounding, sums

from minidl.interchange import from_torch_state, layer_names, to_torch_state
from minidl.layers.dropout import Dropout
from minidl.models import MODELS
from minidl.norm import norm_factory

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import torch_networks  # noqa: E402

CLASSES, IMAGES = 7, 5
TRIALS = 3  # thousands of numbers are moved in each
SIZES = {"nin": (12, 16), "vgg13": (4, 32), "resnet20": (4, 15), "resnet56": (4, 9), "resnet18": (4, 33)}
EACH_MODEL = pytest.mark.parametrize("model", SIZES)
EACH_NORM = pytest.mark.parametrize("norm", ["bn", "mn"])


def network(model, norm, dtype="float64"):
    """Return a network without dropout, no parameter and no statistic of which is 0 or 1."""
    rng = np.random.default_rng(3)
    width, _ = SIZES[model]
    net = MODELS[model](CLASSES, norm=norm_factory(norm, dtype=dtype), rng=rng, dtype=dtype, width=width)
    for _, layer in net.named_layers():
        if isinstance(layer, Dropout):
            layer.p = 0.0
    state = net.state()
    for name, value in state.items():
        gate = ".gate." in name
        if gate or value.ndim < 4:  # convolutions are drawn already
            state[name] = (
                value + rng.uniform(-0.3, 0.3, value.shape) if gate else value + rng.uniform(0.1, 0.4, value.shape)
            )
    net.load_state(state)
    return net


def images(model):
    size = SIZES[model][1]
    rng = np.random.default_rng(5)
    return rng.normal(size=(IMAGES, 3, size, size)) + rng.normal(size=(IMAGES, 3, 1, 1))  # gates see the means


def theirs(net, model, norm):
    module = torch_networks.build(model, CLASSES, SIZES[model][0], norm).double()
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    state = {name: torch.from_numpy(np.asarray(value)) for name, value in to_torch_state(net).items()}
    module.load_state_dict(state)  # strict: no name is missing, none is unexpected
    return module


def pass_of(net, x, dy):
    """Return y and every gradient, by PyTorch's names."""
    names = layer_names(net)
    net.zero_grad()
    y = net(x.astype(next(iter(net.state().values())).dtype))
    net.backward(dy.astype(y.dtype))
    grads = {f"{names[path]}.{name}": g for path, layer in net.named_layers() for name, g in layer.grads.items()}
    return {"y": y} | grads


def network_rounding(model, norm, x, dy):
    """Return how far rounding may move y, each gradient and each running statistic, by PyTorch's names.

    A sum over the pixels of all images errs by its additions too, which moves of its terms do not show.
    """
    net = network(model, norm)

    def both(x, dy, **state):
        net.load_state(state)
        found = pass_of(net, x, dy)
        return found | {name: value for name, value in to_torch_state(net).items() if "running" in name}

    state = net.state()
    moves = rounding(both, {"x": x, "dy": dy} | state, TRIALS)
    found, at = both(x, dy, **state), to_torch_state(net)
    sizes = {name: np.abs(value).max() for name, value in found.items()}
    for name in found:
        if (
            ".gate." in name
        ):  # a difference of the modes' shares of dweight · weight and dbias · bias, over the channels
            of = name.split(".gate.")[0]
            share = sum(np.abs(found[f"{of}.{k}"] * at[f"{of}.{k}"]).sum() for k in ("weight", "bias"))
            means = np.sqrt(np.abs(at[f"{of}.running_mean_square"]).max()) if name.endswith("weight") else 0.0
            sizes[name] = share * max(1.0, means)
    return {name: moves[name] + sums(2 * x[:, 0].size, size) for name, size in sizes.items()}


def inference_rounding(net, x):
    """Return how far rounding may move y in inference."""
    state = net.state()

    def forward(x, **moved):
        net.load_state(moved)
        return net(x)

    allowed = rounding(forward, {"x": x} | state, TRIALS)["y"]
    net.load_state(state)
    return allowed


@EACH_NORM
@EACH_MODEL
def test_outputs_gradients_and_statistics_are_those_of_pytorch(model, norm):
    net = network(model, norm)
    module, x = theirs(net, model, norm), images(model)
    dy = np.random.default_rng(6).normal(size=(IMAGES, CLASSES))
    ty = module(torch.from_numpy(x))
    ty.backward(torch.from_numpy(dy))
    got = pass_of(net, x, dy)
    want = {"y": ty.detach()} | {name: p.grad for name, p in module.named_parameters()}
    assert got.keys() == want.keys()
    scales = {name: float(value.abs().max()) for name, value in want.items()}
    allowed = network_rounding(model, norm, x, dy)
    for name, value in want.items():
        assert scales[name] > 1e3 * allowed[name], f"{name}: a vacuous gradient"
        assert_close(got[name], value.numpy(), allowed[name], name)
    after = module.state_dict()
    for name, value in to_torch_state(net).items():
        if "running" in name:
            assert_close(value, after[name].numpy(), allowed[name], name)
    net.eval()
    module.eval()
    want_y = module(torch.from_numpy(x)).detach().numpy()
    assert_close(net(x), want_y, inference_rounding(net, x), "y in inference")


@EACH_NORM
@EACH_MODEL
def test_single_precision_is_as_far_from_pytorch_as_its_rounding_explains(model, norm):
    """The tolerance of each array: how far float64 results move when parameters and x move by float32's rounding.

    A sum of s rounded terms is off by about sqrt(s) of such moves; s is some hundreds to thousands here.
    """
    x, dy = images(model), np.random.default_rng(6).normal(size=(IMAGES, CLASSES))
    x, dy = x.astype("float32").astype("float64"), dy.astype("float32").astype("float64")
    single = network(model, norm, "float32")
    exact = network(model, norm)
    exact.load_state(single.state())
    start = exact.state()
    module = theirs(exact, model, norm)
    ty = module(torch.from_numpy(x))
    ty.backward(torch.from_numpy(dy))
    want = {"y": ty.detach().numpy()} | {name: p.grad.numpy() for name, p in module.named_parameters()}
    rng, eps = np.random.default_rng(8), np.finfo("float32").eps
    moves = {name: eps * float(np.linalg.norm(value)) for name, value in want.items()}  # the rounding of the result
    for _ in range(3):
        exact.load_state({name: v * (1 + eps * rng.choice([-1, 1], v.shape)) for name, v in start.items()})
        moved = pass_of(exact, x * (1 + eps * rng.choice([-1, 1], x.shape)), dy)
        moves = {name: max(moves[name], float(np.linalg.norm(moved[name] - want[name]))) for name in want}
    for name, got in pass_of(single, x, dy).items():
        assert got.dtype == np.float32
        off = float(np.linalg.norm(got - want[name]))
        assert off <= 30 * moves[name], f"{name}: off by {off / moves[name]:.3g} times what rounding moves it by"


@EACH_NORM
@EACH_MODEL
def test_states_of_pytorch_load_and_give_the_same_outputs(model, norm):
    module = theirs(network(model, norm), model, norm)
    width = SIZES[model][0]
    net = MODELS[model](CLASSES, norm=norm_factory(norm, dtype="float64"), dtype="float64", width=width)
    from_torch_state(net, module.state_dict())
    x = images(model)
    want = module.eval()(torch.from_numpy(x)).detach().numpy()
    assert_close(net.eval()(x), want, inference_rounding(net, x), "y")
