"""Outputs of a wrong shape: what is wrong with it, told from the sizes alone or from the values in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.check.diagnosis.consequences import within
from minidl.check.diagnosis.evidence import Bench, Tensor, kind_of
from minidl.check.plain.windows import pair
from minidl.check.runner import CaseResult

LEAST = 3  # cases that must show it
WINDOWS = "conv2d", "max_pool2d", "avg_pool2d"
Sizes = dict[str, tuple[int, int]]


def by_shape(bench: Bench, left: set[Tensor]) -> tuple[str, set[Tensor]] | None:
    """A line, and the outputs it explains, if outputs of a kind are right but for their shape, or have a wrong size."""
    bad: dict[str, set[Tensor]] = {}
    for i, name in sorted(left):
        if name in bench.results[i].wanted and misshapen(bench.results[i], name):
            bad.setdefault(kind_of(name), set()).add((i, name))
    for kind, tensors in bad.items():
        said = {told(bench.results[i], name) for i, name in tensors}
        if len(said) == 1 and None not in said and len({i for i, _ in tensors}) >= LEAST:
            i, name = min(tensors)
            got, want = np.shape(bench.results[i].outputs[name]), np.shape(bench.results[i].wanted[name])
            cases = {i for i, _ in tensors}
            hits = {at for at in left if at[0] in cases and (kind_of(at[1]) in bad or at[1] == "raised")}
            name = f"{kind.partition('.')[2]} {said.pop()}"
            text = f"{name}: it has shape {written(got)} where {written(want)} belongs, in {bench.results[i].case.id}"
            return f"{text} (explains {len(cases)} of {len(bench.failing)} failing cases)", hits
    return by_windows(bench, left) if "out.y" in bad else None


def written(shape: tuple[int, ...]) -> str:
    """A shape without line breaks."""
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def misshapen(result: CaseResult, name: str) -> bool:
    """Whether an output was given and has not the shape that it must have."""
    got = result.outputs.get(name)
    return got is not None and not isinstance(got, list) and np.shape(got) != np.shape(result.wanted[name])


def told(result: CaseResult, name: str) -> str | None:
    """What is wrong with the shape of an output whose values are right."""
    want, tol = np.asarray(result.wanted[name], np.float64), result.tol[name]
    try:
        got = np.asarray(result.outputs[name], np.float64)
    except (TypeError, ValueError):
        return None

    def same(value: Any) -> bool:
        return bool(value.shape == want.shape and within(value, want, 16 * np.asarray(tol)))

    for axes, words in (
        (tuple(range(max(got.ndim - want.ndim, 0))), "the first axes"),
        (tuple(k for k in range(got.ndim) if k != 1), "all axes but that of the channels"),
    ):
        if len(got) == len(result.case.inputs["in.x.0"]) and same(got.sum(axis=axes)):
            return "is not summed over the batch" if axes == (0,) else f"is not summed over {words}"
    if got.size == want.size and same(got.reshape(want.shape)):
        return "has axes of length 1 too many or too few"
    return "is transposed" if same(got.T) else None


def sizes_of(result: CaseResult) -> Sizes:
    """The sizes of y by formulas that are slips, in words; the right one under the empty word."""
    assert result.asked is not None
    o, x = result.asked.options, result.asked.inputs["in.x.0"]
    kernel = (
        result.asked.inputs["param.weight"].shape[2:] if "param.weight" in result.asked.inputs else o["kernel_size"]
    )
    k, s, p, d = pair(kernel), pair(o["stride"]), pair(o["padding"]), pair(o.get("dilation", 1))
    n = x.shape[2:]

    def each(of: Callable[[int, int], int]) -> tuple[int, int]:
        return of(0, 1), of(1, 0)

    def size(i: int, k: int, s: int, p: int, d: int) -> int:
        return int((n[i] + p - d * (k - 1) - 1) // max(s, 1) + 1)

    def right(i: int) -> int:
        return size(i, k[i], s[i], 2 * p[i], d[i])

    def up(i: int, _: int) -> int:
        return int(-((d[i] * (k[i] - 1) + 1 - n[i] - 2 * p[i]) // s[i]) + 1)

    return {
        "": each(lambda i, j: right(i)),
        "the width is worked out with the height's kernel and dilation": (
            right(0),
            size(1, k[0], s[1], 2 * p[1], d[0]),
        ),
        "the height is worked out with the width's kernel and dilation": (
            size(0, k[1], s[0], 2 * p[0], d[1]),
            right(1),
        ),
        "the width is worked out with the height's stride": (right(0), size(1, k[1], s[0], 2 * p[1], d[1])),
        "the height is worked out with the width's stride": (size(0, k[0], s[1], 2 * p[0], d[0]), right(1)),
        "the width is worked out with the height's padding": (right(0), size(1, k[1], s[1], 2 * p[0], d[1])),
        "the height is worked out with the width's padding": (size(0, k[0], s[0], 2 * p[1], d[0]), right(1)),
        "the kernel's height and width are swapped": each(lambda i, j: size(i, k[j], s[i], 2 * p[i], d[i])),
        "the strides of height and width are swapped": each(lambda i, j: size(i, k[i], s[j], 2 * p[i], d[i])),
        "the paddings of height and width are swapped": each(lambda i, j: size(i, k[i], s[i], 2 * p[j], d[i])),
        "the padding is counted once, not on both sides": each(lambda i, j: size(i, k[i], s[i], p[i], d[i])),
        "the padding is not counted": each(lambda i, j: size(i, k[i], s[i], 0, d[i])),
        "the stride is not counted": each(lambda i, j: size(i, k[i], 1, 2 * p[i], d[i])),
        "the dilation is not counted": each(lambda i, j: size(i, k[i], s[i], 2 * p[i], 1)),
        "the size is rounded up": each(up),
        "it is that of x": (n[0], n[1]),
        "it is one too small": each(lambda i, j: right(i) - 1),
        "it is one too large": each(lambda i, j: right(i) + 1),
    }


def by_windows(bench: Bench, left: set[Tensor]) -> tuple[str, set[Tensor]] | None:
    """The slip that gives the size of y in all cases of a convolution or pooling."""
    shown = [
        (i, result, sizes_of(result))
        for i, result in enumerate(bench.results)
        if result.case.layer in WINDOWS
        and result.asked is not None
        and np.asarray(result.outputs.get("out.y.0")).ndim == 4
    ]
    off = [i for i, result, _ in shown if misshapen(result, "out.y.0")]
    fits = [
        word
        for word in (shown[0][2] if shown else {})
        if word and all(np.shape(result.outputs["out.y.0"])[2:] == sizes[word] for _, result, sizes in shown)
    ]
    if len(off) < LEAST or len(fits) != 1:
        return None
    cases = set(off)
    for i in bench.failing:  # one that raises where the size would be wrong
        result = bench.results[i]
        if result.raised and result.asked is not None and "in.x.0" in result.asked.inputs:
            sizes = sizes_of(result)
            cases |= {i} if sizes[fits[0]] != sizes[""] else set()
    hits = {at for at in left if at[0] in cases}
    text = f"y has a wrong size, {fits[0]}: that gives its size in all cases"
    return f"{text} (explains {len(cases)} of {len(bench.failing)} failing cases)", hits
