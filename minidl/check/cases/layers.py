"""The cases of convolution, pooling, the affine map and the loss."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minidl.check.cases.table import Table
from minidl.check.values import away_from_zero, uniform


def fill(table: Table) -> None:
    """Add the cases."""
    convolutions(table)
    poolings(table)
    affine(table)
    losses(table)
    spaced(table)


def convolution(
    table: Table, flag: str, shape: tuple[int, ...], out: int, kernel: list[int], stride: Any, padding: Any, **more: Any
) -> None:
    """Add a case of convolution."""
    key = f"conv2d {flag} {len(table.cases)}"
    weight = (out, shape[1] // more.get("groups", 1), *kernel)
    params = {"weight": away_from_zero(f"{key} weight", *weight)}
    if more.pop("bias", 1):
        params["bias"] = away_from_zero(f"{key} bias", out)
    options = {
        "in_channels": shape[1],
        "out_channels": out,
        "kernel_size": kernel,
        "stride": stride,
        "padding": padding,
    }
    table.add("conv2d", flag, shape, params=params, bias=int("bias" in params), **options, **more)


def convolutions(table: Table) -> None:
    """Convolution."""
    add = partial(convolution, table)
    image = (2, 3, 5, 7)
    add("kernel-3x3", image, 4, [3, 3], 1, 1)
    add("kernel-oblong", image, 4, [3, 2], 1, 0)
    add("kernel-oblong", image, 2, [2, 4], [1, 2], [0, 1])
    add("kernel-1x1", (3, 4, 3, 5), 5, [1, 1], 1, 0)
    add("stride", image, 2, [3, 3], 2, 0)
    add("stride-oblong", (2, 3, 6, 7), 2, [3, 3], [2, 3], [1, 0])
    add("padding-wide", (2, 2, 3, 4), 3, [3, 5], 1, [1, 2])
    add("no-bias", image, 3, [2, 3], 1, 0, bias=0)
    add("no-bias", image, 3, [2, 2], 2, 0, bias=0)
    add("n1", (1, 3, 5, 4), 2, [3, 2], 1, 1)
    for memory in ("batch-innermost", "nhwc-view", "broadcast-dy"):
        add(f"memory-{memory}", image, 3, [3, 2], 1, 1, memory=memory)
    add("accumulate", (2, 2, 4, 5), 3, [2, 3], 1, 0, steps="train train")


def spaced(table: Table) -> None:
    """Convolution with dilation and groups."""
    add = partial(convolution, table)
    image = (2, 3, 5, 7)
    add("dilation", image, 3, [3, 2], 1, 1, dilation=2)
    add("dilation", (2, 2, 6, 7), 3, [2, 3], [1, 2], [0, 1], dilation=[3, 2])
    add("groups", (2, 4, 4, 5), 6, [3, 2], 1, 1, groups=2)
    add("groups", (2, 6, 4, 3), 3, [2, 2], 1, 0, groups=3, bias=0)
    add("depthwise", (2, 3, 5, 4), 6, [3, 3], [2, 1], 1, groups=3)
    add("dilation-groups", (2, 4, 5, 7), 2, [2, 3], [2, 1], [1, 2], dilation=[1, 2], groups=2)


def poolings(table: Table) -> None:
    """Max and average pooling."""
    for layer in ("max_pool2d", "avg_pool2d"):
        for flag, kernel, stride, padding, shape in (
            ("kernel-2x2", 2, 2, 0, (2, 3, 4, 6)),
            ("kernel-oblong", [3, 2], [3, 2], 0, (2, 3, 6, 4)),
            ("overlap", 3, 2, 1, (2, 3, 5, 7)),
            ("overlap", [2, 3], 1, 0, (2, 3, 4, 5)),
            ("padding-oblong", [2, 4], [2, 3], [1, 2], (2, 2, 5, 6)),
            ("ragged", 2, 2, 0, (3, 2, 5, 7)),
            ("stride-oblong", 2, [1, 2], 0, (2, 3, 4, 5)),
        ):
            table.add(layer, flag, shape, kernel_size=kernel, stride=stride, padding=padding)
        for memory in ("batch-innermost", "nhwc-view", "broadcast-dy"):
            table.add(layer, f"memory-{memory}", (2, 3, 5, 6), memory=memory, kernel_size=3, stride=2, padding=1)
        table.add(layer, "negative", (2, 3, 4, 5), x="mean=-9", kernel_size=3, stride=2, padding=1)
    table.add("max_pool2d", "ties", (2, 3, 4, 6), x="ties", kernel_size=2, stride=2, padding=0)
    table.add("max_pool2d", "ties", (2, 3, 5, 5), x="ties", kernel_size=3, stride=2, padding=1)


def affine(table: Table) -> None:
    """The affine map."""
    rows: tuple[tuple[str, int, int, int, int, dict[str, Any]], ...] = (
        ("shape-nc", 5, 4, 3, 1, {}),
        ("shape-nc", 3, 4, 7, 1, {}),
        ("n1", 1, 4, 3, 1, {}),
        ("square", 4, 5, 5, 1, {}),
        ("no-bias", 4, 3, 5, 0, {}),
        ("accumulate", 3, 4, 2, 1, {"steps": "train train"}),
        ("accumulate", 4, 2, 5, 1, {"steps": "train train train"}),
        ("two-forwards", 3, 4, 2, 1, {"steps": "train- train"}),
        ("memory-fortran", 5, 4, 3, 1, {"memory": "fortran"}),
        ("memory-strided", 5, 4, 3, 1, {"memory": "strided"}),
    )
    for flag, n, into, out, bias, more in rows:
        key = f"linear {flag} {len(table.cases)}"
        params = {"weight": away_from_zero(f"{key} weight", out, into)}
        if bias:
            params["bias"] = away_from_zero(f"{key} bias", out)
        table.add("linear", flag, (n, into), params=params, in_features=into, out_features=out, bias=bias, **more)


def losses(table: Table) -> None:
    """Softmax cross-entropy; dy is a number, which a loss inside a larger one receives."""
    layer = "softmax_cross_entropy"

    def add(flag: str, shape: tuple[int, int], x: str = "normal", **more: Any) -> None:
        labels = (shape[1] * uniform(f"{layer} {flag} {len(table.cases)}", shape[0])).astype(np.int64)
        table.add(layer, flag, shape, x=x, params={"labels": labels}, **more)

    add("shape-nc", (5, 4))
    add("shape-nc", (3, 7))
    add("n1", (1, 5))
    add("two-classes", (6, 2))
    add("logits-50", (4, 5), "wide=50")
    add("logits-800", (4, 5), "wide=800")
    add("logits-1e4", (4, 3), "wide=10000")
    add("shifted", (4, 5), "mean=900")
    add("ties", (4, 3), "ties")
    add("memory-fortran", (5, 4), memory="fortran")
    add("two-forwards", (5, 4), steps="train- train")
