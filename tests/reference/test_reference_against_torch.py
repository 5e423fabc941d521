"""minidl.reference against PyTorch: its own layers, and Algorithms 1 to 3 written down again for its autograd."""

import numpy as np
import pytest
from reference_cases import CASES
from tolerance import assert_close, sums

from minidl.reference import batch_norm_running, max_pool2d_backward

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional


def mode_norm(x, weight, bias, gate_weight, gate_bias, eps, running=None):
    m = x.reshape(*x.shape[:2], -1).mean(2)
    v = x.reshape(*x.shape[:2], -1)
    g = torch.softmax(m @ gate_weight.T + gate_bias, dim=1)
    y = 0
    for k in range(len(gate_bias)):
        g_k = g[:, k, None, None]
        N_k = g_k.sum()
        if running is None:
            mu = (g_k * v).mean(2, keepdim=True).sum(0) / N_k
            var = (g_k * (v - mu) ** 2).mean(2, keepdim=True).sum(0) / N_k
        else:
            mu, var = running[0][k][:, None], (running[1][k] - running[0][k] ** 2)[:, None]
        alpha, beta = (p[k] if p.ndim == 2 else p for p in (weight, bias))
        y = y + g_k * (alpha[:, None] * (v - mu) / torch.sqrt(var + eps) + beta[:, None])
    return y.reshape(x.shape)


def mode_norm_eval(x, weight, bias, gate_weight, gate_bias, running_mean, running_mean_square, eps):
    return mode_norm(x, weight, bias, gate_weight, gate_bias, eps, (running_mean, running_mean_square))


def mode_group_norm(x, weight, bias, gate_weight, gate_bias, eps, moments="spatial"):
    v = x.reshape(*x.shape[:2], -1)
    m = v.mean(2)
    g = torch.softmax(m[:, :, None] * gate_weight[:, 0] + gate_bias, dim=2)
    y = 0
    for k in range(len(gate_bias)):
        C_k = g[:, :, k].sum(1)
        mu = (g[:, :, k] * m).sum(1) / C_k
        seen = m[:, :, None] if moments == "pooled" else v
        var = (g[:, :, k] * (seen - mu[:, None, None]).square().mean(2)).sum(1) / C_k
        y = y + (v - mu[:, None, None]) / torch.sqrt(var + eps)[:, None, None]
    return (weight[:, None] / len(gate_bias) * y + bias[:, None]).reshape(x.shape)


def gates(x, gate_weight, gate_bias):
    return torch.softmax(x.mean(2) @ gate_weight.T + gate_bias, dim=1)


def channel_gates(x, gate_weight, gate_bias):
    return torch.softmax(x.mean(2)[:, :, None] * gate_weight[:, 0] + gate_bias, dim=2)


def layer_norm(x, weight, bias, eps):
    return F.group_norm(x, 1, weight, bias, eps)


TORCH = {
    "batch_norm": lambda x, weight, bias, eps: F.batch_norm(x, None, None, weight, bias, training=True, eps=eps),
    "batch_norm_eval": lambda x, weight, bias, running_mean, running_var, eps: F.batch_norm(
        x, running_mean, running_var, weight, bias, training=False, eps=eps
    ),
    "instance_norm": lambda x, weight, bias, eps: F.instance_norm(x, weight=weight, bias=bias, eps=eps),
    "layer_norm": layer_norm,
    "group_norm": lambda x, num_groups, weight, bias, eps: F.group_norm(x, num_groups, weight, bias, eps),
    "gates": gates,
    "channel_gates": channel_gates,
    "mode_norm": mode_norm,
    "mode_norm_eval": mode_norm_eval,
    "mode_group_norm": mode_group_norm,
    "conv2d": F.conv2d,
    "max_pool2d": lambda x, **arguments: F.max_pool2d(x, **arguments),
    "avg_pool2d": lambda x, **arguments: F.avg_pool2d(x, **arguments),
    "linear": F.linear,
    "softmax_cross_entropy": lambda logits, labels: F.cross_entropy(logits, labels),
}


@pytest.mark.parametrize("name", CASES)
def test_forward_and_backward_agree_with_pytorch(name):
    case = CASES[name]
    inputs = {k: torch.tensor(v, requires_grad=True) for k, v in case.inputs.items()}
    constants = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in case.constants.items()}
    y = TORCH[case.forward.__name__](**inputs, **constants)
    dy = case.cotangent()
    allowed = case.tolerances(dy)
    assert_close(case.y(**case.inputs), y.detach().numpy(), allowed["y"], "y")
    y.backward(torch.tensor(dy))
    for k, gradient in case.gradients(dy).items():
        want = inputs[k.removeprefix("d")].grad.numpy()
        assert_close(gradient, want, allowed[k], k)


def test_a_tie_in_max_pool2d_goes_where_pytorch_sends_it():
    x = np.random.default_rng(1).integers(0, 3, size=(2, 3, 5, 7)).astype(float)
    t = torch.tensor(x, requires_grad=True)
    y = F.max_pool2d(t, (3, 4), (2, 1), (1, 2))
    dy = np.random.default_rng(2).normal(size=y.shape)
    y.backward(torch.tensor(dy))
    got = max_pool2d_backward(dy, x, (3, 4), (2, 1), (1, 2))["dx"]
    assert_close(got, t.grad.numpy(), sums(2 * 12, 12 * np.abs(dy).max()))  # at most 12 windows hold a pixel


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5, 7)])
def test_batch_norm_running_agrees_with_pytorch(shape):
    x = np.random.default_rng(1).normal(3, 2, size=shape)
    layer = (
        torch.nn.BatchNorm1d(4, momentum=0.3).double()
        if len(shape) == 2
        else torch.nn.BatchNorm2d(4, momentum=0.3).double()
    )
    mean, var = np.zeros(4), np.ones(4)
    for scale in (1, 2):
        layer(torch.tensor(scale * x))
        mean, var = batch_norm_running(scale * x, mean, var, momentum=0.3)
    largest = 2 * np.abs(x).max()
    assert_close(mean, layer.running_mean.numpy(), sums(2 * (x.size // 4 + 4), largest))
    assert_close(var, layer.running_var.numpy(), sums(2 * (x.size // 4 + 8), largest**2))
