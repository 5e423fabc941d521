"""Name what is wrong: the known-wrong variant that answers as the layer under test did.

A variant is replayed, with each backward pass it can have, in the conventions of the layer under test.  It is named
only if nearly all that it says of wrong outputs came true, if no other variant says the same, and if the causes
together explain most failing cases; else the report says ``unknown``, with the first wrong output and the nearest
causes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minidl.check.consequences import mark_consequences
from minidl.check.conventions import Conventions
from minidl.check.evidence import Bench, Hypothesis, Tensor, best_of, is_backward, kind_of
from minidl.check.plain import plain_class
from minidl.check.runner import CaseResult
from minidl.check.symptoms import by_size, by_symptom, dtypes, exceptions, in_place, missing, precision
from minidl.check.variants import Variant, known_wrong

TRUE = 0.85  # the share of its predictions that a named variant gets right
MARGIN = 0.05  # by which a named variant explains more than the next
SHARE = 0.5  # of the failing cases that the causes named explain
ROUNDS = 8
PLACES = 8  # failing cases in which two bugs at once are looked for
COMMON = (
    "eps outside the root",
    "eps missing",
    "unbiased variance in forward",
    "unbiased variance",
    "momentum swapped",
    "weight ignored",
    "bias ignored",
    "softmax without its shift",
    "gate bias ignored",
    "N/K for N_k",
    "N for N_k",
    "dx without the mean of dy",
    "dx without the xhat term",
    "dx without weight",
    "dx without 1/sigma",
    "kernel flipped",
    "sum for mean",
)  # of which any two are looked for together


@dataclass
class Cause:
    """One cause: variants that say the same of every case, and the outputs they explain."""

    rivals: list[Hypothesis]
    hits: set[Tensor]

    @property
    def name(self) -> str:
        """The names of the variants."""
        return " or ".join(dict.fromkeys(rival.variant.name for rival in self.rivals))


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
        lines[:0] = [sentence(cause, bench) for cause in causes]
        for cause in causes:
            settle(cause, bench)
    else:
        doubts = causes + doubts
    return lines + (unknown(bench, left, doubts) if left else [])


def trusted(causes: Sequence[Cause], wrong: set[Tensor], left: set[Tensor]) -> bool:
    """Whether the causes explain nearly all wrong outputs, or those of the forward pass, whatever its gradients are."""
    kinds, open_kinds = (Counter(kind_of(name) for _, name in of if not is_backward(name)) for of in (wrong, left))
    if causes and len(left) <= 0.2 * len(wrong) and all(open_kinds[k] <= 0.5 * kinds[k] for k in kinds):
        return True
    forward = {tensor for tensor in wrong if not is_backward(tensor[1])}
    explained = set().union(*(cause.hits for cause in causes)) if causes else set()
    return bool(forward) and len(forward & explained) >= 0.9 * len(forward) and len(forward) >= 3


def causes_of(bench: Bench, wrong: set[Tensor], layer: str) -> tuple[list[Cause], list[Cause], set[Tensor]]:
    """The causes that are named, those that are near, and the wrong outputs that are left."""
    known = [variant for variant in known_wrong(layer) if fits(variant, bench)]
    weighed = [h for variant in known for h in best_of(bench.weigh(variant, wrong))]
    causes: list[Cause] = []
    near: list[Cause] = []
    left = set(wrong)
    for _ in range(ROUNDS):
        chosen, rest = choose(weighed, left, wrong)
        near += rest
        if chosen is None:
            break
        if causes and {i for i, _ in chosen.hits} <= chosen.rivals[0].ended:
            near.insert(0, chosen)  # a second cause of which all that is seen is NaN: any NaN would do
            break
        causes.append(chosen)
        left -= covered(chosen.rivals[0], wrong)
        if not left:
            break
    ambiguous = not causes and bool(near)  # one cause, of which there are two candidates: no pair
    if left and not ambiguous:
        causes, left = with_pairs(causes, known, left, wrong, bench)
    near += [Cause([h], h.hits) for h in sorted(weighed, key=lambda h: -len(h.hits) * h.precision)[:2]]
    return causes, near, left


def with_pairs(
    causes: list[Cause], known: Sequence[Variant], left: set[Tensor], wrong: set[Tensor], bench: Bench
) -> tuple[list[Cause], set[Tensor]]:
    """The causes with pairs of bugs that explain what is left, and what is left then; pairs that say the same of every
    case are one cause.
    """
    for same in rivals_of(pairs(causes, known, left, bench), wrong, bench):
        hypothesis = same[0]
        if not hypothesis.hits & left:
            continue
        both = set(hypothesis.variant.name.split(" + "))
        if not both <= {c.name for c in causes}:  # else both are named already, and here they meet
            causes = [c for c in causes if not c.hits <= hypothesis.hits or whole_cases(c, wrong)]
            causes.append(Cause(same, hypothesis.hits & left if causes else hypothesis.hits & wrong))
        left = left - covered(hypothesis, wrong)
        if not left:
            break
    return causes, left


def rivals_of(found: Iterator[Variant], wrong: set[Tensor], bench: Bench) -> list[list[Hypothesis]]:
    """The credible pairs, the most telling first, those together that say the same."""
    groups: dict[Any, list[Hypothesis]] = {}
    seen: set[frozenset[str]] = set()
    for pair in found:
        both = frozenset(pair.name.split(" + "))
        if both in seen:
            continue
        seen.add(both)
        hypothesis = max(best_of(bench.weigh(pair, wrong)), key=lambda h: len(h.hits), default=None)
        if hypothesis and credible(hypothesis, wrong):
            groups.setdefault((frozenset(hypothesis.hits), frozenset(hypothesis.misses)), []).append(hypothesis)
    return sorted(groups.values(), key=lambda same: (-len(same[0].hits), len(same[0].misses)))


def fits(variant: Variant, bench: Bench) -> bool:
    """Whether a variant can be told by its values in this run."""
    return not variant.symptom and (variant.dtype == "float16") == (bench.dtype == "float16")


def credible(hypothesis: Hypothesis, wrong: set[Tensor]) -> bool:
    """Whether what a hypothesis says is nearly always true, at least of the forward pass, or of a part of the layer."""
    if hypothesis.precision >= TRUE:
        return True
    forward = sum(not is_backward(name) for _, name in hypothesis.hits)
    return (forward >= 3 and hypothesis.forward_precision >= TRUE) or of_a_part(hypothesis, wrong)


def of_a_part(hypothesis: Hypothesis, wrong: set[Tensor]) -> bool:
    """Whether a hypothesis explains some outputs wholly, and what it says wrongly is of another part of the layer.

    A bug may be in training alone, or in evaluation, or in the running statistics; beside it another may be in other
    gradients, which are then wrong, too.
    """
    hits, misses, all_wrong = (
        Counter(kind_of(name) for _, name in of) for of in (hypothesis.hits, hypothesis.misses, wrong)
    )
    whole = {k for k in hits if hits[k] >= TRUE * (hits[k] + misses[k]) and hits[k] >= 0.9 * all_wrong[k]}
    if sum(hits[k] for k in whole) < 4 or whole != set(hits):
        return False
    parts = {kind.partition(".")[0] for kind in whole}
    for kind in misses:
        if kind in whole:
            continue
        right = sum(kind_of(name) == kind for _, name in hypothesis.misses - wrong)
        part = kind.partition(".")[0]
        elsewhere = part not in parts and (part == "eval" or right == misses[kind])
        also_wrong = is_backward(kind + ".0") and right <= 0.1 * misses[kind]
        if not elsewhere and not also_wrong:
            return False
    return True


def choose(weighed: Sequence[Hypothesis], left: set[Tensor], wrong: set[Tensor]) -> tuple[Cause | None, list[Cause]]:
    """The variant that explains most of what is left, with those that say the same; or none, and the nearest."""
    able = [h for h in weighed if h.hits & left and credible(h, wrong)]
    able.sort(key=lambda h: (-len(h.hits & left), len(h.misses)))
    if not able:
        return None, []
    best = able[0]
    hits = best.hits & left
    rivals = [h for h in able if h.hits & left == hits and h.misses == best.misses]
    names = {h.variant.name for h in rivals}
    for other in able[1:]:
        if other.variant.name in names:
            continue
        common = other.hits & hits
        ahead = len(hits - common) + len(other.misses) - len(best.misses)
        if len(common) > 0.5 * len(hits) and ahead < max(1, MARGIN * len(hits)):
            return None, [Cause([best], hits), Cause([other], common)]
    return Cause(rivals, hits), []


def covered(hypothesis: Hypothesis, wrong: set[Tensor]) -> set[Tensor]:
    """The wrong outputs that a hypothesis predicts, and the few of the same kinds in which rounding hides the cause."""
    hits, misses = hypothesis.hits & wrong, hypothesis.misses & wrong
    counts = Counter(kind_of(name) for _, name in hits)
    lost = Counter(kind_of(name) for _, name in misses)
    known = {kind for kind in counts if counts[kind] >= 4 * lost[kind]}
    mostly, not_at_all = Counter(i for i, _ in hits), Counter(i for i, _ in misses)
    ended = {tensor for tensor in wrong if tensor[0] in hypothesis.ended}
    return (
        hits
        | ended
        | {tensor for tensor in misses if kind_of(tensor[1]) in known or mostly[tensor[0]] >= 2 * not_at_all[tensor[0]]}
    )


def whole_cases(cause: Cause, wrong: set[Tensor]) -> set[int]:
    """The cases of which a cause explains every wrong output."""
    return {i for i, _ in cause.hits} - {i for i, _ in wrong - cause.hits}


def pairs(causes: Sequence[Cause], known: Sequence[Variant], left: set[Tensor], bench: Bench) -> Iterator[Variant]:
    """Variants with two bugs that answer a failing case as the layer did: one already found and another, or any two."""
    found = [cause.rivals[0].variant for cause in causes]
    for i in bench.panel(left)[:PLACES]:
        said = [h for h in (bench.says(variant, i) for variant in known) if h.hits or h.misses]
        seconds = [h.variant for h in said]
        firsts = found
        if causes and not any(variant in seconds for variant in found):
            seconds = [h.variant for h in said if h.hits]
        if not causes:  # any two would be too many: the commonest
            firsts = seconds = [variant for variant in seconds if variant.name in COMMON]
        wrong = {(k, name) for k, name in bench.wrong() if k == i}
        alone = {h.variant.name for h in said if h.hits == wrong}
        for pair in combined(firsts, [variant for variant in seconds if variant.name not in alone]):
            if any(h.hits == wrong and not h.misses for h in bench.weigh(pair, wrong, [i])):
                yield pair


def combined(firsts: Sequence[Variant], seconds: Sequence[Variant]) -> Iterator[Variant]:
    """Variants with one bug of each, once a pair."""
    tried: set[frozenset[str]] = set()
    for first in firsts:
        for second in seconds:
            both = frozenset((first.name, second.name))
            if len(both) < 2 or both in tried:
                continue
            tried.add(both)
            patches = first.patches + second.patches
            try:
                plain_class(first.layer, patches)
            except (ValueError, SyntaxError):  # the two change the same text
                continue
            yield replace(
                first, name=f"{first.name} + {second.name}", says=f"{first.says}; and {second.says}", patches=patches
            )


def settle(cause: Cause, bench: Bench) -> None:
    """Write the cause into the cases it explains."""
    for i in {i for i, _ in cause.hits}:
        result = bench.results[i]
        other = result.cause and result.cause != result.raised
        result.cause = f"{result.cause} + {cause.name}" if other else cause.name


def sentence(cause: Cause, bench: Bench) -> str:
    """One line of the diagnosis."""
    first = cause.rivals[0].variant
    count = len({i for i, _ in cause.hits})
    text = f"{cause.name}: {first.says} (explains {count} of {len(bench.failing)} failing cases)"
    if len(cause.rivals) > 1:
        text += "; these cases cannot tell them apart"
    if first.seen:
        text += f"; seen in {', '.join(first.seen)}"
    return text


def unknown(bench: Bench, left: set[Tensor], doubts: Sequence[Cause]) -> list[str]:
    """What no variant explains: the first wrong output with its pattern, and the nearest causes as questions."""
    i = min(left)[0]
    result = bench.results[i]
    tensor = next((t for t in result.failed if (i, t.name) in left), None)
    text = f"unknown: no known variant explains {len({i for i, _ in left})} of {len(bench.failing)} failing cases"
    if tensor is not None:
        text += f"; the first wrong output is {tensor.name} of {result.case.id}"
        text += "".join(f"; {pattern}" for pattern in tensor.patterns)
    asked = dict.fromkeys(name for cause in doubts for name in [cause.name])
    near: Mapping[str, None] = dict.fromkeys(list(asked)[:2])
    return [text] + [f"perhaps {name}?" for name in near]
