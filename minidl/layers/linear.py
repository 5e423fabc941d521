"""The fully connected layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import init
from minidl.arguments import arithmetic, generator, whole
from minidl.backend import Array, array_module, gemm
from minidl.layers.base import Layer, compute_dtype
from minidl.memory import batch_last


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """y = x Wᵀ + b, for x (N, I), weight (O, I), bias (O,) -> y (N, O)."""
    xp = array_module(x=x, weight=weight)
    y = gemm(xp, weight, batch_last(xp, x)).T  # the batch stays innermost in memory
    if bias is not None:
        y += bias
    return y


def linear_backward(dy: Array, x: Array, weight: Array, needs_dx: bool = True) -> tuple[Array | None, Array, Array]:
    """dx = dy W, dW = dyᵀ x, db = sum_n dy."""
    xp = array_module(dy=dy, x=x, weight=weight)
    xt, dyt = batch_last(xp, x), batch_last(xp, dy)  # a product's bits may hang on the order in memory
    dx = gemm(xp, weight.T, dyt).T if needs_dx else None  # (N, I), the batch innermost in memory
    return dx, gemm(xp, dyt, xt.T), dyt.sum(axis=1)


class Linear(Layer):
    """A fully connected layer: y = x Wᵀ + b.

    Backward: dx = dy W, dW = dyᵀ x, db = sum_n dy.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    rng : numpy.random.Generator or a seed, optional
        Draws the initial weights; a fresh unseeded one by default.
    dtype : dtype of the parameters

    Raises
    ------
    ValueError
        If a width is out of range, or x is not a floating (N, in_features).

    Notes
    -----
    Shape: x (N, in_features) -> y (N, out_features) of x's dtype; weight (out_features, in_features),
    bias (out_features,).

    Weight and bias start uniform in ±1/sqrt(in_features), as in PyTorch.

    Examples
    --------
    >>> layer = Linear(3, 2, rng=np.random.default_rng(0))
    >>> layer.params["weight"][...] = [[1, 2, 3], [4, 5, 6]]
    >>> layer.params["bias"][...] = [10, 20]
    >>> layer(np.ones((1, 3), np.float32))
    array([[16., 35.]], dtype=float32)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        rng: np.random.Generator | int | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        in_features = whole(in_features, "Linear: in_features", cure="pass the width of x")
        out_features = whole(out_features, "Linear: out_features", cure="pass the width of y")
        rng = generator(rng, "Linear")
        self.add_param("weight", init.uniform_fan_in((out_features, in_features), rng, dtype))
        if bias:
            self.add_param("bias", init.uniform_fan_in((out_features, in_features), rng, dtype, size=(out_features,)))

    @arithmetic()
    def forward(self, x: Array) -> Array:
        """Return x Wᵀ + b."""
        weight, bias = self.params["weight"], self.params.get("bias")
        on = self.engine(x)
        if x.ndim != 2 or x.shape[1] != weight.shape[1]:
            cure = f"build it with in_features={x.shape[1]}" if x.ndim == 2 else "put a Flatten before it"
            cure = "give it a batch, x[None]" if x.ndim < 2 else cure
            raise ValueError(f"Linear.forward: x must be (N, {weight.shape[1]}), got {x.shape}; {cure}")
        self.keep(on, x, of=x, shape=(len(x), len(weight)))
        dtype = compute_dtype(x, weight)
        y = on(linear)(x.astype(dtype, copy=False), weight.astype(dtype, copy=False), bias)
        return y.astype(x.dtype, copy=False)

    @arithmetic()
    def backward(self, dy: Array) -> Array:
        """Return dy W; add dyᵀ x and sum_n dy to the gradients."""
        _, (on, x) = self.kept(dy)
        array_module(dy=dy, x=x)
        weight = self.params["weight"]
        dtype = compute_dtype(x, weight)
        d, x, weight = dy.astype(dtype, copy=False), x.astype(dtype, copy=False), weight.astype(dtype, copy=False)
        dx, dweight, dbias = on(linear_backward)(d, x, weight, self.needs_dx)
        self.grads["weight"] += dweight
        if "bias" in self.grads:
            self.grads["bias"] += dbias
        return None if dx is None else dx.astype(dy.dtype, copy=False)
