"""Name what is wrong: the known-wrong variant that answers as the layer under test did.

A variant is replayed, with each backward pass it can have, in the conventions of the layer under test.  It is named
only if nearly all that it says of wrong outputs came true, if no other variant says the same, and if the causes
together explain most failing cases; else the report says ``unknown``, with the first wrong output and the nearest
causes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from minidl.check.conventions import Conventions
from minidl.check.diagnosis.causes import causes_of
from minidl.check.diagnosis.consequences import mark_consequences
from minidl.check.diagnosis.evidence import Bench, Tensor, is_backward, kind_of, quantity_of
from minidl.check.diagnosis.shapes import by_shape
from minidl.check.diagnosis.symptoms import (
    by_size,
    by_symptom,
    dtypes,
    exceptions,
    in_place,
    missing,
    overwritten,
    precision,
)
from minidl.check.diagnosis.weighing import Cause
from minidl.check.runner import CaseResult

SHARE = 0.5  # of the failing cases that the causes named explain


@np.errstate(all="ignore")
def diagnose(results: Sequence[CaseResult], layer: str, dtype: str, conventions: Conventions) -> list[str]:
    """Return a line for each cause, the most telling first; a line that begins with ``unknown`` or ``note`` names none.

    Sets ``cause`` of every case that is explained, and ``follows`` of tensors that are right for the layer's own
    earlier values.
    """
    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        mark_consequences(result, dtype)
    if not failed:
        return []
    lines = exceptions(results) + missing(results) + in_place(results)
    bench = Bench(results, dtype, conventions)
    wrong = bench.wrong()
    said, settled = dtypes(bench, wrong)
    lines, wrong = lines + said, wrong - settled
    if not wrong:
        return lines
    causes, doubts, left = causes_of(bench, wrong, layer)
    for found in (by_shape(bench, left), overwritten(bench, left)):
        if found:
            lines, left = [*lines, found[0]], left - found[1]
    if left and (short := precision(bench, left, dtype)):
        lines, left = [*lines, short[0]], left - short[1]
    cases = {i for i, _ in wrong}
    open_cases = {i for i, _ in left}
    if left and (limit := by_size([r for i, r in enumerate(results) if i not in cases - open_cases], dtype)):
        lines.append(f"{limit[0]} (explains {len(limit[1])} of {len(failed)} failing cases)")
        left = {(i, name) for i, name in left if results[i].case.id not in limit[1]}
        open_cases = {i for i, _ in left}
    untouched = open_cases - {i for cause in causes for i, _ in cause.hits}
    if untouched:
        symptom = by_symptom([results[i] for i in sorted(untouched)], results, layer, dtype, conventions)
        if symptom:
            lines.append(symptom[0])
            left = {(i, name) for i, name in left if results[i].case.id not in symptom[1]}
            open_cases = {i for i, _ in left}
    solved = len(cases - open_cases) / len(cases)
    if solved >= SHARE or trusted(causes, wrong, left):
        lines[:0] = [sentence(cause, bench, left) for cause in causes]
        for cause in causes:
            settle(cause, bench)
    else:
        doubts = causes + doubts
        causes = []
    return lines + (unknown(bench, left, causes, doubts) if left else [])


def trusted(causes: Sequence[Cause], wrong: set[Tensor], left: set[Tensor]) -> bool:
    """Whether the causes explain nearly all wrong outputs, or those of the forward pass, whatever its gradients are."""
    kinds, open_kinds = (Counter(kind_of(name) for _, name in of if not is_backward(name)) for of in (wrong, left))
    if causes and len(left) <= 0.2 * len(wrong) and all(open_kinds[k] <= 0.5 * kinds[k] for k in kinds):
        return True
    forward = {tensor for tensor in wrong if not is_backward(tensor[1])}
    explained = set().union(*(cause.hits for cause in causes)) if causes else set()
    settled = len(forward & (explained | (wrong - left)))
    return len(forward & explained) >= 3 and settled >= 0.9 * len(forward)


def settle(cause: Cause, bench: Bench) -> None:
    """Write the cause into the cases it explains."""
    for i in {i for i, _ in cause.hits}:
        result = bench.results[i]
        other = result.cause and result.cause != result.raised
        result.cause = f"{result.cause} + {cause.name}" if other else cause.name


def sentence(cause: Cause, bench: Bench, left: set[Tensor]) -> str:
    """One line of the diagnosis; it says which outputs the cause explains, where others of these cases are left."""
    first = cause.rivals[0].variant
    cases = {i for i, _ in cause.hits}
    part = quantities(bench, cause.hits) if any(i in cases for i, _ in left) else ""
    text = f"{cause.name}: {first.says} (explains {part}{len(cases)} of {len(bench.failing)} failing cases)"
    if len({rival.variant.name for rival in cause.rivals}) > 1:
        text += "; these cases cannot tell them apart"
    if first.seen:
        text += f"; seen in {', '.join(first.seen)}"
    return text


def quantities(bench: Bench, outputs: set[Tensor]) -> str:
    """The quantities of these outputs as a sentence begins with them, "y, dx in ", or nothing where there are none."""
    cases = sorted({i for i, _ in outputs})
    names = [name for i in cases for t in bench.results[i].tensors if (i, name := t.name) in outputs]
    listed = ", ".join(dict.fromkeys(quantity_of(kind_of(name)) for name in names))
    return listed and f"{listed} in "


def unknown(bench: Bench, left: set[Tensor], causes: Sequence[Cause], doubts: Sequence[Cause]) -> list[str]:
    """What no variant explains: the first wrong output with its pattern, and the nearest causes as questions.

    A cause that is named is not asked for; where it explains other outputs of these cases, those that are left are
    named.
    """
    i = min(left)[0]
    result = bench.results[i]
    tensor = next((t for t in result.failed if (i, t.name) in left), None)
    cases = {i for i, _ in left}
    part = quantities(bench, left) if any(i in cases for cause in causes for i, _ in cause.hits) else ""
    text = f"unknown: no known variant explains {part}{len(cases)} of {len(bench.failing)} failing cases"
    if tensor is not None:
        text += f"; the first wrong output is {tensor.name} of {result.case.id}"
        text += "".join(f"; {pattern}" for pattern in tensor.patterns)
    named = {rival.variant.name for cause in causes for rival in cause.rivals}
    near = dict.fromkeys(d.name for d in doubts if not {rival.variant.name for rival in d.rivals} <= named)
    return [text] + [f"perhaps {name}?" for name in list(near)[:2]]
