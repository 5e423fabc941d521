"""Later failures that follow from an earlier one: right for the layer's own, wrong, earlier values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from minidl.check.case import LAST_AXIS, Array, Case
from minidl.check.expected import UNIT, exactly
from minidl.check.runner import CaseResult

SLACK = 4.0


def within(got: Any, want: Any, tol: Any) -> bool:
    """Whether all of got is within the tolerance of want, NaN where that is NaN."""
    one, other = np.asarray(got, np.float64), np.asarray(want, np.float64)
    with np.errstate(invalid="ignore"):
        close = np.abs(one - other) <= tol
    return bool((close | (one == other) | (np.isnan(one) & np.isnan(other))).all())


def alike(name: str, predicted: Any, result: CaseResult, dtype: str) -> bool:
    """Whether an output equals a prediction, up to the tolerance and the rounding of the larger of the two; an output
    that is missing is like nothing.
    """
    got = result.outputs.get(name)
    if got is None or np.shape(got) != np.shape(predicted):
        return False
    try:
        got = np.asarray(got, np.float64)
    except (TypeError, ValueError):
        return False
    tol = np.asarray(result.tol.get(name, 0), np.float64)
    tol = np.broadcast_to(tol, got.shape) if tol.shape == got.shape or tol.ndim == 0 else np.zeros(got.shape)
    size = np.abs(np.where(np.isfinite(predicted), predicted, 0)).astype(np.float64)
    return within(got, predicted, SLACK * tol + 64 * UNIT[dtype] * (size + float(size.max(initial=0.0))))


def mark_consequences(result: CaseResult, dtype: str) -> None:
    """Say of each wrong tensor whether it is right for the layer's own earlier, wrong values."""
    if result.asked is None:
        return
    wrong = [tensor.name for tensor in result.failed]
    steps = [step for step in result.case.steps if step != "reload"]
    for t, step in enumerate(steps):
        states = [name for name in wrong if name.startswith(f"state.{t}.")]
        if t and states and "reload" not in result.case.steps:
            own = {n: v for n, v in result.outputs.items() if n.startswith(f"state.{t}.")}
            redo = refed(result.asked, own, t, step)
            for tensor in result.failed:
                renamed = renumbered(tensor.name, t)
                if renamed in redo and tensor.name not in states and alike(tensor.name, redo[renamed], result, dtype):
                    tensor.follows = states[0]
        follow_output(result, t, "out" if step == "train" else "eval", dtype)


def renumbered(name: str, t: int) -> str:
    """The name of step t's output as the only step: out.y.3 gives out.y.0, state.4.x gives state.1.x."""
    if name.startswith(f"state.{t + 1}."):
        return "state.1." + name.split(".", 2)[2]
    return name[: -len(str(t))] + "0" if name.endswith(f".{t}") else ""


def refed(case: Case, own: Mapping[str, Any], t: int, step: str) -> dict[str, Array]:
    """What step t must answer from the layer's own state."""
    inputs: dict[str, Array] = {name: value for name, value in case.inputs.items() if name.startswith("param.")}
    inputs |= {f"in.{k}.0": case.inputs[f"in.{k}.{t}"] for k in ("x", "dy") if f"in.{k}.{t}" in case.inputs}
    try:
        inputs |= {f"state.0.{name.split('.', 2)[2]}": np.asarray(value, np.float64) for name, value in own.items()}
        return exactly(replace(case, steps=(step,), inputs=inputs, shards=()))
    except (ValueError, TypeError, AttributeError, IndexError):
        return {}


def follow_output(result: CaseResult, t: int, prefix: str, dtype: str) -> None:
    """Mark dweight that is right for the layer's own wrong y: sum of dy (y − bias) / weight."""
    wrong = {tensor.name: tensor for tensor in result.failed}
    y, grad = f"{prefix}.y.{t}", wrong.get(f"{prefix}.dweight.{t}")
    weight = result.case.inputs.get("param.weight")
    if y not in wrong or grad is None or weight is None or weight.ndim != 1 or y not in result.outputs:
        return
    if result.case.layer in LAST_AXIS:
        return
    dy = result.case.inputs.get(f"in.dy.{t}")
    try:
        out = np.asarray(result.outputs[y], np.float64)
    except (TypeError, ValueError):
        return
    if dy is None or out.shape != dy.shape:
        return
    column = (1, -1) + (1,) * (dy.ndim - 2)
    bias = result.case.inputs["param.bias"].astype(np.float64).reshape(column)
    xhat = (out - bias) / weight.astype(np.float64).reshape(column)
    redo = (dy.astype(np.float64) * xhat).sum(axis=(0, *range(2, dy.ndim)))
    if alike(grad.name, redo, result, dtype):
        grad.follows = y
