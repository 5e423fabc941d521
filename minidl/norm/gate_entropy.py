"""A penalty on the entropy of the mean gate: it is least where one mode takes everything.

With gates g (N, K), rows of a softmax of z, and their mean over the batch p_k = (1/N) sum_n g_nk,

    R = ρ·H(p),   H(p) = −sum_k p_k ln p_k

    dR/dp_k = −ρ (ln p_k + 1)
    dR/dg_nk = dR/dp_k / N
    dR/dz_nk = g_nk (dR/dg_nk − sum_j g_nj dR/dg_nj) = −(ρ/N) g_nk (ln p_k − sum_j g_nj ln p_j)

since the softmax's Jacobian takes constants, here the 1, to zero. A mode below the sample's mean of ln p loses, one
above it gains, each in proportion to its gate: what is used little is used less. The pull on a mode vanishes with it,
like p_k ln p_k, so the penalty alone never empties a mode: `minidl.auto` takes it out when it is small.
"""

from __future__ import annotations

import numpy as np

from minidl.backend import Array, array_module

_LEAST = np.finfo(np.float64).tiny


def gate_entropy(g: Array) -> Array:
    """Return H(p), in nats, of gates (N, K)."""
    p = g.mean(axis=0)
    return -(p * _log(p)).sum()


def gate_entropy_backward(g: Array, strength: float) -> Array:
    """Return dR/dz (N, K) for R = strength·H(p)."""
    log_p = _log(g.mean(axis=0))
    return g * (log_p - (g @ log_p)[:, None]) * (-strength / len(g))


def _log(p: Array) -> Array:
    xp = array_module(p)
    return xp.log(xp.maximum(p, _LEAST))
