"""Name what is wrong: the known-wrong variant that answers as the layer under test did.

A case is *explained* by a variant whose outputs, computed in float64 (longer than the layer's own digits), equal what the layer
gave, wrong values and right ones.  Bugs that only add rounding noise are told by which cases they fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minidl.check.case import Array, Case
from minidl.check.compare import compare
from minidl.check.conventions import Conventions, summed_gradients
from minidl.check.expected import UNIT, exactly
from minidl.check.program import play
from minidl.check.runner import CaseResult, run_case
from minidl.check.variants import Variant, known_wrong

SLACK = 4.0
ALIKE = 0.6


def diagnose(results: Sequence[CaseResult], layer: str, dtype: str, conventions: Conventions) -> list[str]:
    """Return a line for each known-wrong variant that explains failing cases, the most telling first.

    Sets ``cause`` of every case it explains, and ``follows`` of tensors that are right for the layer's own earlier values.
    """
    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        mark_consequences(result, dtype)
    if not failed:
        return []
    passed = [result for result in results if result.status == "passed" and result.outputs]
    explained = {v.name: [r for r in failed if explains(v, r, dtype, conventions)] for v in known_wrong(layer)}
    by_name = {variant.name: variant for variant in known_wrong(layer)}
    lines: list[str] = []
    open_cases = list(failed)
    while open_cases:
        counts = {name: [r for r in found if r in open_cases] for name, found in explained.items()}
        most = max((len(found) for found in counts.values()), default=0)
        if not most:
            break
        best = [name for name, found in counts.items() if len(found) == most]
        best = without_contradiction([by_name[name] for name in best], passed, dtype, conventions)
        lines.append(sentence([by_name[name] for name in best], len(counts[best[0]]), len(failed)))
        for result in counts[best[0]]:
            result.cause = " or ".join(best)
            open_cases.remove(result)
    if open_cases:
        lines += by_symptom(open_cases, results, layer, dtype, conventions)
    return lines


def sentence(variants: Sequence[Variant], count: int, of: int) -> str:
    """One line of the diagnosis."""
    first = variants[0]
    text = f"{first.name}: {first.says} (explains {count} of {of} failing cases)"
    if len(variants) > 1:
        text += "; these cases cannot tell it from: " + ", ".join(variant.name for variant in variants[1:])
    if first.seen:
        text += f"; seen in {', '.join(first.seen)}"
    return text


def answers(variant: Variant, case: Case, dtype: str, conventions: Conventions) -> tuple[dict[str, Any], bool]:
    """Outputs of a variant on a case in the adapter's conventions, and whether it raised."""
    kind = np.float32 if dtype == "float16" else np.float64

    def place(name: str, array: Array) -> Array:
        return array.copy() if array.dtype.kind == "i" else arranged_as(array.astype(kind), name, case)

    outputs: dict[str, Any] = {}
    raised = False
    asked = replace(case, options=case.options | {"running_var": conventions.running_var})
    try:
        with np.errstate(all="ignore"):
            for name, value in play(variant, asked, place):
                outputs[name] = np.array(value)
    except Exception:
        raised = True
    if variant.declares:
        return outputs, raised
    return summed_gradients(outputs, conventions), raised


def arranged_as(array: Array, name: str, case: Case) -> Array:
    """x and dy in the memory the case asks for, which some bugs depend on."""
    from minidl.check.memory import arranged

    return arranged(array, case.memory) if name.startswith("in.") else array


def explains(variant: Variant, result: CaseResult, dtype: str, conventions: Conventions) -> bool:
    """Whether the variant answers the case as the layer under test did."""
    if variant.symptom or (variant.dtype == "float16") != (dtype == "float16"):
        return False
    outputs, raised = answers(variant, result.case, dtype, conventions)
    if raised or result.message.startswith("raised"):
        return raised and result.message.startswith("raised")
    if result.message.startswith("the layer changed"):
        return run_case(variant, result.case, dtype, Conventions(grads=conventions.grads)).message == result.message
    if not result.tensors:
        return bool(result.outputs)
    return all(name in outputs and alike(name, outputs[name], result, dtype) for name in result.case.expected)


def alike(name: str, predicted: Array, result: CaseResult, dtype: str) -> bool:
    """Whether an output equals a variant's, up to the tolerance and the rounding of the larger of the two."""
    got = result.outputs.get(name)
    if got is None or np.shape(got) != np.shape(predicted):
        return got is None
    tol = np.broadcast_to(np.asarray(result.case.tol[dtype].get(name, 0), np.float64), np.shape(predicted))
    size = np.abs(np.where(np.isfinite(predicted), predicted, 0)).astype(np.float64)
    scale = float(size.max(initial=0.0))
    return compare(name, got, predicted, SLACK * tol + 64 * UNIT[dtype] * (size + scale)).worst <= 1


def without_contradiction(
    variants: Sequence[Variant], passed: Sequence[CaseResult], dtype: str, conventions: Conventions
) -> list[str]:
    """Names of the variants that agree best with the cases that passed; ties stay together."""
    if len(variants) == 1:
        return [variants[0].name]
    wrong = {v.name: sum(not explains(v, result, dtype, conventions) for result in passed) for v in variants}
    least = min(wrong.values())
    return [variant.name for variant in variants if wrong[variant.name] == least]


def by_symptom(
    open_cases: Sequence[CaseResult],
    results: Sequence[CaseResult],
    layer: str,
    dtype: str,
    conventions: Conventions,
) -> list[str]:
    """Name a variant whose wrong digits are noise, by the cases it fails."""
    failing = {result.case.id for result in open_cases}
    lines = []
    for variant in known_wrong(layer):
        if not variant.symptom:
            continue
        trials = [run_case(variant, r.case, dtype, Conventions(grads="overwrite")) for r in results if r.case.result == "valid" and not r.case.shards]
        theirs = {trial.case.id for trial in trials if trial.status == "failed"}
        common = failing & theirs
        if common and len(common) >= ALIKE * len(failing | theirs):
            for result in open_cases:
                result.cause = result.cause or variant.name * (result.case.id in common)
            lines.append(sentence([variant], len(common), len(failing)))
    unknown = len([result for result in open_cases if not result.cause])
    if unknown and not lines:
        lines.append(f"no known variant explains {unknown} failing cases; read the first failing tensor of the simplest one")
    return lines


def mark_consequences(result: CaseResult, dtype: str) -> None:
    """Say of each wrong tensor whether it is right for the layer's own earlier, wrong values."""
    wrong = [tensor.name for tensor in result.failed]
    steps = [step for step in result.case.steps if step != "reload"]
    for t, step in enumerate(steps):
        states = [name for name in wrong if name.startswith(f"state.{t}.")]
        if t and states and "reload" not in result.case.steps:
            own = {n: v for n, v in result.outputs.items() if n.startswith(f"state.{t}.")}
            redo = refed(result.case, own, t, step)
            for tensor in result.failed:
                renamed = renumbered(tensor.name, t)
                if renamed in redo and alike(tensor.name, redo[renamed], result, dtype):
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
    inputs |= {f"state.0.{name.split('.', 2)[2]}": np.asarray(value) for name, value in own.items()}
    try:
        return exactly(replace(case, steps=(step,), inputs=inputs, shards=()))
    except (ValueError, TypeError, AttributeError):
        return {}


def follow_output(result: CaseResult, t: int, prefix: str, dtype: str) -> None:
    """Mark dweight that is right for the layer's own wrong y: sum of dy (y − bias) / weight."""
    wrong = {tensor.name: tensor for tensor in result.failed}
    y, grad = f"{prefix}.y.{t}", wrong.get(f"{prefix}.dweight.{t}")
    weight = result.case.inputs.get("param.weight")
    if y not in wrong or grad is None or weight is None or weight.ndim != 1 or y not in result.outputs:
        return
    out, dy = np.asarray(result.outputs[y], np.float64), result.case.inputs.get(f"in.dy.{t}")
    if dy is None or out.shape != dy.shape:
        return
    column = (1, -1) + (1,) * (dy.ndim - 2)
    bias = result.case.inputs["param.bias"].astype(np.float64).reshape(column)
    xhat = (out - bias) / weight.astype(np.float64).reshape(column)
    redo = (dy.astype(np.float64) * xhat).sum(axis=(0, *range(2, dy.ndim)))
    if alike(grad.name, redo, result, dtype):
        grad.follows = y
