"""A known variant that holds under a condition alone: with groups, with a stride, of four axes, of a single sample.

Real kernels have a path for each of these, and one of them is wrong.  All failing cases must then answer as the variant
does, none of the others, and a condition must tell the two apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from minidl.check.case import Case
from minidl.check.diagnosis.evidence import Bench, Hypothesis, Tensor
from minidl.check.diagnosis.weighing import SURE, Cause
from minidl.check.variants import Variant

LEAST = 3  # cases that show a variant, and others in which it would show and does not
MOST = 4  # variants that may say the same and still be named


def numbers(case: Case, name: str, usual: int) -> list[int]:
    """An option for height and width."""
    return [int(v) for v in np.ravel(case.options.get(name, usual))]


def shape_of(case: Case) -> tuple[int, ...]:
    """The shape of the first x."""
    return np.shape(case.inputs.get("in.x.0", np.zeros(())))


CONDITIONS: dict[str, Callable[[Case], bool]] = {
    "with groups": lambda case: numbers(case, "groups", 1) > [1],
    "with a dilation": lambda case: max(numbers(case, "dilation", 1)) > 1,
    "with a stride": lambda case: max(numbers(case, "stride", 1)) > 1,
    "with padding": lambda case: max(numbers(case, "padding", 0)) > 0,
    "without padding": lambda case: max(numbers(case, "padding", 0)) == 0,
    "with strides that differ": lambda case: len(set(numbers(case, "stride", 1))) > 1,
    "with a kernel that is no square": lambda case: len(set(kernel_of(case))) > 1,
    "of 2 axes": lambda case: len(shape_of(case)) == 2,
    "of 3 axes": lambda case: len(shape_of(case)) == 3,
    "of 4 axes": lambda case: len(shape_of(case)) == 4,
    "of more than 2 axes": lambda case: len(shape_of(case)) > 2,
    "of a single sample": lambda case: shape_of(case)[:1] == (1,),
    "of more than one sample": lambda case: shape_of(case)[:1] > (1,),
    "of more than one group": lambda case: numbers(case, "num_groups", 1) > [1],
    "of an image that is no square": lambda case: len(set(shape_of(case)[2:])) > 1,
}


def kernel_of(case: Case) -> tuple[int, ...]:
    """The size of a kernel."""
    if "param.weight" in case.inputs and case.inputs["param.weight"].ndim == 4:
        return tuple(int(n) for n in case.inputs["param.weight"].shape[2:])
    return tuple(numbers(case, "kernel_size", 1))


def conditions(shown: Sequence[Case], hidden: Sequence[Case]) -> Iterator[str]:
    """The conditions that hold for all of some cases and for none of others; of two at once, where one will not do."""
    holding = [word for word, holds in CONDITIONS.items() if all(map(holds, shown))]
    single = [word for word in holding if not any(map(CONDITIONS[word], hidden))]
    yield from single
    for one, other in combinations(() if single else holding, 2):
        if not any(CONDITIONS[one](case) and CONDITIONS[other](case) for case in hidden):
            yield f"{one} and {other}"


def by_condition(
    bench: Bench, known: Sequence[Variant], left: set[Tensor], wrong: set[Tensor]
) -> tuple[list[Cause], set[Tensor]]:
    """The variant that explains nearly all that is left, and is not there in cases of another kind."""
    found: dict[Any, list[Hypothesis]] = {}
    for variant in known:
        for held in bench.weigh(variant, wrong, bench.panel(left)[:4]):
            if not held.misses and held.hits & left:
                held = bench.tried(Hypothesis(variant, held.form), bench.failing, wrong)
                if len(held.hits & left) < SURE * len(left) or held.misses & wrong:
                    continue
                if conditional := limited(bench, held):
                    key = frozenset(conditional.hits), frozenset(conditional.misses)
                    found.setdefault(key, []).append(conditional)
    if len(found) != 1:
        return [], left
    (same,) = found.values()
    if len({h.variant.name for h in same}) > MOST:
        return [], left
    return [Cause(same, same[0].hits & left)], left - same[0].hits


def limited(bench: Bench, held: Hypothesis) -> Hypothesis | None:
    """A hypothesis with the condition under which alone it holds, or nothing."""
    whole = Hypothesis(held.variant, held.form)
    for i in (*bench.failing, *bench.others):
        bench.hold(whole, i, held.hits)
    shown = {i for i, _ in whole.hits}
    hidden = {i for i, _ in whole.misses}
    if len(shown) < LEAST or len(hidden) < LEAST or shown & hidden:
        return None
    sides = [[case for i in sorted(of) if (case := bench.results[i].asked) is not None] for of in (shown, hidden)]
    words = next(conditions(*sides), None)
    if words is None:
        return None
    variant = replace(
        held.variant, name=f"{held.variant.name}, {words} alone", says=f"{held.variant.says}; but {words} alone"
    )
    return Hypothesis(variant, held.form, hits=whole.hits)
