"""Two bugs at once: variants with two patches that answer as the layer did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from minidl.check.diagnosis.evidence import Bench, Hypothesis, Tensor, best_of
from minidl.check.diagnosis.weighing import Cause, covered, credible, whole_cases
from minidl.check.plain import plain_class
from minidl.check.variants import Variant

PLACES = 8  # failing cases in which two bugs at once are looked for
COMMON = (
    "eps outside the root",
    "eps missing",
    "unbiased variance in forward",
    "unbiased variance",
    "momentum swapped",
    "running_var biased",
    "statistics updated in evaluation",
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
    "dx without 1/N",
    "dy ignored",
    "channels dealt out in turn",
    "kernel flipped",
    "sum for mean",
)  # of which any two are looked for together


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
            if len(both) < 2 or both in tried or not (first.patches and second.patches):
                continue  # the same, or one that is no text to be replaced and cannot be put beside another
            tried.add(both)
            patches = first.patches + second.patches
            try:
                plain_class(first.layer, patches)
            except (ValueError, SyntaxError):  # the two change the same text
                continue
            yield replace(
                first, name=f"{first.name} + {second.name}", says=f"{first.says}; and {second.says}", patches=patches
            )
