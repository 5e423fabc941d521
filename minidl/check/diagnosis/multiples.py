"""A term of a backward pass with a wrong factor: a listed variant lacks the term, and so gives the term itself.

What a variant without the term answers, taken from the right answer, is the term.  The layer's error is a multiple of
it: −1 of the term if it is missing, +1 if it is there twice, −2 if its sign is wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minidl.check.case import Array
from minidl.check.diagnosis.evidence import Bench, Hypothesis, Tensor, is_backward, only_backward
from minidl.check.diagnosis.items import CONSTANTS, Item, factors, one
from minidl.check.diagnosis.replay import FORMULA
from minidl.check.variants import Variant, known_wrong

MISSING = ("dropped ",)
LEAST = 4


def by_multiples(bench: Bench, left: set[Tensor], layer: str) -> tuple[str, set[Tensor]] | None:
    """The term whose multiple explains the wrong gradients, in words, with the outputs it explains."""
    gradients = {at for at in left if is_backward(at[1])}
    items = {at: item for at in sorted(gradients) if (item := one(bench, bench.results[at[0]], *at, True))}
    if len(items) < LEAST:
        return None
    found: list[tuple[str, set[Tensor]]] = []
    for variant in known_wrong(layer):
        if variant.name.startswith(MISSING) and only_backward(variant):
            told = multiple_of(bench, variant, items)
            if told:
                found.append(told)
    found.sort(key=lambda told: -len(told[1]))
    if not found or (len(found) > 1 and len(found[1][1]) == len(found[0][1])):
        return None
    return found[0]


def multiple_of(bench: Bench, variant: Variant, items: dict[Tensor, Item]) -> tuple[str, set[Tensor]] | None:
    """The factor that the term of a variant has, in words, and the outputs that it explains."""
    hypothesis = Hypothesis(variant, FORMULA)
    measured: list[tuple[Tensor, Item, float]] = []
    said: dict[int, dict[str, Array]] = {}
    concerned = 0
    for (i, name), item in items.items():
        if i not in said:
            said[i] = bench.outputs(hypothesis, i)
        result = bench.results[i]
        lacking = said[i].get(name)
        want = np.asarray(result.wanted[name], np.float64)
        if lacking is None or np.shape(lacking) != want.shape:
            continue
        term = want - lacking
        size = float((term / item.tol).ravel() @ (term / item.tol).ravel())
        if size < 100:
            continue
        concerned += 1
        error = np.asarray(result.outputs[name], np.float64) - want
        factor = 1 + float((error / item.tol).ravel() @ (term / item.tol).ravel()) / size
        if (np.abs(error - (factor - 1) * term) <= item.tol * max(1.0, abs(factor))).all():
            measured.append(((i, name), item, factor))
        elif concerned - len(measured) > 3 + 0.2 * concerned:
            return None
    if len(measured) < max(LEAST, 0.85 * len(items)):
        return None
    words = named(measured)
    if words is None:
        return None
    what = variant.name.removeprefix("dropped ")
    return f"the term {what} {words}", {at for at, *_ in measured}


def named(measured: list[tuple[Tensor, Item, float]]) -> str | None:
    """The factor in words."""
    middle = float(np.median([factor for *_, factor in measured]))
    constant: list[tuple[str, Callable[[Item], float]]] = [("is missing", lambda item: 0.0)]
    words = dict.fromkeys(name for _, item, _ in measured[:1] for name, _ in factors(item))
    table = [(name, lambda item, name=name: dict(factors(item)).get(name, np.nan)) for name in words]
    fitting = [
        name
        for name, value in [*constant, *table]
        if np.mean([abs(value(item) - factor) <= 1e-2 * max(abs(factor), 0.05) for _, item, factor in measured]) >= 0.9
    ]
    same = all(abs(factor - middle) < 1e-2 for *_, factor in measured)
    if same:
        fitting = [name for name in fitting if name == "is missing" or name in CONSTANTS]
    return fitting[0] if fitting else None
