"""What stands between a mode norm and its gates where they are not the paper's: Psi's input, a temperature, a penalty.

In the paper's form, a plain input, the temperature 1 and no penalty, none of this is at work.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minidl.backend import Array, array_module
from minidl.engine import Engine
from minidl.norm.base import BatchStatistics
from minidl.norm.gate_entropy import gate_entropy_backward
from minidl.norm.gate_input import GATE_INPUTS, Input, Psi, batch_input, fold, fold_backward
from minidl.norm.moments import Mean
from minidl.norm.shapes import PerChannel, PerGate, PerMode


class KeptOfGates(NamedTuple):
    """What is kept where the gates are more than a softmax of Psi(m), and Psi a pair of parameters."""

    kept: Any  # of `small`
    value: PerChannel  # m
    gates: PerGate
    folded: tuple[PerMode, Array]  # what Psi comes to, see `minidl.norm.gate_input`
    weight: PerMode  # Psi's own, in float64
    seen: Input
    penalty: float


class Gated(BatchStatistics):
    """A norm with parameters gate.weight (K, C) and gate.bias (K,), whose `small` computes with `psi` and sets `gates`.

    Parameters
    ----------
    num_features, eps, momentum, dtype
        As for `BatchStatistics`.
    gate_input, gate_temperature
        As for `minidl.ModeNorm`.
    """

    def __init__(
        self, num_features: int, eps: float, momentum: float, dtype: Any, gate_input: str, gate_temperature: float
    ) -> None:
        super().__init__(num_features, eps, momentum, dtype)
        if gate_input not in GATE_INPUTS:
            raise ValueError(
                f"{type(self).__name__}: gate_input must be one of {', '.join(GATE_INPUTS)}, got {gate_input!r}; "
                "choose one"
            )
        if not 0 < gate_temperature < math.inf:
            raise ValueError(
                f"{type(self).__name__}: gate_temperature must be positive and finite, got {gate_temperature}; try 2"
            )
        self.gate_input, self.gate_temperature, self.gate_penalty = gate_input, gate_temperature, 0.0
        self._folded: Psi | None = None  # within a forward or a backward
        self.gates: Array = None

    def _add_gate_statistics(self) -> None:
        """Make the running estimates of a normalised input, after the norm's own."""
        if self.gate_input == "normalised":
            self._add_buffer("gate.running_mean", np.zeros(self.num_features))
            self._add_buffer("gate.running_var", np.ones(self.num_features))

    def psi(self) -> Psi:
        """Return the affine map from m to the logits as `small` and `small_backward` use it, with its gradients."""
        if self._folded is not None:
            return self._folded
        params, grads = self.params, self.grads
        return Psi(params["gate.weight"], params["gate.bias"], grads["gate.weight"], grads["gate.bias"])

    def psi_in_inference(self) -> tuple[PerMode, Array]:
        """Return weight (K, C) and bias (K,) of the affine map from m to the logits, in float64."""
        return fold(*self._own_psi(), self.seen_in_inference(), self.gate_temperature)

    def _forward_small(self, on: Engine, m: Mean, v: PerChannel, values: int) -> tuple[PerChannel, PerChannel, Any]:
        """Return s, u and what is kept, with Psi folded where the paper's form is not asked for."""
        penalty = self.gate_penalty if self.training else 0.0
        if self.gate_input == "plain" and self.gate_temperature == 1 and not penalty:
            return super()._forward_small(on, m, v, values)
        value = m.value()
        seen = self._seen(value)
        weight, bias = self._own_psi()
        folded = fold(weight, bias, seen, self.gate_temperature)
        self._folded = self._as_params(*folded)
        try:
            s, u, kept = super()._forward_small(on, m, v, values)
        finally:
            self._folded = None
        return s, u, KeptOfGates(kept, value, self.gates, folded, weight, seen, penalty)

    def _backward_small(
        self, on: Engine, ds: PerChannel, du: PerChannel, training: bool, kept: Any
    ) -> tuple[PerChannel, PerChannel]:
        """Return dm and dv: those of `small_backward`, and what comes through the penalty and the input of Psi."""
        if not isinstance(kept, KeptOfGates):
            return super()._backward_small(on, ds, du, training, kept)
        self._folded = psi = self._as_params(*kept.folded)
        try:
            dm, dv = super()._backward_small(on, ds, du, training, kept.kept)
        finally:
            self._folded = None
        dfolded, dbias = psi.dweight.astype(np.float64), psi.dbias.astype(np.float64)
        if kept.penalty:
            dz = gate_entropy_backward(kept.gates, kept.penalty)
            dm = dm + dz @ kept.folded[0]
            dfolded, dbias = dfolded + dz.T @ kept.value, dbias + dz.sum(axis=0)
        dweight, dbias, through_input = fold_backward(dfolded, dbias, kept.weight, kept.seen, self.gate_temperature)
        self._add_gradients(**{"gate.weight": dweight, "gate.bias": dbias})
        return dm if through_input is None else dm + through_input, dv

    def _own_psi(self) -> tuple[PerMode, Array]:
        return self.params["gate.weight"].astype(np.float64), self.params["gate.bias"].astype(np.float64)

    def _as_params(self, weight: PerMode, bias: Array) -> Psi:
        """Return a folded Psi in the dtype of the parameters, at least float32, with gradients of its own."""
        dtype = np.result_type(self.params["gate.weight"].dtype, np.float32)
        weight, bias = weight.astype(dtype), bias.astype(dtype)
        return Psi(weight, bias, weight * 0, bias * 0)

    def _seen(self, m: PerChannel) -> Input:
        """Return how Psi's input is normalised; update the running estimates in training."""
        if not self.training or self.gate_input == "plain":
            return self.seen_in_inference()
        seen, var = batch_input(m, self.eps)
        self._update("gate.running_mean", seen.mean)
        self._update("gate.running_var", var)
        return seen

    def seen_in_inference(self) -> Input:
        """Return how Psi's input is normalised in inference; 0 and 1 for a plain input."""
        if self.gate_input == "plain":
            xp = array_module(self.params["weight"])
            zeros = xp.zeros(self.num_features)
            return Input(zeros, zeros + 1, None)
        mean, var = self.buffers["gate.running_mean"], self.buffers["gate.running_var"]
        return Input(mean, 1 / array_module(var).sqrt(var + self.eps), None)
