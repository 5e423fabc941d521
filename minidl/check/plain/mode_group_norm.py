"""Mode group normalization (eq. 5, algorithm 3): gates decide which channels are normalised together."""

from __future__ import annotations

from minidl.check.plain.arith import Array, log_softmax, mean, softmax, sqrt, total
from minidl.check.plain.base import Plain, column


class Layer(Plain):
    """y_n = weight / K sum_k (x_n − mu_nk) / sigma_nk + bias, moments over the channels weighted by their gates."""

    def compute(self, x: Array, training: bool) -> Array:
        """Forward pass, the same in training and evaluation."""
        shape, flat = x.shape, x.reshape((x.shape[0], x.shape[1], 1, -1))  # N C 1 L
        m = mean(flat, 3)[..., 0]  # N C 1
        z = m * self.params["gate.weight"].reshape(-1) + self.params["gate.bias"]  # N C K
        g = softmax(z, 2)
        w = softmax(log_softmax(z, 2), 1)  # g_nck / C_nk
        mu = total(w * m, 1)  # N 1 K
        d = flat - mu[..., None]  # N C K L
        if self.options.get("moments") == "pooled":
            var = total(w * (m - mu) * (m - mu), 1)
        else:
            var = total(w * mean(d * d, 3)[..., 0], 1)
        rstd = 1 / sqrt(var + self.options["eps"])[..., None]  # N 1 K 1
        xhat = mean(d * rstd, 2).reshape(shape)
        self.kept = (m, g, w, mu, d, rstd, xhat)
        return column(self.params["weight"], x) * xhat + column(self.params["bias"], x)

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Backward pass: through the moments, C_nk, and psi."""
        m, g, w, mu, d, rstd, xhat = self.kept
        modes, length = d.shape[2], d.shape[3]
        axes = (0, *range(2, dy.ndim))
        dweight, dbias = total(dy * xhat, axes), total(dy, axes)
        dk = (dy * column(self.params["weight"], dy)).reshape((*dy.shape[:2], 1, -1)) / modes  # N C 1 L
        dd = dk * rstd  # N C K L
        dvar = -total(dk * d, (1, 3)) * rstd * rstd * rstd / 2  # N 1 K 1
        dmu = -total(dd, (1, 3))[..., 0]  # N 1 K
        if self.options.get("moments") == "pooled":
            spread = (m - mu) * (m - mu)
            dm = total(2 * dvar[..., 0] * w * (m - mu), 2)
        else:
            spread = mean(d * d, 3)[..., 0]
            dm = 0 * m
            dd = dd + dvar * w[..., None] * 2 * d / length
        dw = dvar[..., 0] * spread + dmu * m  # N C K
        dm = dm + total(w * dmu, 2)
        dlogg = w * (dw - total(w * dw, 1))
        dz = dlogg - g * total(dlogg, 2)
        dgate_weight = total(dz * m, (0, 1)).reshape(-1, 1)
        dgate_bias = total(dz, (0, 1)).reshape(-1)
        dm = dm + total(dz * self.params["gate.weight"].reshape(-1), 2)
        dx = total(dd, 2)[:, :, 0] + dm / length
        grads = {"dx": dx.reshape(dy.shape), "dweight": dweight.reshape(-1), "dbias": dbias.reshape(-1)}
        return {**grads, "dgate.weight": dgate_weight, "dgate.bias": dgate_bias}
