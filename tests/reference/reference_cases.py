"""One table of calls to the reference functions, which the tests of this folder run through.

Sizes are 3, 4, 5, 7, and no affine value, statistic, momentum or eps is 0 or 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tolerance import cancelled_gates, rounding

from minidl import reference

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A forward, its backward, the arrays to differentiate by, and the other arguments."""

    forward: Callable[..., Any]
    backward: Callable[..., dict[str, Array]]
    inputs: dict[str, Array]
    constants: dict[str, Any] = field(default_factory=dict)
    zero: tuple[str, ...] = ()

    def y(self, **inputs: Array) -> Any:
        """Run the forward."""
        return self.forward(**inputs, **self.constants)

    def gradients(self, dy: Array) -> dict[str, Array]:
        """Run the backward."""
        return self.backward(dy, **self.inputs, **self.constants)

    def tolerances(self, dy: Array, **inputs: Array) -> dict[str, float]:
        """Return how far rounding may move y and each gradient, at the inputs or at others."""

        def both(dy: Array, **arrays: Any) -> dict[str, Array]:
            return {"y": self.forward(**arrays)} | self.backward(dy, **arrays)

        allowed = rounding(both, {"dy": np.asarray(dy)} | self.inputs | inputs | self.constants)
        if not self.zero:
            return allowed
        least = cancelled_gates(dy, self.y(**self.inputs | inputs), self.inputs["x"], self.inputs["bias"])
        return allowed | {f"d{name}": max(allowed[f"d{name}"], least[f"d{name}"]) for name in self.zero}

    def cotangent(self) -> Array:
        """Return a random dy."""
        return np.random.default_rng(2).normal(size=np.shape(self.y(**self.inputs)))


def draw(seed: int, *shape: int, mean: float = 0.5, std: float = 1.5) -> Array:
    """Return normal numbers about a mean."""
    return np.random.default_rng(seed).normal(mean, std, size=shape)


def norm_inputs(*shape: int) -> dict[str, Array]:
    """Return x, weight and bias."""
    C = shape[1]
    return {"x": draw(1, *shape), "weight": draw(3, C, mean=2.0, std=0.5), "bias": draw(4, C, mean=-1.0, std=0.5)}


def gate(K: int, C: int) -> dict[str, Array]:
    """Return gate_weight and gate_bias, large enough that the gates differ from sample to sample."""
    return {"gate_weight": draw(5, K, C, mean=0.0), "gate_bias": draw(6, K, mean=0.0)}


def moments(*shape: int) -> dict[str, Array]:
    """Return running_mean and running_mean_square, of a positive variance."""
    mean = draw(7, *shape, mean=0.3, std=0.7)
    return {"running_mean": mean, "running_mean_square": mean**2 + 0.4 + np.abs(draw(8, *shape))}


def distinct(*shape: int) -> Array:
    """Return numbers that differ by 0.1 or more, in random order, for the max pool."""
    size = int(np.prod(shape))
    return (0.1 * (np.random.default_rng(9).permutation(size) - size / 3)).reshape(shape)


_R = reference
_RUNNING = {"running_mean": draw(7, 4), "running_var": np.abs(draw(8, 4)) + 0.3}
_EPS = {"eps": 1e-3}

CASES: dict[str, Case] = {
    "batch_norm": Case(_R.batch_norm, _R.batch_norm_backward, norm_inputs(3, 4, 5, 7), _EPS),
    "batch_norm (N, C)": Case(_R.batch_norm, _R.batch_norm_backward, norm_inputs(7, 4), _EPS),
    "batch_norm (N, C, L)": Case(_R.batch_norm, _R.batch_norm_backward, norm_inputs(3, 4, 7), _EPS),
    "batch_norm_eval": Case(
        _R.batch_norm_eval, _R.batch_norm_eval_backward, norm_inputs(3, 4, 5, 7), _RUNNING | {"eps": 0.2}
    ),
    "instance_norm": Case(_R.instance_norm, _R.instance_norm_backward, norm_inputs(3, 4, 5, 7), _EPS),
    "layer_norm": Case(_R.layer_norm, _R.layer_norm_backward, norm_inputs(3, 4, 5, 7), _EPS),
    "layer_norm (N, C)": Case(_R.layer_norm, _R.layer_norm_backward, norm_inputs(3, 7), _EPS),
    "group_norm": Case(_R.group_norm, _R.group_norm_backward, norm_inputs(3, 4, 5, 7), {"num_groups": 2} | _EPS),
    "gates": Case(_R.gates, _R.gates_backward, {"x": draw(1, 5, 4, 3)} | gate(3, 4)),
    "channel_gates": Case(_R.channel_gates, _R.channel_gates_backward, {"x": draw(1, 5, 4, 3)} | gate(3, 1)),
    "mode_norm": Case(_R.mode_norm, _R.mode_norm_backward, norm_inputs(5, 4, 3, 7) | gate(3, 4), _EPS),
    "mode_norm (N, C)": Case(_R.mode_norm, _R.mode_norm_backward, norm_inputs(7, 4) | gate(3, 4), _EPS),
    "mode_norm (N, C, L)": Case(_R.mode_norm, _R.mode_norm_backward, norm_inputs(5, 4, 7) | gate(3, 4), _EPS),
    "mode_norm, K > N": Case(_R.mode_norm, _R.mode_norm_backward, norm_inputs(3, 4, 5) | gate(7, 4), _EPS),
    "mode_norm, N = 1": Case(
        _R.mode_norm, _R.mode_norm_backward, norm_inputs(1, 4, 5) | gate(3, 4), _EPS, zero=("gate_weight", "gate_bias")
    ),
    "mode_norm, an affine pair per mode": Case(
        _R.mode_norm,
        _R.mode_norm_backward,
        norm_inputs(5, 4, 3, 7) | gate(3, 4) | {"weight": draw(3, 3, 4, mean=2.0), "bias": draw(4, 3, 4, mean=-1.0)},
        _EPS,
    ),
    "mode_norm_eval": Case(
        _R.mode_norm_eval,
        _R.mode_norm_eval_backward,
        norm_inputs(5, 4, 3, 7) | gate(3, 4),
        moments(3, 4) | {"eps": 0.2},
    ),
    "mode_norm_eval, an affine pair per mode": Case(
        _R.mode_norm_eval,
        _R.mode_norm_eval_backward,
        norm_inputs(5, 4, 3) | gate(3, 4) | {"weight": draw(3, 3, 4, mean=2.0), "bias": draw(4, 3, 4, mean=-1.0)},
        moments(3, 4) | {"eps": 0.2},
    ),
    "mode_group_norm": Case(
        _R.mode_group_norm, _R.mode_group_norm_backward, norm_inputs(3, 5, 4, 7) | gate(4, 1), _EPS
    ),
    "mode_group_norm (N, C)": Case(
        _R.mode_group_norm, _R.mode_group_norm_backward, norm_inputs(3, 7) | gate(4, 1), _EPS
    ),
    "mode_group_norm, pooled moments": Case(
        _R.mode_group_norm,
        _R.mode_group_norm_backward,
        norm_inputs(3, 5, 4, 7) | gate(4, 1),
        {"moments": "pooled"} | _EPS,
    ),
    "conv2d": Case(
        _R.conv2d,
        _R.conv2d_backward,
        {"x": draw(1, 2, 3, 5, 7), "weight": draw(3, 4, 3, 2, 3), "bias": draw(4, 4)},
        {"stride": (2, 3), "padding": (1, 2)},
    ),
    "conv2d, no bias": Case(
        _R.conv2d, _R.conv2d_backward, {"x": draw(1, 2, 3, 5, 4), "weight": draw(3, 4, 3, 3, 2)}, {"bias": None}
    ),
    "max_pool2d": Case(_R.max_pool2d, _R.max_pool2d_backward, {"x": distinct(2, 3, 5, 7)}, {"kernel_size": 2}),
    "max_pool2d, overlapping": Case(
        _R.max_pool2d,
        _R.max_pool2d_backward,
        {"x": distinct(2, 3, 5, 7)},
        {"kernel_size": (3, 4), "stride": (2, 1), "padding": (1, 2)},
    ),
    "avg_pool2d": Case(_R.avg_pool2d, _R.avg_pool2d_backward, {"x": draw(1, 2, 3, 5, 7)}, {"kernel_size": 2}),
    "avg_pool2d, overlapping": Case(
        _R.avg_pool2d,
        _R.avg_pool2d_backward,
        {"x": draw(1, 2, 3, 5, 7)},
        {"kernel_size": (3, 4), "stride": (2, 1), "padding": (1, 2)},
    ),
    "linear": Case(_R.linear, _R.linear_backward, {"x": draw(1, 3, 5), "weight": draw(3, 4, 5), "bias": draw(4, 4)}),
    "linear, no bias": Case(_R.linear, _R.linear_backward, {"x": draw(1, 3, 5), "weight": draw(3, 4, 5)}),
    "softmax_cross_entropy": Case(
        _R.softmax_cross_entropy,
        _R.softmax_cross_entropy_backward,
        {"logits": draw(1, 5, 4)},
        {"labels": np.array([3, 0, 2, 2, 1])},
    ),
}
