"""Group normalization (Wu & He 2018); with one group layer, with C groups instance normalization."""

from __future__ import annotations

from minidl.check.plain.arith import Array, mean, sqrt, total
from minidl.check.plain.base import Plain, column


class Layer(Plain):
    """y = weight (x − mu_g) / sqrt(sigma²_g + eps) + bias, mu_g and sigma²_g over the channels of a group and space."""

    def groups(self, channels: int) -> int:
        """Return how many groups the channels are cut into."""
        if self.layer == "layer_norm":
            return 1
        if self.layer == "instance_norm":
            return channels
        groups = int(self.options["num_groups"])
        if channels % groups:
            raise ValueError(f"num_groups must divide {channels} channels, got {groups}")
        return groups

    def compute(self, x: Array, training: bool) -> Array:
        """Forward pass, the same in training and evaluation."""
        shape, groups = x.shape, self.groups(x.shape[1])
        weight, bias = column(self.params["weight"], x), column(self.params["bias"], x)
        split = x.reshape((shape[0], groups, -1))
        mu = mean(split, 2)
        centred = split - mu
        var = mean(centred * centred, 2)
        rstd = 1 / sqrt(var + self.options["eps"])
        xhat = (centred * rstd).reshape(shape)
        self.kept = (xhat, rstd, weight)
        return weight * xhat + bias

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Backward pass: as in batch normalization, with the means over the group."""
        xhat, rstd, weight = self.kept
        axes = (0, *range(2, dy.ndim))
        dbias = total(dy, axes)
        dweight = total(dy * xhat, axes)
        d = (dy * weight).reshape((*rstd.shape[:2], -1))
        h = xhat.reshape(d.shape)
        dx = rstd * (d - mean(d, 2) - h * mean(d * h, 2))
        return {"dx": dx.reshape(dy.shape), "dweight": dweight.reshape(-1), "dbias": dbias.reshape(-1)}
