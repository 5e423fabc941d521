"""Every backward of minidl.reference is the derivative of its forward, and the check can tell when it is not."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from gradients import assert_gradients, central_differences, complex_step
from reference_cases import CASES, Case
from tolerance import assert_close

from minidl import reference
from minidl.reference import gating, standardize

EACH_CASE = pytest.mark.parametrize("name", CASES)


@cache
def numeric_gradients(name: str) -> dict[str, Any]:
    case = CASES[name]
    return complex_step(case.y, case.inputs, case.cotangent())


@cache
def tolerances(name: str) -> dict[str, float]:
    """Return what rounding may do to each gradient: the same to the complex step, which takes the same products."""
    return CASES[name].tolerances(CASES[name].cotangent())


def check(name: str) -> None:
    case, dy = CASES[name], CASES[name].cotangent()
    allowed = tolerances(name)
    assert_gradients(
        case.y, case.gradients(dy), case.inputs, dy, lambda *_: numeric_gradients(name), allowed, zero=case.zero
    )


@EACH_CASE
def test_backward_is_the_derivative_of_forward(name: str) -> None:
    check(name)


@pytest.mark.parametrize("name", ["batch_norm (N, C)", "mode_norm (N, C)", "max_pool2d"])
def test_backward_is_the_limit_of_central_differences(name: str) -> None:
    case = CASES[name]
    dy = case.cotangent()
    slopes, errors = central_differences(case.y, case.inputs, dy)
    assert all(
        errors[f"d{name}"] < 1e-6 * np.abs(slope).max() for name, slope in slopes.items() if name not in case.zero
    )
    assert_gradients(case.y, case.gradients(dy), case.inputs, dy, lambda *_: slopes, errors, case.zero)


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps == np.finfo(np.float64).eps, reason="longdouble is float64 on this machine"
)
@pytest.mark.parametrize(
    "name", ["batch_norm (N, C)", "layer_norm (N, C)", "mode_norm (N, C)", "mode_group_norm (N, C)"]
)
def test_backward_is_the_derivative_in_extended_precision(name: str) -> None:
    case = CASES[name]
    case = Case(
        case.forward, case.backward, {k: v.astype(np.longdouble) for k, v in case.inputs.items()}, case.constants
    )
    dy = case.cotangent().astype(np.longdouble)
    assert_gradients(case.y, case.gradients(dy), case.inputs, dy, complex_step, case.tolerances(dy))


@EACH_CASE
def test_backward_returns_one_gradient_an_input(name: str) -> None:
    case = CASES[name]
    assert set(case.gradients(case.cotangent())) == {"d" + name for name in case.inputs}


@EACH_CASE
def test_backward_is_linear_in_dy(name: str) -> None:
    case = CASES[name]
    a, b = case.cotangent(), np.random.default_rng(12).normal(size=np.shape(case.cotangent()))
    of_a, of_b, of_sum = case.gradients(a), case.gradients(b), case.gradients(3 * a - 2 * b)
    by_a, by_b, by_sum = case.tolerances(a), case.tolerances(b), case.tolerances(3 * a - 2 * b)
    for name, gradient in of_sum.items():
        allowed = 3 * by_a[name] + 2 * by_b[name] + by_sum[name]
        assert_close(gradient, 3 * of_a[name] - 2 * of_b[name], allowed, name)


# The terms of every backward, as they are written: (function, a case, the term, what stands there when it is dropped).
TERMS: list[tuple[Callable[..., Any], str, str, str]] = [
    (standardize.standardize_backward, "batch_norm", "dvhat / s + dvar", "dvar"),
    (standardize.standardize_backward, "batch_norm", " + dvar * 2 * (v - mu) / M", ""),
    (standardize.standardize_backward, "layer_norm", " + dmu / M", ""),
    (reference.batch_norm_backward, "batch_norm", "dy[:, c] * weight[c], x", "dy[:, c], x"),
    (reference.batch_norm_backward, "batch_norm", "dy[:, c] * standardize(x[:, c], eps)", "dy[:, c] * x[:, c]"),
    (reference.batch_norm_eval_backward, "batch_norm_eval", "x[:, c] - running_mean[c]", "x[:, c]"),
    (reference.batch_norm_eval_backward, "batch_norm_eval", " / s\n    return", "\n    return"),
    (reference.batch_norm_eval_backward, "batch_norm_eval", "* weight[c] / s", "/ s"),
    (reference.instance_norm_backward, "instance_norm", "dweight[c] +=", "dweight[c] ="),
    (reference.instance_norm_backward, "instance_norm", "dbias[c] +=", "dbias[c] ="),
    (reference.instance_norm_backward, "instance_norm", "dy[n, c] * weight[c]", "dy[n, c]"),
    (reference.layer_norm_backward, "layer_norm", "dweight +=", "dweight ="),
    (reference.layer_norm_backward, "layer_norm", "dbias +=", "dbias ="),
    (reference.layer_norm_backward, "layer_norm", " * weight[:, None]", ""),
    (reference.group_norm_backward, "group_norm", " * weight[group, None]", ""),
    (reference.group_norm_backward, "group_norm", "dweight[group] +=", "dweight[group] ="),
    (reference.group_norm_backward, "group_norm", "dbias[group] +=", "dbias[group] ="),
    (gating.log_softmax_backward, "gates", " - g * dlog_g.sum(axis=axis, keepdims=True)", ""),
    (gating.log_gates_backward, "gates", " / P", ""),
    (gating.log_gates_backward, "gates", "+= dz[n, k] * m", "+= dz[n, k]"),
    (gating.log_gates_backward, "gates", "dgate_bias[k] +=", "dgate_bias[k] ="),
    (gating.log_channel_gates_backward, "channel_gates", " / P", ""),
    (gating.log_channel_gates_backward, "channel_gates", "+= dz[n, c, k] * m", "+= dz[n, c, k]"),
    (gating.log_channel_gates_backward, "channel_gates", "dgate_bias[k] +=", "dgate_bias[k] ="),
    (reference.mode_norm_backward, "mode_norm", "dalpha[k] += g[n, k] * ", "dalpha[k] += "),
    (reference.mode_norm_backward, "mode_norm, an affine pair per mode", "dbeta[k] += g[n, k] * ", "dbeta[k] += "),
    (reference.mode_norm_backward, "mode_norm, an affine pair per mode", " + beta[k][:, None]", ""),
    (reference.mode_norm_backward, "mode_norm", "alpha[k][:, None] * xhat", "xhat"),
    (reference.mode_norm_backward, "mode_norm", "g[n, k] * dy[n] * alpha", "dy[n] * alpha"),
    (reference.mode_norm_backward, "mode_norm", "dy[n] * alpha[k][:, None]", "dy[n]"),
    (reference.mode_norm_backward, "mode_norm", "dx[n] += dxhat / s_k[:, None]", "pass"),
    (reference.mode_norm_backward, "mode_norm", "dmu_k[:, None] + dvar_k", "dvar_k"),
    (reference.mode_norm_backward, "mode_norm", " + dvar_k[:, None] * 2 * centred", ""),
    (reference.mode_norm_backward, "mode_norm", "dx[n] += w[n, k] * ", "dx[n] += g[n, k] / N * "),
    (reference.mode_norm_backward, "mode_norm", "dmu_k * centred.mean(axis=-1) + ", ""),
    (reference.mode_norm_backward, "mode_norm", " + dvar_k * (centred**2).mean(axis=-1)", ""),
    (reference.mode_norm_backward, "mode_norm", "g * dg + ", ""),
    (reference.mode_norm_backward, "mode_norm", " + log_softmax_backward(w * dw, w, axis=0)", ""),
    (reference.mode_norm_backward, "mode_norm", "log_softmax_backward(w * dw, w, axis=0)", "w * dw"),
    (reference.mode_norm_backward, "mode_norm", 'grads["dx"] + dx', "dx"),
    (reference.mode_norm_backward, "mode_norm", 'grads["dx"] + dx', 'grads["dx"]'),
    (reference.mode_norm_eval_backward, "mode_norm_eval", "dalpha[k] += g[n, k] * ", "dalpha[k] += "),
    (reference.mode_norm_eval_backward, "mode_norm_eval", "dbeta[k] += g[n, k] * ", "dbeta[k] += "),
    (reference.mode_norm_eval_backward, "mode_norm_eval", "dx[n] += g[n, k] * ", "dx[n] += "),
    (reference.mode_norm_eval_backward, "mode_norm_eval", "alpha[k][:, None] * xhat", "xhat"),
    (reference.mode_norm_eval_backward, "mode_norm_eval, an affine pair per mode", " + beta[k][:, None]", ""),
    (reference.mode_norm_eval_backward, "mode_norm_eval", 'grads["dx"] + dx', "dx"),
    (reference.mode_norm_eval_backward, "mode_norm_eval", 'grads["dx"] + dx', 'grads["dx"]'),
    (reference.mode_group_norm_backward, "mode_group_norm", " / s / K", " / s"),
    (reference.mode_group_norm_backward, "mode_group_norm", "* weight[:, None] / K", "* weight[:, None]"),
    (reference.mode_group_norm_backward, "mode_group_norm", "dy[n] * weight[:, None]", "dy[n]"),
    (reference.mode_group_norm_backward, "mode_group_norm", "dx[n] += dxhat / s", "pass"),
    (reference.mode_group_norm_backward, "mode_group_norm", "dmu + dvar * 2 * seen", "dvar * 2 * seen"),
    (reference.mode_group_norm_backward, "mode_group_norm, pooled moments", "dmu + dvar * 2 * seen", "dmu"),
    (reference.mode_group_norm_backward, "mode_group_norm", "dmu * seen.mean(axis=-1) + ", ""),
    (reference.mode_group_norm_backward, "mode_group_norm", " + dvar * (seen**2).mean(axis=-1)", ""),
    (reference.mode_group_norm_backward, "mode_group_norm", "log_softmax_backward(w * dw, w, axis=1)", "w * dw"),
    (reference.mode_group_norm_backward, "mode_group_norm", 'grads["dx"] + dx', "dx"),
    (reference.mode_group_norm_backward, "mode_group_norm", 'grads["dx"] + dx', 'grads["dx"]'),
    (reference.conv2d_backward, "conv2d", "dxp[window] +=", "dxp[window] ="),
    (reference.conv2d_backward, "conv2d", "dweight[o] +=", "dweight[o] ="),
    (reference.conv2d_backward, "conv2d", "dbias[o] +=", "dbias[o] ="),
    (reference.max_pool2d_backward, "max_pool2d, overlapping", "+= dy", "= dy"),
    (reference.avg_pool2d_backward, "avg_pool2d, overlapping", "+= dy", "= dy"),
    (reference.avg_pool2d_backward, "avg_pool2d", " / (kh * kw)", ""),
    (reference.linear_backward, "linear", "dx[n] +=", "dx[n] ="),
    (reference.linear_backward, "linear", "dweight[o] +=", "dweight[o] ="),
    (reference.linear_backward, "linear", "dbias[o] +=", "dbias[o] ="),
    (reference.softmax_cross_entropy_backward, "softmax_cross_entropy", "-= 1", "-= 0"),
    (reference.softmax_cross_entropy_backward, "softmax_cross_entropy", " / len(logits)", ""),
    (reference.softmax_cross_entropy_backward, "softmax_cross_entropy", " * dloss", ""),
]


@pytest.mark.parametrize(
    ("backward", "name", "term", "dropped"), TERMS, ids=[f"{f.__name__}: {a!r} to {b!r}" for f, _, a, b in TERMS]
)
def test_dropping_any_term_of_a_backward_is_found(
    backward: Callable[..., Any], name: str, term: str, dropped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature, docstring, body = inspect.getsource(backward).split('"""', 2)
    assert body.count(term) == 1
    namespace = dict(backward.__globals__)
    exec(f'{signature}"""{docstring}"""{body.replace(term, dropped)}', namespace)
    check(name)
    monkeypatch.setattr(backward, "__code__", namespace[backward.__name__].__code__)
    with pytest.raises(AssertionError, match="is off by"):
        check(name)
