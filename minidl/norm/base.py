"""What every norm has: moments, the norm's small function, scale and shift; then the backward pass."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from minidl.arguments import arithmetic, whole
from minidl.backend import Array, array_module, is_plain
from minidl.engine import Engine
from minidl.layers.base import Layer
from minidl.norm.moments import Mean, moments, scale_shift, scale_shift_backward, scale_shift_sums
from minidl.norm.shapes import Images, OfChannels, PerChannel


class Norm(Layer):
    """A layer y = (x − m)·s + u whose scale s and shift u (N, C) depend on x through its moments m and v alone.

    A subclass gives the small function, which also updates running statistics, and its backward, which also adds the
    parameters' gradients: `small(m, v, values) -> (s, u, kept)` and
    `small_backward(ds, du, training, kept) -> (dm, dv)`. An engine may have twins of both, and its twin of `small` may
    keep what it likes for its twin of `small_backward`.

    Parameters
    ----------
    num_features : int, the number C of channels
    eps : float > 0, added to a variance before its root
    dtype : dtype of weight (ones) and bias (zeros), one value per channel
    """

    _features = "num_features"  # the constructor's name for C, for messages

    def __init__(self, num_features: int, eps: float, dtype: Any) -> None:
        super().__init__()
        name = type(self).__name__
        num_features = whole(num_features, f"{name}: {self._features}", cure="pass the number of channels")
        if not eps > 0:
            raise ValueError(f"{name}: eps must be > 0, got {eps}; 1e-5 is usual")
        self.num_features = num_features
        self.eps = eps
        self.add_param("weight", np.ones(num_features, dtype))
        self.add_param("bias", np.zeros(num_features, dtype))

    @arithmetic()
    def forward(self, x: Images) -> Images:
        """Return the normalised x, for x (N, C), (N, C, L) or (N, C, H, W)."""
        on = self._check(x)
        if len(x) == 0:
            self.keep(None, x, None, None, shape=x.shape)
            return x.copy()
        centred, s, u, kept = self.scale_and_shift(on, x)
        self.keep(on, centred, s, kept, of=x, shape=x.shape)
        return on(scale_shift)(centred, s, u, x.dtype)

    @arithmetic()
    def backward(self, dy: Images) -> Images:
        """Return dx; add the parameters' gradients."""
        training, (on, centred, s, kept) = self.kept(dy)
        if on is None:  # of a batch without samples
            array_module(dy=dy, x=centred)
            return dy.copy()
        array_module(dy=dy, s=s)
        ds, du = on(scale_shift_sums)(dy, centred)
        dm, dv = self.scale_and_shift_backward(on, ds, du, training, kept)
        return on(scale_shift_backward)(dy, centred, s, du, dm, dv)

    def scale_and_shift(self, on: Engine, x: Images) -> tuple[Any, PerChannel, PerChannel, Any]:
        """Return x − m, s, u, and what `scale_and_shift_backward` needs."""
        m, v, centred = on(moments)(x)
        returned = self._forward_small(on, m, v, x.size // self.num_features)
        self._check_returned("small", returned, ("s", "u", "kept"), v.shape)
        return centred, *returned

    def scale_and_shift_backward(
        self, on: Engine, ds: PerChannel, du: PerChannel, training: bool, kept: Any
    ) -> tuple[PerChannel, PerChannel]:
        """Return dm and dv."""
        returned = self._backward_small(on, ds, du, training, kept)
        self._check_returned("small_backward", returned, ("dm", "dv"), ds.shape)
        return returned

    def small(self, m: Mean, v: PerChannel, values: int) -> tuple[PerChannel, PerChannel, Any]:
        """Return s and u for the moments of each channel of each sample, and what backward needs.

        `values` is the number of x's values per channel.
        """
        raise NotImplementedError(f"{type(self).__name__} must define small(m, v, values)")

    def small_backward(
        self, ds: PerChannel, du: PerChannel, training: bool, kept: Any
    ) -> tuple[PerChannel, PerChannel]:
        """Return dm and dv; add the parameters' gradients."""
        raise NotImplementedError(f"{type(self).__name__} must define small_backward(ds, du, training, kept)")

    def _forward_small(self, on: Engine, m: Mean, v: PerChannel, values: int) -> tuple[PerChannel, PerChannel, Any]:
        """Return what the engine's `small` returns."""
        return on(type(self).small)(self, m, v, values)

    def _backward_small(
        self, on: Engine, ds: PerChannel, du: PerChannel, training: bool, kept: Any
    ) -> tuple[PerChannel, PerChannel]:
        """Return what the engine's `small_backward` returns."""
        return on(type(self).small_backward)(self, ds, du, training, kept)

    def _check_returned(self, method: str, returned: Any, names: tuple[str, ...], shape: tuple[int, ...]) -> None:
        """Raise ReturnedError unless these are as many values as there are names, the first two real and (N, C)."""
        if type(returned) is tuple and len(returned) == len(names):
            one, two = returned[:2]
            if (
                is_plain(one)
                and is_plain(two)
                and one.shape == two.shape == shape
                and (one.dtype == two.dtype == np.float64)
            ):  # nearly always
                return
        what = f"{type(self).__name__}.{method}: "
        if not isinstance(returned, tuple | list) or len(returned) != len(names):
            many = f"{len(returned)} values" if isinstance(returned, tuple | list) else _shown(returned)
            wanted = f"{len(names)} values, {', '.join(names[:-1])} and {names[-1]}"
            raise ReturnedError(f"{what}must return {wanted}, got {many}", method)
        pair, shown = " and ".join(names[:2]), " and ".join(map(_shown, returned[:2]))
        if not all(getattr(each, "shape", None) == shape for each in returned[:2]):
            raise ReturnedError(f"{what}{pair} must be {shape}, got {shown}", method)
        if not all(each.dtype.kind in "fiu" for each in returned[:2]):
            dtypes = " and ".join(str(each.dtype) for each in returned[:2])
            raise ReturnedError(f"{what}{pair} must be real, got {dtypes}", method)

    def _add_gradients(self, **gradients: Array) -> None:
        for name, gradient in gradients.items():
            self.grads[name] += gradient

    def _affine(self) -> tuple[OfChannels, OfChannels]:
        """Return weight and bias in float64, the precision of the small arrays."""
        return self.params["weight"].astype(np.float64), self.params["bias"].astype(np.float64)

    def _check(self, x: Images) -> Engine:
        """Return the engine for x, which must have the right shape."""
        on = self.engine(x)
        name = type(self).__name__
        if x.ndim not in (2, 3, 4) or x.shape[1] != self.num_features or 0 in x.shape[2:]:
            c = self.num_features
            cure = "leave out what has no pixels" if x.ndim > 1 else "give it a batch, x[None]"
            cure = "reshape x to (N, C, L)" if x.ndim > 4 else cure
            if x.ndim in (2, 3, 4) and x.shape[1] != c:
                cure = f"build it with {self._features}={x.shape[1]}"
            raise ValueError(
                f"{name}.forward: x must be (N, {c}), (N, {c}, L) or (N, {c}, H, W) with pixels, got {x.shape}; {cure}"
            )
        return on


class ReturnedError(ValueError):
    """What one of a norm's two small functions returns is not what it must; `method` is its name."""

    def __init__(self, message: str, method: str) -> None:
        super().__init__(message)
        self.method = method


def _shown(thing: Any) -> str:
    """Return an array's shape, or what else something is."""
    return str(thing.shape) if hasattr(thing, "shape") else "None" if thing is None else f"one {type(thing).__name__}"


def update_running(running: Array, batch: Array, momentum: float) -> None:
    """running ← momentum·batch + (1 − momentum)·running, in place: eq. 4 of the paper, momentum its lambda."""
    running *= 1 - momentum
    running += momentum * batch


class Across(Protocol):
    """How the sums over a batch reach from one process to the others that hold parts of it."""

    rank: int

    def each(self, *arrays: Any) -> tuple[Array, ...]:
        """Return each array, or number, of all processes, (R, ...) in float64."""

    def total(self, *arrays: Any) -> tuple[Any, ...]:
        """Return each array, or number, summed over the processes."""


def own(*sums: Any) -> tuple[Any, ...]:
    """Return the sums over a batch that one process holds all of: as they are."""
    return sums


class BatchStatistics(Norm):
    """What the two norms with running statistics share: momentum, and the check that a batch has a variance.

    Attributes
    ----------
    across : Across or None
        The processes that hold the other parts of each batch in training, where the statistics are those of the whole
        (`minidl.distributed.synchronise`); None where they are those of x.
    """

    across: Across | None = None

    def __init__(self, num_features: int, eps: float, momentum: float, dtype: Any) -> None:
        super().__init__(num_features, eps, dtype)
        if not 0 <= momentum <= 1:
            raise ValueError(
                f"{type(self).__name__}: momentum must be in [0, 1], got {momentum}; it is the weight of the new batch"
            )
        self.momentum = momentum

    def _add_buffer(self, name: str, value: np.ndarray) -> None:
        """Make a running statistic: float64, in the library of the parameters."""
        xp = array_module(weight=self.params["weight"])
        self.buffers[name] = xp.asarray(value.astype("float64"))

    def _update(self, name: str, batch: Array) -> None:
        """Let a running statistic move to the batch's."""
        update_running(self.buffers[name], batch, self.momentum)

    def _check(self, x: Images) -> Engine:
        on = super()._check(x)
        if self.training and x.size == self.num_features and self.across is None:
            raise ValueError(
                f"{type(self).__name__}.forward: x must hold more than one value per channel in training, "
                f"got {x.shape}; use a larger batch, or eval()"
            )
        return on
