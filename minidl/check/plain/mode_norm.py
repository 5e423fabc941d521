"""Mode normalization (eq. 2-4, algorithms 1 and 2) with one array axis for the modes: slow, and nothing hidden."""

from __future__ import annotations

from typing import Any

from minidl.check.plain.arith import Array, clamp, log_softmax, mean, softmax, sqrt, total
from minidl.check.plain.base import Plain


class Layer(Plain):
    """y_n = weight sum_k g_nk (x_n − mu_k) / sigma_k + bias."""

    running_mean: Array
    running_mean_square: Array
    running_var: Array

    def start(self) -> None:
        """A layer that has seen nothing has first moment 0 and second moment 1: evaluation is the identity."""
        zero = 0 * self.params["gate.weight"]
        self.running_mean, self.running_mean_square = zero, zero + 1
        if self.options.get("start") == "zero":
            self.running_mean_square = zero
        self.running_var = self.running_mean_square  # in place of it, where a variance is kept

    def state(self) -> dict[str, Array]:
        """Return the running moments; the convention ``biased`` keeps a variance in place of E[x²]."""
        if self.options.get("running_var") == "biased":
            return {"running_mean": self.running_mean, "running_var": self.running_var}
        return {"running_mean": self.running_mean, "running_mean_square": self.running_mean_square}

    def update(self, first: Array, second: Array, var: Array) -> None:
        """Move the running moments towards those of the batch (eq. 4)."""
        lam = self.options["momentum"]
        if self.options.get("running_var") == "biased":
            self.running_var = (1 - lam) * self.running_var + lam * var
        self.running_mean = (1 - lam) * self.running_mean + lam * first
        self.running_mean_square = (1 - lam) * self.running_mean_square + lam * second

    def affine(self) -> tuple[Array, Array, bool]:
        """Weight and bias as (1, K or 1, C, 1), and whether each mode has its own (footnote 3)."""
        weight, bias = self.params["weight"], self.params["bias"]
        return weight.reshape((1, -1, weight.shape[-1], 1)), bias.reshape((1, -1, bias.shape[-1], 1)), weight.ndim == 2

    def compute(self, x: Array, training: bool) -> Array:
        """Forward pass."""
        shape, flat = x.shape, x.reshape((x.shape[0], x.shape[1], -1))  # N C L
        m = mean(flat, 2)[:, None, :, 0]  # N 1 C
        z = total(m * self.params["gate.weight"], 2)[:, :, 0] + self.params["gate.bias"]  # N K
        g = softmax(z, 1)
        if training:
            w = softmax(log_softmax(z, 1), 0)  # g_nk / N_k
            mu = total(w[:, :, None] * m, 0)  # 1 K C
            d = flat[:, None] - mu[..., None]  # N K C L
            var = total(w[:, :, None] * mean(d * d, 3)[..., 0], 0)  # 1 K C
            second = total(w[:, :, None] * mean(flat * flat, 2)[:, None, :, 0], 0)
            self.update(mu[0], second[0], var[0])
        else:
            w = g
            mu = self.running_mean[None]
            d = flat[:, None] - mu[..., None]
            var = clamp(self.running_mean_square - self.running_mean * self.running_mean)[None]
            if self.options.get("running_var") == "biased":
                var = self.running_var[None]
        rstd = 1 / sqrt(var + self.options["eps"])
        xhat = d * rstd[..., None]
        weight, bias, _ = self.affine()
        y = total(g[:, :, None, None] * (weight * xhat + bias), 1)
        self.kept = (training, m, g, w, d, rstd[..., None], xhat, shape)
        return y.reshape(shape)

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Backward pass: through the output's gates, the modes' moments, N_k, and Psi."""
        training, m, g, w, d, rstd, xhat, shape = self.kept
        weight, bias, per_mode = self.affine()
        length = d.shape[3]
        dyn = dy.reshape((shape[0], 1, shape[1], -1))  # N 1 C L
        gate = g[:, :, None, None]  # N K 1 1
        dweight = total(gate * dyn * xhat, (0, 3))[0, :, :, 0]  # K C
        dbias = total(gate * dyn, (0, 3))[0, :, :, 0]
        mixed = dyn * weight * xhat
        if per_mode:
            mixed = mixed + dyn * bias
        dg = total(mixed, (2, 3))[:, :, 0, 0]  # N K
        dxhat = gate * dyn * weight
        dd = dxhat * rstd
        dlogg = g * dg
        dm: Any = 0
        if training:
            dvar = -total(dxhat * d, (0, 3)) * rstd * rstd * rstd / 2  # 1 K C 1
            dmu = -total(dd, (0, 3))
            dw = total(dvar * mean(d * d, 3), 2)[:, :, 0, 0] + total(dmu[..., 0] * m, 2)[:, :, 0]
            dd = dd + dvar * w[:, :, None, None] * 2 * d / length
            dm = total(w[:, :, None] * dmu[..., 0], 1)[:, 0]  # N C
            dlogg = dlogg + w * (dw - total(w * dw, 0))
        dz = dlogg - g * total(dlogg, 1)
        dgate_weight = total(dz[:, :, None] * m, 0)[0]  # K C
        dgate_bias = total(dz, 0)[0]
        dm = dm + total(dz[:, :, None] * self.params["gate.weight"], 1)[:, 0]
        dx = total(dd, 1)[:, 0] + dm[..., None] / length
        if not per_mode:
            dweight, dbias = total(dweight, 0)[0], total(dbias, 0)[0]
        grads = {"dx": dx.reshape(shape), "dweight": dweight, "dbias": dbias}
        return {**grads, "dgate.weight": dgate_weight, "dgate.bias": dgate_bias}
