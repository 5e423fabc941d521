"""One table of layers, which the tests of every layer run through.

Sizes are 3, 4, 5, 7; no affine value, statistic, momentum or eps is 0 or 1; images tell height from width.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import layer_functions as plain
import numpy as np
import pytest
from layer_runs import Array, distinct, draw, host, parameters
from tolerance import TRIALS, cancelled_gates, rounding, sums

from minidl import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    InstanceNorm,
    Layer,
    LayerNorm,
    Linear,
    MaxPool2d,
    ModeGroupNorm,
    ModeNorm,
    ReLU,
    Residual,
    Sequential,
    Tanh,
    reference,
    to_device,
)

_LARGE_SIZE = 4000  # a larger x is for the tiles and threads of the CPU


@dataclass(frozen=True)
class Case:
    """How to make a layer, the shape it takes, and the reference functions it must agree with."""

    make: Callable[..., Layer]
    shape: tuple[int, ...]
    forward: Callable[..., Array]
    backward: Callable[..., dict[str, Array]]
    constants: dict[str, Any] = field(default_factory=dict)
    in_eval: tuple[Callable[..., Array], Callable[..., dict[str, Array]]] | None = None
    x: Callable[..., Array] = draw
    zero: tuple[str, ...] = ()  # gradients that vanish in training
    zero_in_eval: tuple[str, ...] = ()

    def layer(self, dtype: Any = "float64", training: bool = True) -> Layer:
        """Return the layer, every parameter and statistic drawn."""
        layer = self.make(dtype=dtype).train(training)
        for seed, (name, array) in enumerate(layer._named_arrays().items()):
            array[...] = to_device(_value(layer, name, 100 + seed), like=array)
        return layer

    def arrays(self, dtype: Any = "float64") -> tuple[Array, Array]:
        """Return x and a cotangent dy."""
        x = self.x(1, *self.shape).astype(dtype)
        return x, draw(2, *self.layer(dtype)(to_device(x)).shape, mean=0.0).astype(dtype)

    def wanted(self, layer: Layer, x: Array, dy: Array) -> tuple[Array, dict[str, Array]]:
        """Return y and the gradients that the reference gives for the layer's parameters and statistics."""
        forward, backward, arguments = self._reference(layer, x)
        return forward(**arguments, **self.constants), backward(dy, **arguments, **self.constants)

    def tolerances(self, layer: Layer, x: Array, dy: Array) -> dict[str, float]:
        """Return how far rounding may move y and each gradient of `wanted`."""
        forward, backward, arguments = self._reference(layer, x)

        def both(dy: Array, **moved: Array) -> dict[str, Array]:
            return {"y": forward(**moved, **self.constants)} | backward(dy, **moved, **self.constants)

        allowed = rounding(both, {"dy": dy} | arguments, trials=4 if x.size > _LARGE_SIZE else TRIALS)
        if "dbias" in allowed:  # a long sum, of which few trials may be lucky
            summed = np.abs(dy).sum(axis=(0, *range(2, dy.ndim))).max()
            allowed["dbias"] = max(allowed["dbias"], float(sums(2 * (dy.size // dy.shape[1]), summed)))
        if vanishing := self.vanishing(layer.training):
            least = cancelled_gates(dy, forward(**arguments, **self.constants), x, arguments["bias"])
            allowed |= {key: max(allowed[key], least[key]) for key in vanishing}
        return allowed

    def vanishing(self, training: bool) -> list[str]:
        """Return the names of the gradients that are 0."""
        return [f"d{name}" for name in (self.zero if training else self.zero_in_eval)]

    def _reference(self, layer: Layer, x: Array) -> tuple[Callable[..., Array], Callable[..., Any], dict[str, Array]]:
        """Return the reference functions of the layer's mode, and their arguments by name."""
        forward, backward = self.forward, self.backward
        arguments = {"x": x} | {name.replace(".", "_"): host(p) for name, p in parameters(layer).items()}
        if not layer.training and self.in_eval:
            forward, backward = self.in_eval
            arguments |= {name: host(b) for name, b in layer.buffers.items()}
        return forward, backward, arguments

    def modes(self) -> tuple[bool, ...]:
        """Return the values of `training` in which the layer differs."""
        return (True, False) if self.in_eval else (True,)


def _value(layer: Layer, name: str, seed: int) -> Array:
    shape = layer._named_arrays()[name].shape
    kind = name.rsplit(".", 1)[-1]
    if kind == "running_var":
        return 0.3 + np.abs(draw(seed, *shape))
    if kind == "running_mean_square":
        return host(layer.buffers["running_mean"]) ** 2 + 0.4 + np.abs(draw(seed, *shape))
    if "gate" in name:
        return draw(seed, *shape, mean=0.0, std=0.7)
    if kind == "running_mean":
        return draw(seed, *shape, mean=0.0)
    return draw(seed, *shape, mean=-0.7 if kind == "bias" else 0.8, std=0.5)


# -- the table ---------------------------------------------------------------------------------------------------------

_R = reference
_EPS = 0.01
_RNG = np.random.default_rng


def _conv(
    channels: int, out: int, kernel: Any, shape: tuple[int, ...], stride: Any = 1, padding: Any = 0, bias: bool = True
) -> Case:
    constants = {"stride": stride, "padding": padding} | ({} if bias else {"bias": None})
    return Case(
        lambda dtype: Conv2d(channels, out, kernel, stride, padding, bias=bias, rng=_RNG(0), dtype=dtype),
        shape,
        _R.conv2d,
        _R.conv2d_backward,
        constants,
    )


def _pool(
    layer: Callable[..., Layer], name: str, shape: tuple[int, ...], kernel: Any, stride: Any = None, padding: Any = 0
) -> Case:
    return Case(
        lambda dtype: layer(kernel, stride, padding),
        shape,
        getattr(_R, name),
        getattr(_R, f"{name}_backward"),
        {"kernel_size": kernel, "stride": stride, "padding": padding},
        x=distinct,
    )


def _batch_norm(shape: tuple[int, ...], running: str = "unbiased") -> Case:
    in_eval = (_R.batch_norm_eval, _R.batch_norm_eval_backward)
    return Case(
        lambda dtype: BatchNorm(shape[1], _EPS, 0.3, running, dtype),
        shape,
        _R.batch_norm,
        _R.batch_norm_backward,
        {"eps": _EPS},
        tuple(map(plain.second_moment, in_eval)) if running == "second_moment" else in_eval,  # type: ignore[arg-type]
    )


def _norm(layer: Callable[..., Layer], name: str, shape: tuple[int, ...], **constants: Any) -> Case:
    return Case(layer, shape, getattr(_R, name), getattr(_R, f"{name}_backward"), {"eps": _EPS} | constants)


def _mode_norm(
    shape: tuple[int, ...],
    modes: int,
    per_mode: bool = False,
    zero: tuple[str, ...] = (),
    zero_in_eval: tuple[str, ...] = (),
) -> Case:
    return Case(
        lambda dtype: ModeNorm(shape[1], modes, _EPS, 0.3, per_mode, rng=_RNG(0), dtype=dtype),
        shape,
        _R.mode_norm,
        _R.mode_norm_backward,
        {"eps": _EPS},
        (_R.mode_norm_eval, _R.mode_norm_eval_backward),
        zero=zero,
        zero_in_eval=zero_in_eval,
    )


def _mode_group_norm(shape: tuple[int, ...], modes: int, moments: str = "spatial", zero: tuple[str, ...] = ()) -> Case:
    return Case(
        lambda dtype: ModeGroupNorm(shape[1], modes, _EPS, moments, rng=_RNG(0), dtype=dtype),
        shape,
        _R.mode_group_norm,
        _R.mode_group_norm_backward,
        {"eps": _EPS, "moments": moments},
        zero=zero,
    )


_IMAGES = (3, 4, 5, 7)
_GATES = ("gate_weight", "gate_bias")

NORMS: dict[str, Case] = {
    "BatchNorm": _batch_norm(_IMAGES),
    "BatchNorm (N, C)": _batch_norm((7, 4)),
    "BatchNorm (N, C, L)": _batch_norm((3, 5, 7)),
    "BatchNorm, biased": _batch_norm(_IMAGES, "biased"),
    "BatchNorm, second moment": _batch_norm(_IMAGES, "second_moment"),
    "BatchNorm, N = 1": _batch_norm((1, 3, 5, 4)),
    "BatchNorm, rows in several parts": _batch_norm((37, 5, 12, 10)),
    "BatchNorm, channels in several blocks": _batch_norm((130, 3, 24, 24)),
    "InstanceNorm": _norm(lambda dtype: InstanceNorm(4, _EPS, dtype), "instance_norm", _IMAGES),
    "InstanceNorm (N, C, L)": _norm(lambda dtype: InstanceNorm(5, _EPS, dtype), "instance_norm", (3, 5, 7)),
    "LayerNorm": _norm(lambda dtype: LayerNorm(4, _EPS, dtype), "layer_norm", _IMAGES),
    "LayerNorm (N, C)": _norm(lambda dtype: LayerNorm(7, _EPS, dtype), "layer_norm", (3, 7)),
    "LayerNorm (N, C, L)": _norm(lambda dtype: LayerNorm(5, _EPS, dtype), "layer_norm", (4, 5, 3)),
    "GroupNorm": _norm(lambda dtype: GroupNorm(2, 4, _EPS, dtype), "group_norm", _IMAGES, num_groups=2),
    "GroupNorm (N, C)": _norm(lambda dtype: GroupNorm(3, 12, _EPS, dtype), "group_norm", (5, 12), num_groups=3),
    "GroupNorm (N, C, L)": _norm(lambda dtype: GroupNorm(2, 6, _EPS, dtype), "group_norm", (3, 6, 5), num_groups=2),
    "ModeNorm": _mode_norm((5, 4, 3, 7), 3),
    "ModeNorm (N, C)": _mode_norm((7, 4), 3),
    "ModeNorm (N, C, L)": _mode_norm((5, 3, 7), 2),
    "ModeNorm, K = 1": _mode_norm((5, 4, 3, 7), 1, zero=_GATES, zero_in_eval=_GATES),
    "ModeNorm, K > N": _mode_norm((3, 4, 5, 2), 7),
    "ModeNorm, N = 1": _mode_norm((1, 4, 5, 3), 2, zero=_GATES),
    "ModeNorm, an affine pair per mode": _mode_norm((5, 4, 3, 7), 3, per_mode=True),
    "ModeNorm, rows in several parts": _mode_norm((37, 5, 12, 10), 4),
    "ModeGroupNorm": _mode_group_norm((3, 5, 4, 7), 4),
    "ModeGroupNorm (N, C)": _mode_group_norm((3, 7), 3),
    "ModeGroupNorm (N, C, L)": _mode_group_norm((4, 5, 3), 2),
    "ModeGroupNorm, K = 1": _mode_group_norm((3, 5, 4, 7), 1, zero=_GATES),
    "ModeGroupNorm, K > C": _mode_group_norm((4, 3, 5), 7),
    "ModeGroupNorm, pooled moments": _mode_group_norm((3, 5, 4, 7), 4, "pooled"),
}

CASES: dict[str, Case] = {
    "Linear": Case(lambda dtype: Linear(5, 4, rng=_RNG(0), dtype=dtype), (7, 5), _R.linear, _R.linear_backward),
    "Linear, no bias": Case(
        lambda dtype: Linear(5, 4, bias=False, rng=_RNG(0), dtype=dtype), (3, 5), _R.linear, _R.linear_backward
    ),
    "Conv2d, two rows at once": _conv(3, 4, (2, 3), (3, 3, 5, 7)),
    "Conv2d, odd output rows": _conv(3, 4, (3, 2), (3, 3, 5, 7)),
    "Conv2d, many output channels": _conv(3, 11, (2, 3), (3, 3, 5, 7)),
    "Conv2d, no bias": _conv(3, 5, 3, (4, 3, 7, 5), bias=False),
    "Conv2d, pointwise": _conv(5, 7, 1, (3, 5, 4, 7)),
    "Conv2d, stride and padding": _conv(3, 5, (2, 3), (3, 3, 5, 7), stride=(2, 3), padding=(1, 2)),
    "Conv2d, two rows at once, stride and padding": _conv(2, 5, (4, 3), (3, 2, 7, 5), stride=(2, 1), padding=(1, 1)),
    "Conv2d, stride beyond the kernel": _conv(3, 11, (2, 1), (3, 3, 7, 9), stride=(3, 4)),
    "Conv2d, padding beyond the kernel": _conv(2, 3, (1, 2), (3, 2, 4, 3), stride=(1, 2), padding=(2, 3)),
    "Conv2d, the kernel is the image": _conv(3, 5, (4, 7), (3, 3, 4, 7)),
    "Conv2d, many samples": _conv(2, 3, (2, 3), (311, 2, 3, 7), padding=(0, 1)),
    "Conv2d, wide": _conv(2, 9, 3, (3, 2, 4, 401), stride=(1, 1), padding=1),
    "Conv2d, wide, stride": _conv(2, 3, 3, (5, 2, 5, 701), stride=(2, 3), padding=1),
    "Conv2d, tall": _conv(3, 4, (5, 3), (67, 3, 16, 6)),
    "MaxPool2d": _pool(MaxPool2d, "max_pool2d", (3, 4, 6, 8), 2),
    "MaxPool2d, a rest": _pool(MaxPool2d, "max_pool2d", (3, 4, 5, 7), 2),
    "MaxPool2d, overlapping": _pool(MaxPool2d, "max_pool2d", (3, 2, 5, 7), (3, 4), (2, 1), (1, 2)),
    "MaxPool2d, gaps": _pool(MaxPool2d, "max_pool2d", (3, 2, 7, 5), (2, 1), (3, 2)),
    "MaxPool2d, kernel 1": _pool(MaxPool2d, "max_pool2d", (3, 2, 5, 4), 1),
    "MaxPool2d, large": _pool(MaxPool2d, "max_pool2d", (130, 3, 12, 10), 2),
    "AvgPool2d, large": _pool(AvgPool2d, "avg_pool2d", (130, 3, 12, 10), 2),
    "AvgPool2d": _pool(AvgPool2d, "avg_pool2d", (3, 4, 6, 8), 2),
    "AvgPool2d, a rest": _pool(AvgPool2d, "avg_pool2d", (3, 4, 5, 7), 2),
    "AvgPool2d, overlapping": _pool(AvgPool2d, "avg_pool2d", (3, 2, 5, 7), (3, 4), (2, 1), (1, 2)),
    "AvgPool2d, gaps": _pool(AvgPool2d, "avg_pool2d", (3, 2, 7, 5), (2, 1), (3, 2)),
    "GlobalAvgPool2d": Case(
        lambda dtype: GlobalAvgPool2d(), _IMAGES, plain.global_avg_pool, plain.global_avg_pool_backward
    ),
    "ReLU": Case(lambda dtype: ReLU(), _IMAGES, plain.relu, plain.relu_backward, x=distinct),
    "ReLU, large": Case(lambda dtype: ReLU(), (130, 3, 8, 9), plain.relu, plain.relu_backward, x=distinct),
    "Tanh": Case(lambda dtype: Tanh(), _IMAGES, plain.tanh, plain.tanh_backward),
    "Tanh, large": Case(lambda dtype: Tanh(), (130, 3, 8, 9), plain.tanh, plain.tanh_backward),
    "Flatten": Case(lambda dtype: Flatten(), _IMAGES, plain.flatten, lambda dy, x: {"dx": plain.shaped_like(dy, x)}),
    "Dropout": Case(
        lambda dtype: Dropout(0.3, rng=_RNG(11)),
        _IMAGES,
        lambda x: x * plain.MASK,
        lambda dy, x: {"dx": dy * plain.MASK},
        in_eval=(lambda x: x, lambda dy, x: {"dx": dy}),
    ),
    "Sequential": Case(
        lambda dtype: Sequential(
            Linear(5, 4, rng=_RNG(0), dtype=dtype), ReLU(), Linear(4, 3, rng=_RNG(1), dtype=dtype)
        ),
        (7, 5),
        plain.row,
        plain.row_backward,
    ),
    "Residual": Case(
        lambda dtype: Residual(Linear(5, 4, rng=_RNG(0), dtype=dtype), Linear(5, 4, rng=_RNG(1), dtype=dtype)),
        (7, 5),
        plain.residual,
        plain.residual_backward,
    ),
    "Residual, identity": Case(
        lambda dtype: Residual(BatchNorm(4, _EPS, 0.3, dtype=dtype)),
        _IMAGES,
        plain.identity_residual,
        plain.identity_residual_backward,
    ),
    **NORMS,
}

_LARGE = {name for name, case in CASES.items() if np.prod(case.shape) > _LARGE_SIZE}


def each_with_each_library(names):
    """Parametrize a test over these cases, on NumPy and, but for the large ones, on the stand-in for CuPy."""
    pairs = [(name, "numpy") for name in names] + [(name, "strict") for name in names if name not in _LARGE]
    return pytest.mark.parametrize(("name", "library"), pairs, indirect=["library"])


EACH_CASE_AND_LIBRARY = each_with_each_library(CASES)
