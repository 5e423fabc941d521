"""The layers against PyTorch, where it is installed: its own layers, and MN and MGN through its autograd."""

import numpy as np
import pytest
from layer_runs import draw, gate_rounding, layer_rounding, parameters, run
from tolerance import assert_close, rounding, sums, terms

import minidl
from minidl import (
    SGD,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LeNet,
    Linear,
    MaxPool2d,
    ModeGroupNorm,
    ModeNorm,
    SoftmaxCrossEntropy,
    norm_factory,
)

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn, F = torch.nn, torch.nn.functional

EPS = 0.01


def filled(layer, seed=20):
    """Draw every parameter of a layer, none of them 0 or 1."""
    for i, (path, p) in enumerate(parameters(layer).items()):
        p[...] = draw(seed + i, *p.shape, mean=0.0 if "gate" in path else 0.7, std=0.6)
    return layer


def tensor(array, grad=False):
    return torch.tensor(np.ascontiguousarray(array), requires_grad=grad)


def state_for_torch(layer):
    return {name: torch.tensor(value) for name, value in layer.state().items()}


def assert_agrees(layer, theirs, x):
    """Compare y and every gradient of a layer with those of a function of x and the parameters by name."""
    leaves = {path.replace(".", "_"): tensor(p, True) for path, p in parameters(layer).items()}
    tx = tensor(x, True)
    ty = theirs(tx, **leaves)
    dy = draw(2, *ty.shape, mean=0.0)
    ty.backward(tensor(dy))
    y, grads = run(layer, x, dy)
    want = {"y": ty.detach(), "dx": tx.grad} | {f"d{name}": leaf.grad for name, leaf in leaves.items()}
    allowed = layer_rounding(layer, x, dy)
    least = gate_rounding(layer, x, y, dy) if "gate.weight" in layer.params else {}  # a single gate cancels
    for name, got in ({"y": y} | grads).items():
        assert_close(got, want[name].numpy(), max(allowed[name], least.get(name, 0.0)), name)


@pytest.mark.parametrize("out", [4, 11])
@pytest.mark.parametrize("stride", [1, 2, (3, 2)])
@pytest.mark.parametrize("padding", [0, 1, (2, 1)])
@pytest.mark.parametrize("kernel", [1, 3, (2, 5)])
def test_conv2d(kernel, padding, stride, out):
    layer = filled(Conv2d(3, out, kernel, stride, padding, dtype="float64"))
    assert_agrees(layer, lambda x, **p: F.conv2d(x, **p, stride=stride, padding=padding), draw(1, 4, 3, 7, 8))


def test_conv2d_without_bias():
    layer = filled(Conv2d(3, 5, 3, bias=False, dtype="float64"))
    assert_agrees(layer, lambda x, weight: F.conv2d(x, weight), draw(1, 4, 3, 7, 5))


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias):
    layer = filled(Linear(5, 4, bias=bias, dtype="float64"))
    assert_agrees(layer, F.linear, draw(1, 7, 5))


POOLS = [(2, None, 0), (3, 2, 1), ((2, 3), (1, 2), (1, 0)), ((3, 2), (2, 3), (1, 1)), (2, 3, 0), (5, 1, 2)]


@pytest.mark.parametrize(("kernel", "stride", "padding"), POOLS)
@pytest.mark.parametrize("values", [2, 5, 1000])
def test_max_pool2d_with_ties(kernel, stride, padding, values):
    x = np.random.default_rng(1).integers(-values, values, (3, 4, 9, 7)).astype(float)
    assert_agrees(MaxPool2d(kernel, stride, padding), lambda x: F.max_pool2d(x, kernel, stride, padding), x)


@pytest.mark.parametrize(("kernel", "stride", "padding"), POOLS)
def test_max_pool2d_sends_the_gradient_of_nan_to_the_same_nan(kernel, stride, padding):
    x = draw(2, 3, 4, 9, 7)
    x[np.random.default_rng(1).random(x.shape) < 0.3] = np.nan
    layer, image = MaxPool2d(kernel, stride, padding), torch.tensor(x, requires_grad=True)
    y = F.max_pool2d(image, kernel, stride, padding)
    np.testing.assert_array_equal(layer(x), y.detach().numpy())
    dy = np.random.default_rng(3).integers(-9, 9, y.shape).astype(float)  # every sum of them is exact
    y.backward(torch.tensor(dy))
    np.testing.assert_array_equal(layer.backward(dy), image.grad.numpy())


@pytest.mark.parametrize(("kernel", "stride", "padding"), POOLS)
def test_avg_pool2d(kernel, stride, padding):
    layer = AvgPool2d(kernel, stride, padding)
    assert_agrees(layer, lambda x: F.avg_pool2d(x, kernel, stride, padding), draw(1, 3, 4, 9, 7))


def test_the_small_layers():
    x = draw(1, 3, 4, 5, 7)
    assert_agrees(minidl.ReLU(), F.relu, x)
    assert_agrees(minidl.GlobalAvgPool2d(), lambda x: x.mean(dim=(2, 3)), x)
    assert_agrees(minidl.Flatten(), lambda x: x.flatten(1), x)
    assert_agrees(minidl.Dropout(0.3).eval(), lambda x: F.dropout(x, 0.3, training=False), x)


# -- the classic norms -------------------------------------------------------------------------------------------------

SHAPES = pytest.mark.parametrize("shape", [(7, 4), (5, 4, 3), (3, 4, 5, 7)])


@SHAPES
def test_batch_norm_through_training_and_inference(shape):
    layer = filled(BatchNorm(4, EPS, momentum=0.3, dtype="float64"))
    module = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](4, EPS, momentum=0.3).double()
    module.load_state_dict(state_for_torch(layer), strict=False)  # it counts its batches besides
    for step in range(3):
        x, dy = draw(step, *shape, mean=step - 0.5), draw(9 + step, *shape, mean=0.0)
        assert_same_step(layer, module, x, dy)
    layer.eval()
    module.eval()
    assert_same_step(layer, module, draw(5, *shape), draw(6, *shape, mean=0.0))
    theirs = module.state_dict()
    for name, value in layer.state().items():
        most = max(1.0, np.abs(value).max())  # of three batches of at most 105 values, no larger than 10
        assert_close(value, theirs[name].numpy(), sums(2 * 3 * 110, 100 * most if "running" in name else most), name)
    again = BatchNorm(4, EPS, dtype="float64").eval()
    again.load_state({name: value for name, value in theirs.items() if name != "num_batches_tracked"})
    x = draw(7, *shape)
    allowed = layer_rounding(again, x, np.ones(shape))["y"]
    assert_close(again(x), module(tensor(x)).detach().numpy(), allowed, "y")


def assert_same_step(layer, module, x, dy):
    module.zero_grad()
    tx = tensor(x, True)
    ty = module(tx)
    ty.backward(tensor(dy))
    y, grads = run(layer, x, dy)
    allowed = layer_rounding(layer, x, dy)
    assert_close(y, ty.detach().numpy(), allowed["y"], "y")
    assert_close(grads["dx"], tx.grad.numpy(), allowed["dx"], "dx")
    for name, p in module.named_parameters():
        assert_close(grads[f"d{name}"], p.grad.numpy(), allowed[f"d{name}"], name)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@SHAPES
def test_layer_norm_and_group_norm(shape, training):
    layer = filled(LayerNorm(4, EPS, "float64")).train(training)
    assert_agrees(layer, lambda x, **p: F.group_norm(x, 1, **p, eps=EPS), draw(1, *shape))
    layer = filled(GroupNorm(2, 4, EPS, "float64")).train(training)
    assert_agrees(layer, lambda x, **p: F.group_norm(x, 2, **p, eps=EPS), draw(1, *shape))


def test_layer_norm_without_pixels_is_the_one_of_pytorch():
    layer = filled(LayerNorm(4, EPS, "float64"))
    assert_agrees(layer, lambda x, **p: F.layer_norm(x, (4,), **p, eps=EPS), draw(1, 7, 4))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", [(5, 4, 3), (3, 4, 5, 7)])
def test_instance_norm(shape, training):
    layer = filled(InstanceNorm(4, EPS, "float64")).train(training)
    assert_agrees(layer, lambda x, **p: F.instance_norm(x, **p, eps=EPS), draw(1, *shape))


# -- MN and MGN, written down from the paper ---------------------------------------------------------------------------


def mode_norm(x, weight, bias, gate_weight, gate_bias, running=None):
    """Algorithm 1, or 2 with running = (<x>, <x²>)."""
    v = x.reshape(*x.shape[:2], -1)
    g = torch.softmax(v.mean(2) @ gate_weight.T + gate_bias, dim=1)
    y = 0
    for k in range(len(gate_bias)):
        g_k = g[:, k, None, None]
        if running is None:
            mu = (g_k * v).mean(2, keepdim=True).sum(0) / g_k.sum()
            var = (g_k * (v - mu) ** 2).mean(2, keepdim=True).sum(0) / g_k.sum()
        else:
            mu, var = running[0][k, :, None], (running[1] - running[0] ** 2)[k, :, None]
        alpha, beta = (p[k] if p.ndim == 2 else p for p in (weight, bias))
        y = y + g_k * (alpha[:, None] * (v - mu) / torch.sqrt(var + EPS) + beta[:, None])
    return y.reshape(x.shape)


def mode_group_norm(x, weight, bias, gate_weight, gate_bias, moments="spatial"):
    """Algorithm 3."""
    v = x.reshape(*x.shape[:2], -1)
    m = v.mean(2)
    g = torch.softmax(m[:, :, None] * gate_weight[:, 0] + gate_bias, dim=2)
    y = 0
    for k in range(len(gate_bias)):
        w = g[:, :, k] / g[:, :, k].sum(1, keepdim=True)
        mu = (w * m).sum(1)[:, None, None]
        seen = v if moments == "spatial" else m[:, :, None]
        var = (w * ((seen - mu) ** 2).mean(2)).sum(1)[:, None, None]
        y = y + (v - mu) / torch.sqrt(var + EPS)
    return (weight[:, None] / len(gate_bias) * y + bias[:, None]).reshape(x.shape)


@SHAPES
@pytest.mark.parametrize("modes", [1, 2, 6])
@pytest.mark.parametrize("per_mode", [False, True], ids=["shared", "one pair per mode"])
def test_mode_norm_in_training_and_inference(shape, modes, per_mode):
    layer = filled(ModeNorm(4, modes, EPS, 0.3, per_mode, dtype="float64"))
    x = draw(1, *shape)
    assert_agrees(layer, mode_norm, x)
    layer(draw(3, *shape, mean=-1.0))
    running = [tensor(layer.buffers[name]) for name in ("running_mean", "running_mean_square")]
    assert_agrees(layer.eval(), lambda x, **p: mode_norm(x, **p, running=running), x)


@SHAPES
@pytest.mark.parametrize("modes", [1, 2, 6])
@pytest.mark.parametrize("moments", ["spatial", "pooled"])
def test_mode_group_norm(shape, modes, moments):
    layer = filled(ModeGroupNorm(4, modes, EPS, moments, dtype="float64"))
    assert_agrees(layer, lambda x, **p: mode_group_norm(x, **p, moments=moments), draw(1, *shape))


# -- losses, whole networks --------------------------------------------------------------------------------------------


def test_softmax_cross_entropy():
    logits, labels = draw(1, 7, 5, std=4.0), np.array([3, 0, 4, 4, 1, 2, 0])
    loss = SoftmaxCrossEntropy()
    t = tensor(logits, True)
    theirs = F.cross_entropy(t, torch.tensor(labels))
    theirs.backward()
    size = np.abs(logits).max()
    assert_close(loss.forward(logits, labels), theirs.item(), terms(2 * (7 + 5 + 8), 2 * size))
    assert_close(loss.backward(), t.grad.numpy(), terms(2 * (5 + 8), 2 * size / 7))


def torch_lenet():
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 5, bias=False), nn.BatchNorm2d(6), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(6, 16, 5, bias=False), nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 7)),
    ).double()


@pytest.mark.parametrize("nesterov", [False, True])
def test_lenet_with_batch_norm_after_three_steps_of_sgd(nesterov):
    rng = np.random.default_rng(5)
    net = LeNet(7, norm=norm_factory("bn", dtype="float64"), rng=rng, dtype="float64")
    theirs = torch_lenet()
    missing, unexpected = theirs.load_state_dict(state_for_torch(net), strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": nesterov}
    images, last = rng.normal(size=(3, 9, 3, 32, 32)), rng.normal(size=(4, 3, 32, 32))
    each, start = rng.integers(0, 7, (3, 9)), net.state()

    def ours(images, last, **state):
        net.load_state(state)
        optimiser, loss, losses = SGD(net.train(), **settings), SoftmaxCrossEntropy(), []
        for x, labels in zip(images, each, strict=True):
            optimiser.zero_grad()
            losses.append(loss.forward(net(x), labels))
            net.backward(loss.backward())
            optimiser.step()
        return {"losses": np.array(losses), "logits": net.eval()(last)} | net.state()

    other, losses = torch.optim.SGD(theirs.parameters(), **settings), []
    for x, labels in zip(images, each, strict=True):
        other.zero_grad()
        losses.append(F.cross_entropy(theirs(tensor(x)), torch.tensor(labels)))
        losses[-1].backward()
        other.step()
    state = theirs.state_dict()
    want = {name: value.numpy() for name, value in state.items() if name in start}
    want |= {"losses": torch.stack(losses).detach().numpy(), "logits": theirs.eval()(tensor(last)).detach().numpy()}
    inputs = {"images": images, "last": last} | start
    moves, got = rounding(ours, inputs, trials=4), ours(**inputs)
    assert got.keys() == want.keys()
    # a sum over the pixels of all images errs by its additions too, which moves of its terms do not show
    allowed = {name: moves[name] + sums(2 * images[0, :, 0].size, np.abs(value).max()) for name, value in got.items()}
    for name, value in got.items():
        assert_close(value, want[name], allowed[name], name)
    assert all(np.abs(want[name] - start[name]).max() > 1e3 * allowed[name] for name in start)  # something was learned
    back = LeNet(7, norm=norm_factory("bn", dtype="float64"), dtype="float64").eval()
    back.load_state({name: value for name, value in state.items() if not name.endswith("num_batches_tracked")})
    assert_close(back(last), got["logits"], allowed["logits"], "y")
