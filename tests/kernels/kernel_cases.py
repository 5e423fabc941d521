"""One table of what the kernels compute: small programs that run on NumPy and, on a device, call every kernel.

Sizes are 3, 4, 5, 7 and products of them; where pixels are split among threads, the shares are uneven.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import strict
from layer_runs import draw
from strict.raw import RawKernel
from tolerance import assert_close, terms

from kernels import emulate
from minidl import (
    SGD,
    Adam,
    AdamW,
    AvgPool2d,
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Linear,
    MaxPool2d,
    ModeGroupNorm,
    ModeNorm,
    ReLU,
    SoftmaxCrossEntropy,
    to_device,
    to_host,
    use_backend,
)
from minidl.engine import engine
from minidl.engines.cuda import launch
from minidl.layers import conv
from minidl.norm import moments

FOLDER = Path(launch.__file__).parent
LAYER_SHAPE = (5, 6, 7, 3)
FIRST = "after one step, "
SOURCES = sorted(path.stem for path in FOLDER.glob("*.cu"))
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A program `run(dtype)`, and how far its values on a device may be from NumPy's, in units of the precision.

    With `units` 0 the bits must be the same: a value is then computed by the same operations in the same order.
    """

    run: Callable[[str], Arrays]
    units: float = 0


def _device(seed: int, *shape: int, dtype: str, mean: float = 0.5) -> Any:
    """Return an array of the backend in use, of normal numbers, the batch innermost."""
    x = draw(seed, *shape, mean=mean).astype(dtype)
    return to_device(np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0))


def _norm(dtype: str, shape: tuple[int, ...], mean: float = 0.5) -> Arrays:
    """Run all four passes of a norm; m is told by its distance to the mean that was asked for."""
    x, dy = _device(1, *shape, dtype=dtype, mean=mean), _device(2, *shape, dtype=dtype, mean=-0.3)
    s, u, dm, dv = (_device(seed, *shape[:2], dtype="float64") for seed in (3, 4, 5, 6))
    on = engine(x)
    m, v, centred = on(moments.moments)(x)
    y = on(moments.scale_shift)(centred, s, u, x.dtype)
    ds, du = on(moments.scale_shift_sums)(dy, centred)
    dx = on(moments.scale_shift_backward)(dy, centred, s, du, dm, 100 * dv)  # a large slope along x − m
    return {"m": m.since(mean), "v": v, "y": y, "ds": ds, "du": du, "dx": dx}


def _columns(dtype: str, stride: conv.Pair, padding: conv.Pair) -> Arrays:
    x = _device(1, 3, 4, 5, 7, dtype=dtype)
    on = engine(x)
    cols = on(conv.im2col)(x, (3, 2), stride, padding)
    other = _device(2, cols.shape[1], cols.shape[0], dtype=dtype).T
    return {"cols": cols, "dx": on(conv.col2im)(other, x.shape, (3, 2), stride, padding)}


def _pool(dtype: str, layer: Any, values: int) -> Arrays:
    """Run a pooling layer over an image of few values, so that maxima are tied, with -inf among them."""
    x = np.random.default_rng(1).integers(-values, values, (3, 4, 7, 9)).astype(dtype)
    x[x == values - 1] = -np.inf if isinstance(layer, MaxPool2d) else 1 / 3
    y = layer(to_device(x))
    dy = _device(2, *y.shape, dtype=dtype)
    return {"y": y, "dx": layer.backward(dy)}


def _max_pool_of_nan(dtype: str) -> Arrays:
    x = draw(1, 4, 3, 7, 9).astype(dtype)
    x[np.random.default_rng(2).random(x.shape) < 0.2] = np.nan
    layer = MaxPool2d((2, 3), padding=(1, 1))
    y = layer(to_device(x))
    return {"y": y, "dx": layer.backward(_device(2, *y.shape, dtype=dtype))}


def _max_pool_of_minus_infinity(dtype: str) -> Arrays:
    x = draw(1, 4, 3, 7, 9).astype(dtype)
    x[np.random.default_rng(2).random(x.shape) < 0.8] = -np.inf
    layer = MaxPool2d((2, 3), (1, 2), padding=(1, 1))
    y = layer(to_device(x))
    return {"y": y, "dx": layer.backward(_device(2, *y.shape, dtype=dtype))}


def _relu(dtype: str) -> Arrays:
    x, layer = draw(1, 5, 3, 7, 4).astype(dtype), ReLU()
    x.flat[::13] = np.nan
    x.flat[1::13] = 0
    y = layer(to_device(x))
    return {"y": y, "dx": layer.backward(_device(2, *y.shape, dtype=dtype))}


def _loss(dtype: str, scale: float, smoothing: float = 0.0) -> Arrays:
    loss = SoftmaxCrossEntropy(smoothing)
    logits, labels = _device(1, 7, 5, dtype=dtype) * scale, to_device(np.array([3, 0, 4, 4, 1, 2, 0]))
    value = loss.forward(logits, labels)
    return {"loss": value, "dlogits": loss.backward()}


def _norm_layer(dtype: str, make: Callable[..., Any], training: bool = True, mean: float = 0.5) -> Arrays:
    """Run a norm with its small function: every parameter and statistic drawn, two steps, so that gradients add up."""
    layer = make(dtype=dtype).train(training)
    for seed, (name, array) in enumerate(layer._named_arrays().items()):
        spread = name in ("running_var", "running_mean_square")
        value = draw(20 + seed, *array.shape, mean=0.8, std=0.5).astype(array.dtype)
        if name == "gate.weight":
            value *= 0.5 / mean  # so that every mode has its share
        array[...] = to_device(np.abs(value) + 3 if spread else value)
    grads = {}
    for seed, step in ((1, FIRST), (5, "")):
        y = layer(_device(seed, *LAYER_SHAPE, dtype=dtype, mean=mean))
        dx = layer.backward(_device(seed + 1, *LAYER_SHAPE, dtype=dtype, mean=-0.3))
        grads |= {f"{step}d{name}": grad.copy() for name, grad in layer.grads.items()}
    if mean > 1:  # then all samples have nearly the same gates, whose gradients vanish
        grads = {name: grad for name, grad in grads.items() if "gate" not in name}
    return {"y": y, "dx": dx} | grads | layer.buffers


def _optimiser(dtype: str, make: Callable[..., Any]) -> Arrays:
    layer = Linear(5, 7, rng=np.random.default_rng(1), dtype=dtype)
    optimiser = make(layer)
    for step in range(3):
        layer.grads["weight"][...] = _device(step, 7, 5, dtype=dtype)
        layer.grads["bias"][...] = _device(step + 9, 7, dtype=dtype)
        optimiser.step()
    return {"weight": layer.params["weight"], "bias": layer.params["bias"]} | {
        name: to_device(value.astype(dtype)) for name, value in optimiser.state().items()
    }


def _step(kind: Any, **rates: Any) -> Callable[[str], Arrays]:
    return partial(_optimiser, make=lambda layer: kind(layer, **rates))


CASES = {
    # a mean of p pixels errs by no more than p units of theirs, and is told by its distance to the mean asked for
    "norm": Case(partial(_norm, shape=(5, 3, 7, 9)), 63),
    "norm, one pixel": Case(partial(_norm, shape=(5, 3)), 20),
    "norm, one sample": Case(partial(_norm, shape=(1, 4, 5, 7)), 35),
    "norm, a mean of 1e4": Case(partial(_norm, shape=(4, 3, 7, 9), mean=1e4), 63),
    "batch_norm": Case(partial(_norm_layer, make=partial(BatchNorm, 6, 0.01, 0.3)), 30),
    "batch_norm, second_moment": Case(
        partial(_norm_layer, make=partial(BatchNorm, 6, 0.01, 0.3, running="second_moment")), 30
    ),
    "batch_norm, eval": Case(partial(_norm_layer, make=partial(BatchNorm, 6, 0.01, 0.3), training=False), 30),
    "batch_norm, a mean of 1e4": Case(partial(_norm_layer, make=partial(BatchNorm, 6, 0.01, 0.3), mean=1e4), 30),
    "group_norm, a mean of 1e4": Case(partial(_norm_layer, make=partial(GroupNorm, 2, 6, 0.01), mean=1e4), 30),
    "mode_norm, a mean of 1e4": Case(partial(_norm_layer, make=partial(ModeNorm, 6, 3, 0.01, 0.3), mean=1e4), 100),
    "mode_group_norm, a mean of 1e4": Case(
        partial(_norm_layer, make=partial(ModeGroupNorm, 6, 3, 0.01), mean=1e4), 100
    ),
    "mode_group_norm, pooled": Case(partial(_norm_layer, make=partial(ModeGroupNorm, 6, 3, 0.01, "pooled")), 100),
    "group_norm": Case(partial(_norm_layer, make=partial(GroupNorm, 2, 6, 0.01)), 30),
    "layer_norm": Case(partial(_norm_layer, make=partial(LayerNorm, 6, 0.01)), 30),
    "instance_norm": Case(partial(_norm_layer, make=partial(InstanceNorm, 6, 0.01)), 30),
    "mode_norm": Case(partial(_norm_layer, make=partial(ModeNorm, 6, 3, 0.01, 0.3)), 100),
    "mode_norm, an affine pair per mode": Case(
        partial(_norm_layer, make=partial(ModeNorm, 6, 3, 0.01, 0.3, per_mode_affine=True)), 100
    ),
    "mode_norm, eval": Case(partial(_norm_layer, make=partial(ModeNorm, 6, 3, 0.01, 0.3), training=False), 100),
    "mode_group_norm": Case(partial(_norm_layer, make=partial(ModeGroupNorm, 6, 3, 0.01)), 100),
    "im2col": Case(partial(_columns, stride=(1, 1), padding=(0, 0))),
    "im2col, stride and padding": Case(partial(_columns, stride=(2, 3), padding=(2, 1))),
    "max_pool": Case(lambda dtype: _pool(dtype, MaxPool2d((2, 3)), values=5)),
    "max_pool, overlapping": Case(lambda dtype: _pool(dtype, MaxPool2d((3, 2), (2, 1), (1, 1)), values=3), 4),
    "max_pool, NaN": Case(_max_pool_of_nan),
    "max_pool, -inf in the padding's company": Case(_max_pool_of_minus_infinity, 4),
    "avg_pool": Case(lambda dtype: _pool(dtype, AvgPool2d((2, 3)), values=5)),
    "avg_pool, overlapping": Case(lambda dtype: _pool(dtype, AvgPool2d((3, 2), (2, 1), (1, 1)), values=3)),
    "relu": Case(_relu),
    "softmax_cross_entropy": Case(partial(_loss, scale=1.5), 8),
    "softmax_cross_entropy, smoothed": Case(partial(_loss, scale=1.5, smoothing=0.3), 8),
    "softmax_cross_entropy, far logits": Case(partial(_loss, scale=300.0), 8),
    "sgd": Case(_step(SGD, lr=0.3)),
    "sgd, momentum": Case(_step(SGD, lr=0.3, momentum=0.7, weight_decay=0.1)),
    "sgd, nesterov": Case(_step(SGD, lr=0.3, momentum=0.7, weight_decay=0.1, nesterov=True)),
    "adam": Case(_step(Adam, lr=0.3, betas=(0.7, 0.8), eps=0.03)),
    "adam, decay": Case(_step(Adam, lr=0.3, betas=(0.7, 0.8), eps=0.03, weight_decay=0.4)),
    "adamw": Case(_step(AdamW, lr=0.3, betas=(0.7, 0.8), eps=0.03, weight_decay=0.4)),
}


def on_host(name: str, dtype: str) -> Arrays:
    """Return what NumPy computes."""
    return {key: np.array(value) for key, value in CASES[name].run(dtype).items()}


@dataclass
class Device:
    """How kernels are compiled and run during `on_device`; `launched` and `sources` collect what is."""

    grid: tuple[int, ...] | None = None
    block: tuple[int, ...] | None = None
    reverse: bool = False
    index: str | None = None
    contract: bool = False
    flags: tuple[str, ...] = ()
    change: Callable[[str], str] = str

    def __post_init__(self) -> None:
        self.launched: set[str] = set()
        self.sources: set[str] = set()

    def module(self, code: str, options: tuple[str, ...]) -> Any:
        """Stand in for RawModule."""
        defined = dict(option.removeprefix("-D").split("=") for option in options if option.startswith("-D"))
        self.sources |= {source for source in SOURCES if (FOLDER / f"{source}.cu").read_text("utf-8") == code}
        index = self.index or defined["INDEX"]
        real = {value: key for key, value in emulate.REAL.items()}[defined["REAL"]]
        of_source = emulate.compile(self.change(code), real, index, self.contract, self.flags)
        return _Module(self, of_source, np.int64 if index == "long long" else np.int32)


class _Module:
    def __init__(self, device: Device, of_source: dict[str, emulate.Kernel], index: type) -> None:
        self.device, self.of_source, self.index = device, of_source, index

    def get_function(self, name: str) -> Callable[..., None]:
        device, kernel = self.device, self.of_source[name]

        def call(grid: Any, block: Any, args: Any) -> None:
            device.launched.add(name)
            args = tuple(self.index(arg) if isinstance(arg, np.integer) else arg for arg in args)
            RawKernel(_Reversed(kernel, device.reverse))(device.grid or grid, device.block or block, args)

        return call


class _Reversed:
    def __init__(self, kernel: emulate.Kernel, reverse: bool) -> None:
        self.kernel, self.reverse, self.name = kernel, reverse, kernel.name

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self.kernel(*args, **kwargs, reverse=self.reverse)


@contextmanager
def running(device: Device) -> Iterator[None]:
    """Let kernels be compiled and run by this device, over the stand-in for CuPy."""
    with pytest.MonkeyPatch.context() as patch, strict.as_cupy(), use_backend("cupy"):
        patch.setattr(strict, "RawModule", lambda *, code, options: device.module(code, options))
        launch._module.cache_clear()
        try:
            yield
        finally:
            launch._module.cache_clear()


def on_device(name: str, dtype: str, device: Device | None = None) -> Arrays:
    """Return what the kernels compute."""
    with running(device or Device()):
        return {key: np.array(to_host(value)) for key, value in CASES[name].run(dtype).items()}


def _terms_of_gates(y: np.ndarray) -> float:
    """Return no less than the magnitudes of a gate's gradient's terms, x · dy · (y − β), whose float64 sum cancels."""
    x, dy = draw(5, *LAYER_SHAPE), draw(6, *LAYER_SHAPE, mean=-0.3)
    return float(2 * np.abs(x).max() * np.abs(dy).sum() * 2 * np.abs(y).max())  # in two steps; |β| is below |y|


def check(name: str, dtype: str, device: Device | None = None) -> None:
    """Hold what the kernels compute against what NumPy computes."""
    got, want, units = on_device(name, dtype, device), on_host(name, dtype), CASES[name].units
    if device and device.contract:
        units = max(units, 12)  # in each of three steps up to four products are added without their rounding
    for key in want:
        assert got[key].shape == want[key].shape, key
        assert got[key].dtype == want[key].dtype, key
        finite = np.isfinite(want[key])
        np.testing.assert_array_equal(got[key][~finite], want[key][~finite], f"{name}: {key}")
        added = want.get(FIRST + key, 0)  # what the rest was added to
        allowed = terms(2 * units, max(np.abs(want[key][finite]).max(initial=0), np.abs(added).max()), dtype)
        if "gate" in key:
            allowed += terms(2 * units, _terms_of_gates(want["y"]))
        assert_close(got[key][finite], want[key][finite], allowed, f"{name}: {key}")
