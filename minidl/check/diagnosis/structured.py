"""Causes that need no listed variant: what is wrong with one output, told from the formula that it must follow.

They are looked for after the listed variants, in the outputs that those leave unexplained and that do not follow from
a wrong y.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from minidl.check.case import Array
from minidl.check.conventions import summed_gradients
from minidl.check.diagnosis.consequences import alike
from minidl.check.diagnosis.evaluation import slope_and_start
from minidl.check.diagnosis.evidence import Bench, Hypothesis, Tensor, is_backward, kind_of, quantity_of
from minidl.check.diagnosis.items import Item, items, one
from minidl.check.diagnosis.multiples import by_multiples
from minidl.check.diagnosis.partial import by_dy
from minidl.check.diagnosis.places import by_place
from minidl.check.diagnosis.replay import FORMULA
from minidl.check.diagnosis.scaled import by_factor, told_of
from minidl.check.diagnosis.terms import by_sigma, by_terms
from minidl.check.diagnosis.weighing import Cause
from minidl.check.expected import exactly
from minidl.check.variants import Variant

FORMULAS = {"dx": "dx = rstd (d − mean(d) − xhat mean(d xhat)) with d = dy weight"}


def structured(bench: Bench, left: set[Tensor], wrong: set[Tensor], layer: str) -> tuple[list[Cause], set[Tensor]]:
    """The causes that are found in what is left, and what is left then."""
    forward_wrong = {i for i, name in wrong if not is_backward(name) and quantity_of(kind_of(name)) == "y"}
    causes: dict[str, Cause] = {}
    told_items: dict[str, list[Item]] = {}
    settled: set[Tensor] = set()
    lost: set[Tensor] = set()
    kinds = dict.fromkeys(kind_of(name) for _, name in sorted(left) if "." in name)
    for kind in sorted(kinds, key=is_backward_kind):
        chosen = {(i, name) for i, name in left if kind_of(name) == kind} - settled
        if not chosen:
            continue
        if is_backward_kind(kind) and len({i for i, _ in chosen} & forward_wrong) > 0.2 * len(chosen):
            continue  # the gradients of a wrong y
        found = items(bench, kind, chosen)
        usable = [item for item in found if item.wrong]
        if len(usable) < 2 or len(usable) < 0.4 * len(chosen):
            continue
        told = told_of(found)
        quantity = quantity_of(kind)
        if told is None and is_backward_kind(kind):
            told = by_dy(bench, found)
        if told is None and quantity == "dx":
            told = by_terms(found)
        if told is None and quantity == "dweight":
            told = by_sigma(found)
        told = told or by_place(found)
        if told is None:
            continue
        words, hits = told
        if len(found) - len(usable) > 2 * len(usable):
            continue  # it is right more often than wrong: what is found holds of a few cases alone
        name = f"{quantity}: {words}" if words.startswith(("the ", "in the ")) else f"{quantity} {words}"
        if kind == "eval.y":
            hits = hits | gradients_in_evaluation(bench, found, left)
        if quantity == "y" and kind == "out.y":
            hits = hits | gradients_of(bench, {i for i, _ in hits}, left)
        told_items[kind] = found
        lost |= chosen  # nearly all of the kind is explained; in the others rounding hides it
        settled |= hits
        if name in causes:
            causes[name].hits |= hits
            continue
        variant = Variant(layer, name.replace(":", ",", 1), says(name, quantity, kind), ())
        causes[name] = Cause([Hypothesis(variant, FORMULA, hits=hits)], hits)
    for quantity in dict.fromkeys(map(quantity_of, filter(is_backward_kind, kinds))):
        causes = as_one(causes, quantity, told_items, layer)
    rest = {at for at in left - lost - settled if at[0] not in forward_wrong}
    if rest and layer.startswith("mode") and (term := by_multiples(bench, rest, layer)):
        variant = Variant(layer, term[0], "the gradients are right but for this term", ())
        causes[term[0]] = Cause([Hypothesis(variant, FORMULA, hits=term[1])], term[1])
    for cause in causes.values():
        left = left - cause.hits
    return list(causes.values()), left - lost


def as_one(causes: dict[str, Cause], quantity: str, told: Mapping[str, list[Item]], layer: str) -> dict[str, Cause]:
    """The causes, with one factor in place of two where a gradient has it in training and in evaluation alike.

    A count may be 2 in all steps of one kind; then a number explains them as well as the count, but not the others.
    """
    mine = [name for name in causes if name.startswith(f"{quantity} ")]
    steps = [found for kind, found in told.items() if quantity_of(kind) == quantity]
    if len(mine) != 2 or len(steps) != 2:
        return causes
    hits = causes[mine[0]].hits | causes[mine[1]].hits
    joint = by_factor([item for found in steps for item in found])
    if joint is None or not hits <= joint[1]:
        return causes
    name = f"{quantity} {joint[0]}"
    cause = Cause([Hypothesis(Variant(layer, name, says(name, quantity, "out"), ()), FORMULA, hits=joint[1])], joint[1])
    return {**{other: found for other, found in causes.items() if other not in mine}, name: cause}


def gradients_of(bench: Bench, cases: set[int], left: set[Tensor]) -> set[Tensor]:
    """The gradients that are right where y is a function of the right one: those of dy times its slope."""
    hits: set[Tensor] = set()
    for i in cases:
        result = bench.results[i]
        mine = {(j, name) for j, name in left if j == i and is_backward(name)}
        steps = [one(bench, result, i, name, True) for name in result.wanted if quantity_of(kind_of(name)) == "y"]
        if result.asked is None or not mine or not all(steps):
            continue
        inputs = result.asked.inputs
        for ways in zip(*(slopes(item) for item in steps if item is not None), strict=True):
            slopes_of = {f"in.dy.{t}": slope for t, slope in enumerate(ways) if f"in.dy.{t}" in inputs}
            turned = {name: inputs[name] * slope for name, slope in slopes_of.items()}
            redo = summed_gradients(exactly(replace(result.asked, inputs={**inputs, **turned})), bench.conventions)
            if all(name in redo and alike(name, redo[name], result, bench.dtype) for _, name in mine):
                hits |= mine
                break
    return hits


def gradients_in_evaluation(bench: Bench, found: list[Item], left: set[Tensor]) -> set[Tensor]:
    """The gradients of evaluation that are right for a y that is another affine map of x for each channel."""
    hits: set[Tensor] = set()
    for item in found:
        i, t = item.at[0], item.at[1].rpartition(".")[2]
        lines = slope_and_start(item)
        if lines is None or item.dy is None:
            continue
        slope, start = (v.reshape((1, -1) + (1,) * (item.x.ndim - 2)) for v in lines)
        axes = (0, *range(2, item.x.ndim))
        weight = item.params["weight"].reshape(slope.shape)
        bias = item.params["bias"].reshape(slope.shape)
        xhat = (slope * item.x + start - bias) / weight
        redo = {f"eval.dx.{t}": slope * item.dy, f"eval.dweight.{t}": (item.dy * xhat).sum(axes)}
        unweighted = {f"eval.dweight.{t}": (item.dy * xhat * weight).sum(axes)}
        zero = {f"eval.d{name}.{t}": 0 * item.params[name] for name in ("weight", "bias")}
        for said in (redo, unweighted, zero):
            hits |= {
                (i, name)
                for name, value in said.items()
                if (i, name) in left and alike(name, value, bench.results[i], bench.dtype)
            }
    return hits


def slopes(item: Item) -> Iterator[Array]:
    """What dy may be multiplied by, y being a function of the right one."""
    got, want = item.got, item.want
    with np.errstate(all="ignore"):
        per = np.where(np.abs(want) > item.tol, got / want, 1.0)
    yield per
    yield np.abs(got - want) <= item.tol
    yield 1 - got * got  # tanh
    yield got * (1 - got)  # sigmoid
    yield 2 * want  # square
    yield got  # exp


def is_backward_kind(kind: str) -> bool:
    """Whether a kind of output is a gradient."""
    return is_backward(kind + ".0")


def says(name: str, quantity: str, kind: str) -> str:
    """The sentence of a structured cause."""
    where = {"eval": " of evaluation", "out": "", "state": " after a step"}[kind.partition(".")[0]]
    text = f"{quantity}{where} is right but for this"
    return f"{text}; {FORMULAS[quantity]}" if "the term of" in name else text
