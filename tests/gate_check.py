"""The gradients of what may stand between a norm and its gates, function by function, against the complex step.

from gate_check import check_entropy, check_fold
"""

import numpy as np
from gradients import assert_gradients
from layer_runs import draw

from minidl.norm.gate_entropy import gate_entropy, gate_entropy_backward
from minidl.norm.gate_input import Input, batch_input, fold, fold_backward

N, C, K = 5, 4, 3


def check_fold(training: bool, temperature: float) -> None:
    """Hold `fold_backward` against the slopes of `fold`, m and Psi moved; with constants in inference."""
    inputs = {"m": draw(0, N, C), "weight": draw(1, K, C), "bias": draw(2, K)}
    constants = Input(draw(3, C), np.exp(draw(4, C)), None)
    dfolded, dbias = draw(5, K, C, mean=0.0), draw(6, K, mean=0.0)

    def forward(m, weight, bias):
        seen = batch_input(m, eps=0.3)[0] if training else constants
        folded, folded_bias = fold(weight, bias, seen, temperature)
        return np.concatenate([folded.ravel(), folded_bias])

    seen = batch_input(inputs["m"], eps=0.3)[0] if training else constants
    dweight, db, dm = fold_backward(dfolded, dbias, inputs["weight"], seen, temperature)
    got = {"dweight": dweight, "dbias": db, "dm": np.zeros((N, C)) if dm is None else dm}
    assert (dm is None) == (not training)
    dy = np.concatenate([dfolded.ravel(), dbias])
    assert_gradients(forward, got, inputs, dy, zero=() if training else ("m",))


def check_entropy(strength: float) -> None:
    """Hold `gate_entropy_backward` against the slope of strength·H by the logits."""

    def forward(z):
        powers = np.exp(z)
        return np.array([strength * gate_entropy(powers / powers.sum(axis=1, keepdims=True))])

    z = draw(7, N, K)
    g = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert_gradients(forward, {"dz": gate_entropy_backward(g, strength)}, {"z": z}, np.ones(1))
