"""Larger and odd-sized cases that are made from seeds when they are run, not stored.

Kernels have limits that small cases do not meet: a block of 128 values, a table of 64 channels, a tail that does not
fill a vector.  Expected values are those of the plain layer in extended precision, tolerances follow the rule of the
shipped vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from minidl.check import bfloat16
from minidl.check.case import LAST_AXIS, Array, Case
from minidl.check.cases import Table
from minidl.check.expected import FACTOR, TINY, UNIT, exactly, rounded_up, tolerances
from minidl.check.values import away_from_zero, uniform

FINDS = {
    "large": "a limit on the values that are reduced: a block, a tail, an index that overflows",
    "many-channels": "a limit on the channels: a table or a tile of 8, 32, 64 or 128",
    "odd-padding": "height and width that are mixed up",
    "many-samples": "a limit on the samples",
    "axes-alike": "a parameter that is broadcast along an axis of the same length as the channels'",
    "groups-rest": "groups together with a stride that leaves a rest of the image",
    "far-below": "a softmax that does not subtract the largest logit of the row",
    "again": "what one pass leaves behind for the next",
}
LARGE: tuple[tuple[int, ...], ...] = ((3, 5, 11, 13), (7, 3, 19, 17), (2, 3, 37, 31))
ALIKE: tuple[tuple[int, ...], ...] = ((4, 4), (5, 5, 5), (3, 5, 4, 5), (6, 3, 3, 3))
WIDE: tuple[tuple[int, ...], ...] = ((4, 70, 3), (3, 131, 2))


def norms(table: Table, layer: str) -> None:
    """Cases of a normalization."""
    for shape in LARGE:
        table.add(layer, "large", shape, "train eval", **groups(layer, 1))
    for shape in WIDE:
        table.add(
            layer,
            "many-channels",
            shape,
            "train eval",
            "many",
            **groups(layer, shape[1] // (10 if shape[1] == 70 else 1)),
        )

    for shape in ALIKE[layer == "instance_norm" :]:  # of a single value, for which there is another case
        table.add(layer, "axes-alike", shape, "train eval", **groups(layer, 1))
    for shape in ((3, 4, 5), (2, 5, 2, 3)) if layer == "mode_group_norm" else ():
        table.add(layer, "far-below", shape, "train", "outlier=30000", **groups(layer, 1))


def groups(layer: str, number: int) -> dict[str, Any]:
    """The options that a layer needs."""
    if layer == "group_norm":
        return {"num_groups": number}
    return {"num_modes": 2} if layer.startswith("mode") else {}


def convolutions(table: Table, layer: str) -> None:
    """Cases of convolution."""
    for flag, shape, out, kernel, stride, padding, steps in (
        ("large", (1, 2, 17, 19), 3, [3, 3], [1, 1], [1, 1], "train"),
        ("many-channels", (2, 9, 4, 5), 17, [3, 2], [1, 1], [1, 0], "train"),
        ("many-channels", (1, 35, 3, 3), 5, [2, 2], [1, 1], [0, 0], "train"),
        ("odd-padding", (2, 2, 4, 7), 3, [3, 2], [2, 1], [2, 1], "train"),
        ("many-samples", (37, 2, 3, 4), 3, [2, 3], [1, 1], [0, 0], "train"),
        ("again", (2, 2, 4, 5), 3, [2, 3], [1, 1], [0, 0], "train train train"),
        ("groups-rest", (2, 4, 6, 7), 6, [3, 2], [2, 2], [0, 1], "train"),
        ("groups-rest", (3, 6, 4, 6), 3, [3, 2], [2, 3], [1, 0], "train"),
    ):
        groups = shape[1] // 2 if flag == "groups-rest" else 1
        key = f"seeded conv2d {flag} {shape}"
        params = {
            "weight": away_from_zero(f"{key} weight", out, shape[1] // groups, *kernel),
            "bias": away_from_zero(f"{key} bias", out),
        }
        options: dict[str, Any] = {
            "in_channels": shape[1],
            "out_channels": out,
            "kernel_size": kernel,
            "stride": stride,
            "padding": padding,
        } | ({"groups": groups} if groups > 1 else {})
        table.add(layer, flag, shape, steps, params=params, bias=1, **options)


def poolings(table: Table, layer: str) -> None:
    """Cases of pooling."""
    for flag, shape, kernel, stride, padding, steps in (
        ("large", (1, 2, 17, 19), [3, 3], [2, 2], [1, 1], "train"),
        ("many-channels", (2, 35, 5, 4), [2, 3], [1, 1], [0, 1], "train"),
        ("odd-padding", (2, 2, 5, 7), [3, 2], [2, 1], [1, 0], "train"),
        ("odd-padding", (2, 3, 4, 6), [2, 4], [1, 2], [0, 2], "train"),
        ("many-samples", (37, 2, 3, 4), [2, 2], [1, 1], [0, 0], "train"),
        ("again", (2, 3, 5, 6), [3, 3], [2, 2], [1, 1], "train- train"),
    ):
        table.add(
            layer,
            flag,
            shape,
            steps,
            x="mean=-3" if flag == "odd-padding" else "normal",
            kernel_size=kernel,
            stride=stride,
            padding=padding,
        )


def linears(table: Table, layer: str) -> None:
    """Cases of the affine map."""
    rows: tuple[tuple[str, int, int, int, dict[str, Any]], ...] = (
        ("large", 7, 133, 5, {}),
        ("many-channels", 3, 9, 70, {}),
        ("many-samples", 65, 4, 3, {}),
        ("axes-alike", 3, 4, 4, {}),
        ("again", 5, 4, 3, {"memory": "fortran", "steps": "train- train"}),
        ("again", 4, 5, 3, {"memory": "strided", "steps": "train train"}),
    )
    for flag, n, into, out, more in rows:
        key = f"seeded linear {flag} {n}"
        params = {"weight": away_from_zero(f"{key} weight", out, into), "bias": away_from_zero(f"{key} bias", out)}
        table.add(layer, flag, (n, into), params=params, in_features=into, out_features=out, bias=1, **more)


def losses(table: Table, layer: str) -> None:
    """Cases of the loss."""
    rows: tuple[tuple[str, tuple[int, int], dict[str, Any]], ...] = (
        ("many-samples", (67, 4), {}),
        ("large", (3, 131), {}),
        ("again", (4, 3), {"steps": "train- train"}),
        ("again", (5, 4), {"x": "wide=20", "steps": "train train"}),
        ("far-below", (5, 4), {"x": "mean=-150"}),
        ("far-below", (3, 6), {"x": "mean=-900"}),
    )
    for flag, shape, more in rows:
        labels = (shape[1] * uniform(f"seeded {layer} {flag} {shape}", shape[0])).astype(np.int64)
        table.add(layer, flag, shape, params={"labels": labels}, **more)


def rows(table: Table, layer: str) -> None:
    """Cases of a normalization over the last axis."""
    for flag, shape in (
        ("large", (3, 5, 143)),
        ("large", (2, 1147)),
        ("many-channels", (4, 3, 70)),
        ("many-samples", (37, 3, 5)),
        ("many-samples", (2, 3, 41, 6)),
    ):
        table.add(layer, flag, shape, "train eval")


MAKERS: dict[str, Callable[[Table, str], None]] = {
    "layer_norm_last": rows,
    "rms_norm": rows,
    "conv2d": convolutions,
    "max_pool2d": poolings,
    "avg_pool2d": poolings,
    "linear": linears,
    "softmax_cross_entropy": losses,
}


def definitions(layer: str) -> list[Case]:
    """The cases of a layer, without expected values."""
    table = Table()
    MAKERS.get(layer, norms)(table, layer)
    return [replace(case, id=case.id.replace(f"{layer}-", f"{layer}-seeded-", 1)) for case in table.cases]


@cache
def seeded(layer: str, dtype: str) -> tuple[Case, ...]:
    """The cases of a layer with expected values, and with the tolerances of one dtype."""
    cases = []
    for case in definitions(layer):
        if (case.layer, case.flag, dtype) == ("mode_group_norm", "far-below", "float64"):
            continue  # its logits of 1e4 are rounded, which `tolerances` does not know; float32 shows the overflow
        if dtype == bfloat16.NAME:
            near = bfloat16.narrowed(case)
            cases += [near] if near else []
        elif case.runs_in(dtype):
            values = {name: value.astype(np.float64) for name, value in exactly(case).items()}
            tol = {
                name: np.maximum(evened(value), in_turn(case, name, values[name], dtype))
                for name, value in tolerances(case, dtype, values).items()
            }
            if layer == "max_pool2d":
                tol |= cancelling(case, dtype)
            cases.append(replace(case, expected=values, tol={dtype: tol}))
    return tuple(cases)


def evened(tolerance: Array) -> Array:
    """No element's tolerance is below half the mean of its tensor's.

    An element may owe a small tolerance to how the plain formula is arranged; with more elements, more of them do.
    """
    mean = tolerance.mean(where=np.isfinite(tolerance)) if tolerance.size else 0.0
    return np.asarray(np.maximum(tolerance, np.float32(0.5 * mean)))


def in_turn(case: Case, name: str, want: Array, dtype: str) -> Array:
    """What a sum may err whose n terms are added one after the other, of a gradient of a parameter or a running
    statistic.

    Each addition rounds a partial sum; where these grow evenly to the sum S, the errors add up to a deviation of
    u |S| sqrt(n) / 3, of which this is 4.5 times.
    """
    summed = name.startswith("state.") or ".dweight." in name or ".dbias." in name
    x = case.inputs["in.x.0"]
    n = x.size / x.shape[-1 if case.layer in LAST_AXIS else 1] if summed and x.ndim > 1 else 0.0
    return rounded_up(1.5 * n**0.5 * UNIT[dtype] * np.abs(np.nan_to_num(want)) + TINY[dtype])


def cancelling(case: Case, dtype: str) -> dict[str, Any]:
    """Tolerances of the dx of overlapping windows by max pooling, whose terms may cancel: those of the magnitudes."""
    sizes = {name: abs(value) if name.startswith("in.dy.") else value for name, value in case.inputs.items()}
    summed = exactly(replace(case, inputs=sizes))
    return {
        name: rounded_up(FACTOR * (UNIT[dtype] * value.astype(np.float64) + TINY[dtype]))
        for name, value in summed.items()
        if name.startswith("out.dx.")
    }
