"""Batch normalization (eq. 1) as a user would write it: two passes, no tricks."""

from __future__ import annotations

from minidl.check.plain.arith import Array, clamp, mean, sqrt, total
from minidl.check.plain.base import Plain, column


class Layer(Plain):
    """y = weight (x − mu) / sqrt(sigma² + eps) + bias, mu and sigma² over batch and space."""

    def start(self) -> None:
        """A layer that has seen nothing has running mean 0 and running variance 1."""
        zero = 0 * self.params["weight"]
        self.running_mean, self.running_var = zero, zero + 1
        if self.options.get("start") == "zero":
            self.running_var = zero

    def saved(self) -> dict[str, Array]:
        """Return what a saved model holds, whatever the convention of state()."""
        return {"running_mean": self.running_mean, "running_var": self.running_var}

    def state(self) -> dict[str, Array]:
        """Return the running statistics; the convention second_moment stores E[x²] in place of the variance."""
        if self.options.get("running_var") == "second_moment":
            second = self.running_var + self.running_mean * self.running_mean
            return {"running_mean": self.running_mean, "running_mean_square": second}
        return {"running_mean": self.running_mean, "running_var": self.running_var}

    def update(self, mu: Array, var: Array, n: int) -> None:
        """Move the running statistics towards those of the batch; momentum is the weight of the new."""
        lam = self.options["momentum"]
        convention = self.options.get("running_var", "unbiased")
        old_mean, old_var = self.running_mean, self.running_var
        self.running_mean = (1 - lam) * old_mean + lam * mu
        if convention == "second_moment":
            old, new = old_var + old_mean * old_mean, var + mu * mu
            self.running_var = clamp((1 - lam) * old + lam * new - self.running_mean * self.running_mean)
            return
        if convention == "unbiased":
            var = var * n / max(n - 1, 1)
        self.running_var = (1 - lam) * old_var + lam * var

    def compute(self, x: Array, training: bool) -> Array:
        """Forward pass."""
        axes = (0, *range(2, x.ndim))
        eps, weight, bias = self.options["eps"], column(self.params["weight"], x), column(self.params["bias"], x)
        if training:
            mu = mean(x, axes)
            centred = x - mu
            var = mean(centred * centred, axes)
            self.update(mu.reshape(-1), var.reshape(-1), x.size // x.shape[1])
        else:
            mu, var = column(self.running_mean, x), column(self.running_var, x)
            centred = x - mu
        rstd = 1 / sqrt(var + eps)
        xhat = centred * rstd
        self.kept = (training, xhat, rstd, axes, weight)
        return weight * xhat + bias

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Backward pass: dx = rstd (d − mean d − xhat mean(d xhat)) with d = dy weight; in evaluation rstd d."""
        training, xhat, rstd, axes, weight = self.kept
        dbias = total(dy, axes)
        dweight = total(dy * xhat, axes)
        dxhat = dy * weight
        dx = rstd * dxhat
        if training:
            dx = rstd * (dxhat - mean(dxhat, axes) - xhat * mean(dxhat * xhat, axes))
        return {"dx": dx, "dweight": dweight.reshape(-1), "dbias": dbias.reshape(-1)}
