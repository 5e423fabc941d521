"""Name what is wrong: the known-wrong variant that answers as the layer under test did.

A case is *explained* by a variant whose outputs, computed in float64 (longer than the layer's own digits), equal what
the layer gave, wrong values and right ones.  Bugs that only add rounding noise are told by which cases they fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minidl.check.case import Array, Case
from minidl.check.conventions import Conventions, is_gradient, summed_gradients
from minidl.check.expected import UNIT, exactly
from minidl.check.plain import plain_class
from minidl.check.program import play
from minidl.check.runner import CaseResult, run_case
from minidl.check.variants import Variant, known_wrong

SLACK = 4.0
PATIENCE = 10  # cases that nothing explains, after which the search ends
ALIKE = 0.6


@np.errstate(all="ignore")
def diagnose(results: Sequence[CaseResult], layer: str, dtype: str, conventions: Conventions) -> list[str]:
    """Return a line for each known-wrong variant that explains failing cases, the most telling first.

    Sets ``cause`` of every case it explains, and ``follows`` of tensors that are right for the layer's own earlier
    values.
    """
    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        mark_consequences(result, dtype)
    if not failed:
        return []
    passed = [result for result in results if result.status == "passed" and result.outputs]
    known = {variant.name: variant for variant in known_wrong(layer)}
    lines: list[str] = []
    remaining = list(failed)
    unexplained: list[CaseResult] = []
    singly: list[Variant] = []
    while remaining:
        first, tries = remaining[0], len(unexplained) < PATIENCE
        candidates = [v for v in known.values() if tries and explains(v, first, dtype, conventions)]
        if not candidates:
            unexplained.append(remaining.pop(0))
            continue
        found = {v.name: [r for r in remaining if r is first or explains(v, r, dtype, conventions)] for v in candidates}
        largest = max(found.values(), key=len)
        best = without_contradiction([v for v in candidates if found[v.name] == largest], passed, dtype, conventions)
        settle(best, largest, remaining)
        singly += best
        lines.append(sentence(best, len(largest), len(failed)))
    for pair in pairs(singly, known, unexplained[:PATIENCE], dtype, conventions):
        both = [result for result in unexplained if explains(pair, result, dtype, conventions)]
        if both:
            settle([pair], both, unexplained)
            lines.append(sentence([pair], len(both), len(failed)))
        if not unexplained:
            break
    return lines + (by_symptom(unexplained, results, layer, dtype) if unexplained else [])


def settle(variants: Sequence[Variant], explained: Sequence[CaseResult], remaining: list[CaseResult]) -> None:
    """Write the cause into cases and take them off the list."""
    for result in explained:
        result.cause = " or ".join(variant.name for variant in variants)
        remaining.remove(result)


def pairs(
    found: Sequence[Variant],
    known: Mapping[str, Variant],
    remaining: Sequence[CaseResult],
    dtype: str,
    conventions: Conventions,
) -> Iterator[Variant]:
    """Variants with two bugs: one that has explained a case by itself, and one that by itself fails a remaining
    case.
    """
    if not found or not remaining:
        return
    seconds = [
        variant
        for variant in known.values()
        if not variant.symptom
        and variant.dtype == found[0].dtype
        and any(fails(variant, r, dtype, conventions) for r in remaining)
    ]
    for first in found:
        for second in seconds:
            both = first.patches + second.patches
            if second.name != first.name:
                try:
                    plain_class(first.layer, both)
                except ValueError:
                    continue
                yield replace(
                    first, name=f"{first.name} + {second.name}", says=f"{first.says}; and {second.says}", patches=both
                )


def fails(variant: Variant, result: CaseResult, dtype: str, conventions: Conventions) -> bool:
    """Whether a variant goes wrong where the layer under test does first."""
    if not result.failed:
        return False
    first = result.failed[0].name
    for name, value in outputs_of(variant, result.case, np.float64, conventions):
        if name == first:
            return wrong(name, value, result, dtype, conventions)
    return True


def sentence(variants: Sequence[Variant], count: int, of: int) -> str:
    """One line of the diagnosis."""
    first = variants[0]
    text = f"{first.name}: {first.says} (explains {count} of {of} failing cases)"
    if len(variants) > 1:
        text += "; these cases cannot tell it from: " + ", ".join(variant.name for variant in variants[1:])
    if first.seen:
        text += f"; seen in {', '.join(first.seen)}"
    return text


def outputs_of(variant: Variant, case: Case, kind: Any, conventions: Conventions) -> Iterator[tuple[str, Any]]:
    """Yield the outputs of a variant, computed in a dtype, in the adapter's conventions; the last is ("raised",
    error).
    """

    def place(name: str, array: Array) -> Array:
        return array.copy() if array.dtype.kind == "i" else arranged_as(array.astype(kind), name, case)

    asked = replace(case, options=case.options | {"running_var": conventions.running_var})
    sums: dict[str, Any] = {}
    try:
        with np.errstate(all="ignore"):
            for name, value in play(variant, asked, place):
                kept = np.array(value)
                if conventions.grads == "accumulate" and not variant.declares and is_gradient(name):
                    quantity = name.split(".", 1)[1].rpartition(".")[0]
                    kept = sums[quantity] = sums.get(quantity, 0) + kept
                yield name, kept
    except Exception as error:
        yield "raised", error


def arranged_as(array: Array, name: str, case: Case) -> Array:
    """x and dy in the memory the case asks for, which some bugs depend on."""
    from minidl.check.memory import arranged

    return arranged(array, case.memory) if name.startswith("in.") else array


def explains(variant: Variant, result: CaseResult, dtype: str, conventions: Conventions) -> bool:
    """Whether the variant answers the case as the layer under test did."""
    if variant.symptom or (variant.dtype == "float16") != (dtype == "float16"):
        return False
    if result.message.startswith("the layer changed"):
        return run_case(variant, result.case, dtype, Conventions(grads=conventions.grads)).message == result.message
    kinds = (np.float32,) if dtype == "float16" else dict.fromkeys((np.float64, np.dtype(dtype).type))
    return any(answered(variant, result, dtype, kind, conventions) for kind in kinds)


def answered(variant: Variant, result: CaseResult, dtype: str, kind: Any, conventions: Conventions) -> bool:
    """Whether the variant, computed in a dtype, gives what the layer under test gave, and fails the case if that
    did.
    """
    raised = result.message.startswith("raised")
    left = set() if raised else set(result.case.expected)
    telling = not result.failed
    suspects = {tensor.name for tensor in result.failed}
    for name, value in outputs_of(variant, result.case, kind, conventions):
        if name == "raised":
            return raised
        if name in left:
            if not alike(name, value, result, dtype):
                return False
            left.remove(name)
            telling = telling or (name in suspects and wrong(name, value, result, dtype, conventions))
    return not raised and not left and telling


def wrong(name: str, predicted: Array, result: CaseResult, dtype: str, conventions: Conventions) -> bool:
    """Whether an output of a variant is out of the case's tolerance, so that the variant says something about it."""
    want = summed_gradients(result.case.expected, conventions)[name]
    tol = summed_gradients(result.case.tol[dtype], conventions)[name]
    return np.shape(predicted) != want.shape or not within(predicted, want, tol)


def within(got: Any, want: Any, tol: Any) -> bool:
    """Whether all of got is within the tolerance of want, NaN where that is NaN."""
    one, other = np.asarray(got, np.float64), np.asarray(want, np.float64)
    with np.errstate(invalid="ignore"):
        close = np.abs(one - other) <= tol
    return bool((close | (one == other) | (np.isnan(one) & np.isnan(other))).all())


def alike(name: str, predicted: Array, result: CaseResult, dtype: str) -> bool:
    """Whether an output equals a variant's, up to the tolerance and the rounding of the larger of the two."""
    got = result.outputs.get(name)
    if got is None or np.shape(got) != np.shape(predicted):
        return got is None
    tol = np.broadcast_to(np.asarray(result.case.tol[dtype].get(name, 0), np.float64), np.shape(predicted))
    size = np.abs(np.where(np.isfinite(predicted), predicted, 0)).astype(np.float64)
    scale = float(size.max(initial=0.0))
    return within(got, predicted, SLACK * tol + 64 * UNIT[dtype] * (size + scale))


def without_contradiction(
    variants: Sequence[Variant], passed: Sequence[CaseResult], dtype: str, conventions: Conventions
) -> list[Variant]:
    """The variants that agree best with the cases that passed; ties stay together."""
    if len(variants) == 1:
        return list(variants)
    contradicted = {v.name: sum(not explains(v, result, dtype, conventions) for result in passed) for v in variants}
    least = min(contradicted.values())
    return [variant for variant in variants if contradicted[variant.name] == least]


def by_symptom(remaining: Sequence[CaseResult], results: Sequence[CaseResult], layer: str, dtype: str) -> list[str]:
    """Name a variant whose wrong digits are noise, by the cases it fails."""
    failing = {result.case.id for result in remaining}
    for variant in known_wrong(layer):
        if variant.symptom:
            asked = [r.case for r in results if r.case.result == "valid" and not r.case.shards]
            trials = [run_case(variant, case, dtype, Conventions(grads="overwrite")) for case in asked]
            theirs = {trial.case.id for trial in trials if trial.status == "failed"}
            common = failing & theirs
            if common and len(common) >= ALIKE * len(failing | theirs):
                for result in remaining:
                    result.cause = variant.name if result.case.id in common else f"{variant.name}, by its company"
                return [sentence([variant], len(common), len(failing))]
    return [f"no known variant explains {len(failing)} failing cases; read the first wrong tensor of the simplest one"]


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
                if renamed in redo and alike(tensor.name, redo[renamed], result, dtype) and tensor.name not in states:
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
