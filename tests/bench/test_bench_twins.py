"""PyTorch's side computes the very functions and gradients that minidl's does: the comparison is of the same thing."""

import numpy as np
import pytest
from tolerance import assert_close, sums, terms

from minidl import AvgPool2d, Conv2d, GlobalAvgPool2d, Layer, Residual, Sequential, SoftmaxCrossEntropy
from minidl.bench.cases import NORMS
from minidl.bench.record import Norm
from minidl.models import MODELS
from minidl.norm import norm_factory

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch_rounding import torch_rounding  # noqa: E402

from minidl.bench import torch_side  # noqa: E402

IMAGES, CLASSES = 5, 7


@pytest.fixture(autouse=True)
def one_thread():
    """Let PyTorch compute on one thread: arrays this small do not repay a second."""
    with torch_side.threads(1):
        yield


def network(model, norm):
    """Return a float64 network whose parameters and statistics are nowhere at their initial zeros and ones."""
    rng = np.random.default_rng(3)
    width = {} if model.startswith("lenet") else {"width": 12 if model == "nin" else 4}
    factory = norm_factory(norm.name, modes=norm.modes or 1, dtype="float64")
    net = MODELS[model](CLASSES, norm=factory, rng=rng, **width)
    for _, layer in net.named_layers():
        layer.p = 0.0  # of dropout, whose masks are each library's own
    most = {"lenet": 0.3, "lenet1989": 0.05}.get(model, 0.02)  # tanh should not saturate, nor means outgrow the rest
    state = {
        name: value.astype("float64") + rng.uniform(0.01, most, value.shape) for name, value in net.state().items()
    }
    for _, layer in net.named_layers():
        for arrays in (layer.params, layer.grads):
            arrays.update({name: array.astype("float64") for name, array in arrays.items()})
    net.load_state(state)
    return net


def statistics(module):
    """Return the running statistics, without the count of batches."""
    return {name: value for name, value in module.named_buffers() if value.is_floating_point()}


def pass_of(module, x, dy):
    """Return y, every gradient and the running statistics of a pass of PyTorch."""
    module.zero_grad()
    y = module(torch.from_numpy(np.ascontiguousarray(x)))
    y.backward(torch.from_numpy(dy))
    arrays = {"y": y.detach()} | {f"d {name}": param.grad for name, param in module.named_parameters()}
    return {name: array.numpy().copy() for name, array in (arrays | statistics(module)).items()}


def module_rounding(module, x, dy):
    """Return how far rounding may move the results of `pass_of`: module's sums over pixels err in any order besides."""
    state = {name: value.numpy().copy() for name, value in module.state_dict().items()}

    def both(x, dy, **moved):
        module.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in moved.items()})
        return pass_of(module, x, dy)

    moves = torch_rounding(both, {"x": x, "dy": dy} | state)
    found = both(x, dy, **state)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return {name: moves[name] + sums(2 * x[:, 0].size, np.abs(value).max()) for name, value in found.items()}


def agree(net, module, x):
    """Compare y, the gradients and the state of both after a training pass with a random cotangent."""
    got = {"y": net.forward(x)}
    dy = np.random.default_rng(4).standard_normal(got["y"].shape)
    allowed, want = module_rounding(module, x, dy), pass_of(module, x, dy)
    net.backward(dy)
    got |= {f"d {path}.{name}": g for path, one in net.named_layers() for name, g in one.grads.items()}
    assert {name for name in want if name.startswith("d ")} == {name for name in got if name.startswith("d ")}
    got |= {name: value for name, value in net.state().items() if name in statistics(module)}
    for name, value in got.items():
        assert np.abs(want[name]).max() > 1e3 * allowed[name], f"{name}: a vacuous value"
        assert_close(value, want[name], allowed[name], name)


@pytest.mark.parametrize("pool_first", [False, True])
@pytest.mark.parametrize("norm", [*NORMS, "mgn5"])
def test_lenet_in_pytorch_is_lenet_in_minidl_for_every_norm(norm, pool_first):
    net = network("lenet", Norm.parse(norm))
    agree(net, torch_side.twin(net, pool_first), np.random.default_rng(5).standard_normal((IMAGES, 3, 32, 32)))


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_network_has_a_twin_in_pytorch(model):
    net = network(model, Norm.parse("bn"))
    agree(net, torch_side.twin(net), np.random.default_rng(5).standard_normal((IMAGES, 3, 32, 32)))


def test_residual_networks_and_other_poolings_have_twins():
    rng = np.random.default_rng(6)
    make = {"rng": rng, "dtype": "float64"}
    first = Conv2d(3, 4, (3, 5), stride=(1, 2), padding=(1, 2), **make)
    plain = Residual(Sequential(Conv2d(4, 4, 3, padding=1, bias=False, **make)))
    shortened = Residual(Sequential(Conv2d(4, 5, 1, **make)), Sequential(Conv2d(4, 5, 1, **make)))
    net = Sequential(first, plain, AvgPool2d(3, 2, 1), shortened, GlobalAvgPool2d())
    agree(net, torch_side.twin(net), rng.standard_normal((IMAGES, 3, 7, 11)))


def test_pytorch_applies_relu_before_pooling_unless_told_to_pool_first():
    net = network("lenet", Norm.parse("bn"))
    natural, pooled = ([type(one).__name__ for one in torch_side.twin(net, first)] for first in (False, True))
    assert natural[:4] == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    assert pooled[:4] == ["Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU"]


@pytest.mark.parametrize("norm", ["mn2", "bn"])
def test_inference_agrees_too(norm):
    net = network("lenet", Norm.parse(norm))
    module = torch_side.twin(net).eval()
    x = np.random.default_rng(5).standard_normal((IMAGES, 3, 32, 32))
    y = net.eval().forward(x)
    dy = np.ones(y.shape)
    assert_close(y, pass_of(module, x, dy)["y"], module_rounding(module, x, dy)["y"], "y")


def test_the_steps_of_both_sides_move_the_parameters_alike(monkeypatch):
    """One timed step is a whole step: gradients, momentum, update."""
    from minidl.bench import minidl_side

    monkeypatch.setattr(minidl_side, "LR", 1e-3)
    monkeypatch.setattr(torch_side, "LR", 1e-3)
    net = network("lenet", Norm.parse("mn2"))
    module = torch_side.twin(net)
    monkeypatch.setattr(torch_side, "twin", lambda net, pool_first: module)
    before = net.state()
    rng = np.random.default_rng(7)
    x, labels = rng.standard_normal((IMAGES, 3, 32, 32)), rng.integers(0, CLASSES, IMAGES)

    def after_three(side, **state):
        net.load_state(state)
        module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()}, strict=False)
        work = side.step(net, x, labels, 1)
        for _ in range(3):
            work.parts["step"]()
        arrays = {name: value.numpy().copy() for name, value in module.state_dict().items() if name in before}
        return arrays if side is torch_side else net.state()

    allowed = torch_rounding(lambda **state: after_three(torch_side, **state), before)
    want, got = (after_three(side, **before) for side in (torch_side, minidl_side))
    for name, value in got.items():
        assert np.abs(value - before[name]).max() > 1e3 * allowed[name], f"{name}: it hardly moves"
        assert_close(value, want[name], allowed[name], name)


def test_the_losses_agree():
    rng = np.random.default_rng(8)
    logits, labels = rng.standard_normal((IMAGES, CLASSES)), rng.integers(0, CLASSES, IMAGES)
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    size = 2 * np.abs(logits).max()
    assert_close(
        SoftmaxCrossEntropy().forward(logits, labels), expected.numpy(), terms(2 * (IMAGES + CLASSES + 8), size)
    )


def test_a_layer_without_a_twin_is_named():
    class Odd(Layer):
        pass

    with pytest.raises(ValueError, match=r"^twin: Odd has no twin in PyTorch; add it to TWINS"):
        torch_side.twin(Sequential(Odd()))
