"""What the gating map Psi sees: the pooled means as they are, or normalised, and divided by a temperature.

With m (N, C) the means over the pixels of each channel of each sample,

    h_nc = (m_nc − a_c)·r_c,   a_c = mean_n m_nc,   q_c = mean_n (m_nc − a_c)²,   r_c = (q_c + eps)^(−1/2)
    z_n = (W h_n + b)/T,       g_n = softmax(z_n)                                   W (K, C), b (K,), T the temperature

This is affine in m again, z_n = W' m_n + b' with

    W' = W·r/T (K, C),   b' = b/T − W' a (K,)                                       (`fold`)

so the norm computes with W' and b' and knows nothing of it. Its backward has dW', db' and dm for constant W' and b'.
What is missing follows, with D = dW' − db' ⊗ a all of dL/dW':

    db = db'/T,   dW = D·r/T,   dr_c = sum_k D_kc W_kc/T,   da_c = −sum_k db'_k W'_kc
    dq = −r³/2·dr,   dm_nc = da_c/N + 2·dq_c (m_nc − a_c)/N                         (`fold_backward`)

where a has no other path to the loss: dq/da = −2 mean_n (m − a) = 0.
"""

from __future__ import annotations

from typing import NamedTuple

from minidl.backend import Array, array_module

GATE_INPUTS = ("plain", "normalised")


class Psi(NamedTuple):
    """The affine map that a norm computes its gates with, and where the gradients of the two are added."""

    weight: Array  # (K, C)
    bias: Array  # (K,)
    dweight: Array
    dbias: Array


class Input(NamedTuple):
    """How Psi's input is normalised; 0 and 1 where it is not."""

    mean: Array  # a (C,)
    rstd: Array  # r (C,)
    away: Array | None  # m − a (N, C) in training; None where a and r are constants


def batch_input(m: Array, eps: float) -> tuple[Input, Array]:
    """Return how the input is normalised by the batch m (N, C), and its variance q (C,)."""
    xp = array_module(m)
    mean = m.sum(axis=0) / len(m)
    away = m - mean
    var = (away**2).sum(axis=0) / len(m)
    return Input(mean, 1 / xp.sqrt(var + eps), away), var


def fold(weight: Array, bias: Array, seen: Input, temperature: float) -> tuple[Array, Array]:
    """Return W' and b'."""
    folded = weight * (seen.rstd / temperature)
    return folded, bias / temperature - folded @ seen.mean


def fold_backward(
    dfolded: Array, dfolded_bias: Array, weight: Array, seen: Input, temperature: float
) -> tuple[Array, Array, Array | None]:
    """Return dW, db and dm (None where the input's mean and variance are constants)."""
    d = dfolded - dfolded_bias[:, None] * seen.mean
    dweight, dbias = d * (seen.rstd / temperature), dfolded_bias / temperature
    if seen.away is None:
        return dweight, dbias, None
    drstd = (d * weight).sum(axis=0) / temperature
    dmean = -(dfolded_bias[:, None] * weight).sum(axis=0) * (seen.rstd / temperature)
    dvar = -(seen.rstd**3) / 2 * drstd
    return dweight, dbias, (dmean + 2 * dvar * seen.away) / len(seen.away)
