"""The causes that are named, and those that are near: one after the other, the most telling first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from minidl.check.diagnosis.conditions import by_condition
from minidl.check.diagnosis.evidence import (
    BACKWARD,
    ONLY,
    Bench,
    Hypothesis,
    Tensor,
    best_of,
    is_backward,
    kind_of,
    only_backward,
    quantity_of,
)
from minidl.check.diagnosis.forward import compositions
from minidl.check.diagnosis.pairs import with_pairs
from minidl.check.diagnosis.single import by_single_changes
from minidl.check.diagnosis.structured import structured
from minidl.check.diagnosis.weighing import SURE, Cause, covered, credible
from minidl.check.variants import Variant, known_wrong
from minidl.check.variants.timing import Timed, timed
from minidl.check.variants.wrapped import families

MARGIN = 0.05  # by which a named variant explains more than the next
CLEARLY = 3  # wrong predictions that rule a candidate out beside one that has none
ROUNDS = 8
MOST = 0.5  # of the wrong outputs, which a candidate explains beside which no pair is looked for
SECOND = 3  # outputs that a cause beside another explains
REST = 0.05  # of the wrong outputs, in which no further cause is looked for beside one that is found


def causes_of(bench: Bench, wrong: set[Tensor], layer: str) -> tuple[list[Cause], list[Cause], set[Tensor]]:
    """The causes that are named, those that are near, and the wrong outputs that are left."""
    known = [variant for variant in (*known_wrong(layer), *timed(layer)) if fits(variant, bench)]
    weighed = [h for variant in known for h in best_of(bench.weigh(variant, wrong))]
    causes: list[Cause] = []
    near: list[Cause] = []
    left = set(wrong)
    for _ in range(ROUNDS):
        chosen, rest = choose(weighed, left, wrong)
        near += rest
        if chosen is None:
            break
        first = chosen.rivals[0]
        only_ended = first.misses and {i for i, _ in chosen.hits} <= first.ended  # all that is seen of it is NaN
        raises_not = all(name == "must raise" for _, name in chosen.hits)  # one case is enough for that
        few = len(chosen.hits) < SECOND and not raises_not
        if causes and (only_ended or few or not clear(first, bench, wrong)):
            near.insert(0, chosen)  # a cause beside another must be clearer than one alone
            weighed = [h for h in weighed if h not in chosen.rivals]
            continue
        causes.append(chosen)
        left -= covered(chosen.rivals[0], wrong)
        if not left:
            break
    doubtful = {at for c in causes if c.rivals[0].misses for at in c.hits}  # until nothing says the same with fewer
    if any(is_output(name) for _, name in left | doubtful) and bench.dtype != "float16":  # whose few cases overflow
        more, open_still = of_families(bench, left | doubtful, wrong, layer)
        if better(more, causes) or any(m.hits & left for m in more):
            causes, left = without(causes, more), left & open_still
    if not causes or len(left) > REST * len(wrong):
        causes, left = unlisted(bench, known, causes, near, left, wrong, layer)
    near += [Cause([h], h.hits) for h in sorted(weighed, key=lambda h: -len(h.hits) * h.precision)[:2]]
    return causes, near, left


def clear(hypothesis: Hypothesis, bench: Bench, wrong: set[Tensor]) -> bool:
    """Whether what a hypothesis says is nearly always true. It may be off where an output is wrong anyway, in a kind of
    step of which another output is wrong in nearly every case: there another cause is at work too.
    """
    every = Counter(kind_of(name) for result in bench.results for name in result.wanted)
    failed = Counter(kind_of(name) for _, name in wrong)
    others = {step_of(kind) for kind in failed if failed[kind] >= SURE * every[kind]}
    misses = sum(at not in wrong or step_of(at[1]) not in others for at in hypothesis.misses)
    return len(hypothesis.hits) >= SURE * (len(hypothesis.hits) + misses)


def step_of(name: str) -> str:
    """The kind of step that an output is of: "out" of training, "eval", or "state"."""
    return name.partition(".")[0]


def unlisted(
    bench: Bench,
    known: Sequence[Variant],
    causes: list[Cause],
    near: list[Cause],
    left: set[Tensor],
    wrong: set[Tensor],
    layer: str,
) -> tuple[list[Cause], set[Tensor]]:
    """The causes with those that no listed variant is by itself, and what is left then."""
    if left == wrong and not near:
        more, left = by_condition(bench, known, left, wrong)
        causes = causes + more
    if left and all(is_backward(name) for _, name in wrong):
        more, left = of_backward(bench, known, left, wrong)
        causes = causes + more
    if left:
        more, left = structured(bench, left, wrong, layer)
        causes = causes + more
    if left == wrong and all(is_backward(name) for _, name in wrong):
        more, left = of_backward(bench, known, left, wrong, alone=True)
        causes = causes + more
    if left and bench.dtype != "float16":
        more, left = by_single_changes(bench, left, wrong, layer)
        causes = without(causes, more)
    ambiguous = not causes and any(len(c.hits) >= MOST * len(wrong) for c in near)  # one cause, two candidates: no pair
    if left and not ambiguous:
        causes, left = with_pairs(causes, known, left, wrong, bench)
    if causes and not ambiguous and len(left) >= MOST * len(wrong):  # what was found may be a part of a pair's answer
        two, open_still = with_pairs([], known, wrong, wrong, bench)
        if len(open_still) < len(left) and len(two) == 1:
            return two, open_still
    return causes, left


def better(more: Sequence[Cause], causes: Sequence[Cause]) -> bool:
    """Whether a cause that was looked for later explains what another does, and says fewer wrong things."""
    return any(
        c.hits <= m.rivals[0].hits and len(m.rivals[0].misses) < len(c.rivals[0].misses) for m in more for c in causes
    )


def without(causes: list[Cause], more: list[Cause]) -> list[Cause]:
    """The causes and those that were found later, in place of such as they explain too."""
    return [c for c in causes if not any(c.hits <= m.rivals[0].hits for m in more)] + more


def kindred(one: Hypothesis, other: Hypothesis) -> bool:
    """Whether two variants are two of one kind, so that one of the two may be named: both misplace eps, say."""
    return one.variant.name.split()[0] == other.variant.name.split()[0] == "eps"


def is_output(name: str) -> bool:
    """Whether an output is a y."""
    return name.partition(".")[2].startswith("y.")


def of_backward(
    bench: Bench, known: Sequence[Variant], left: set[Tensor], wrong: set[Tensor], alone: bool = False
) -> tuple[list[Cause], set[Tensor]]:
    """A right forward pass whose gradients are those of a wrong one; or one of them alone, where no other is wrong."""
    weighed = []
    quantities = {quantity_of(kind_of(name)) for _, name in wrong}
    ways = [(ONLY + q, q) for q in quantities if len(quantities) == 1] if alone else [(BACKWARD, "gradients")]
    for variant, (form, what) in product(known, ways):
        if not only_backward(variant) and not variant.derived:
            named = replace(variant, name=f"{what} as of: {variant.name}", says=f"y is right; {variant.says}")
            held = bench.tried(Hypothesis(named, form), bench.panel(left)[:4], left)
            if held.hits and len(held.misses) <= len(held.hits):
                weighed.append(bench.tried(held, [*bench.failing, *bench.others], left))
    sound = [h for h in weighed if h.precision >= SURE and len(h.hits) >= SURE * len(left)]
    chosen, _ = choose(sound, left, wrong)
    if chosen is None or len(chosen.rivals) > 2:
        return [], left
    return [chosen], left - covered(chosen.rivals[0], wrong)


def of_families(bench: Bench, left: set[Tensor], wrong: set[Tensor], layer: str) -> tuple[list[Cause], set[Tensor]]:
    """What is done to the borders of a right layer, or which slips its forward pass is composed of."""
    candidates: list[Variant] = [*families(layer), *compositions(bench, left, layer)]
    weighed = [h for variant in candidates for h in best_of(bench.weigh(variant, wrong))]
    chosen, _ = choose([h for h in weighed if nearly_always(h)], left, wrong)
    if chosen is None:
        return [], left
    chosen.rivals = chosen.rivals[:2]  # more of them are the same function
    return [chosen], left - covered(chosen.rivals[0], wrong)


def nearly_always(h: Hypothesis) -> bool:
    """Whether nearly all that is said of the forward pass is true: of many candidates, one or another is often near."""
    return max(h.precision, h.forward_precision) >= SURE


def fits(variant: Variant, bench: Bench) -> bool:
    """Whether a variant can be told by its values in this run."""
    return not variant.symptom and (variant.dtype == "float16") == (bench.dtype == "float16")


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
    rivals = [h for h in rivals if not isinstance(h.variant, Timed)] or rivals  # what is listed has the better name
    for other in able[1:]:
        if other.variant.name in names:
            continue
        common = other.hits & hits
        ahead = len(hits - common) + len(other.misses) - len(best.misses)
        needed = max(1, MARGIN * len(hits))
        if hits == left and not best.misses:  # the one explains all and is never wrong, the other is not so
            needed = min(needed, 2)
        if not best.misses and len(other.misses) >= CLEARLY:  # the one is never wrong, the other is
            needed = min(needed, CLEARLY)
        if len(common) > 0.5 * len(hits) and ahead < needed:
            if kindred(best, other) and not other.misses and not best.misses:
                return Cause([best, other], hits), []
            return None, [Cause([best], hits), Cause([other], common)]
    return Cause(rivals, hits), []
