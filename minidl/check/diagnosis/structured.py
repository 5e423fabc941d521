"""Causes that need no listed variant: what is wrong with one output, told from the formula that it must follow.

They are looked for after the listed variants, in the outputs that those leave unexplained and that do not follow from
a wrong y.
"""

from __future__ import annotations

from minidl.check.diagnosis.evidence import FORMULA, Bench, Hypothesis, Tensor, is_backward, kind_of
from minidl.check.diagnosis.items import items
from minidl.check.diagnosis.scaled import told_of
from minidl.check.diagnosis.terms import by_terms
from minidl.check.diagnosis.weighing import Cause
from minidl.check.variants import Variant

FORMULAS = {"dx": "dx = rstd (d − mean(d) − xhat mean(d xhat)) with d = dy weight"}


def quantity_of(kind: str) -> str:
    """What an output is called without its step: dx, y, running_var."""
    return kind.partition(".")[2]


def structured(bench: Bench, left: set[Tensor], wrong: set[Tensor], layer: str) -> tuple[list[Cause], set[Tensor]]:
    """The causes that are found in what is left, and what is left then."""
    forward_wrong = {i for i, name in wrong if not is_backward(name) and quantity_of(kind_of(name)) == "y"}
    causes: dict[str, Cause] = {}
    kinds = dict.fromkeys(kind_of(name) for _, name in sorted(left) if "." in name)
    for kind in sorted(kinds, key=is_backward_kind):
        chosen = {(i, name) for i, name in left if kind_of(name) == kind}
        if is_backward_kind(kind) and len({i for i, _ in chosen} & forward_wrong) > 0.2 * len(chosen):
            continue  # the gradients of a wrong y
        found = items(bench, kind, chosen)
        usable = [item for item in found if item.wrong]
        if len(usable) < 2 or len(usable) < 0.4 * len(chosen):
            continue
        told = told_of(found)
        quantity = quantity_of(kind)
        if told is None and quantity == "dx":
            told = by_terms(found)
            if told is not None:
                told = f"{told[0]}", told[1]
        if told is None:
            continue
        words, hits = told
        name = f"{quantity}: {words}" if words.startswith("the ") else f"{quantity} {words}"
        # what could not be looked at, the memory of its inputs being unusual, goes with the rest of its kind
        hits = hits | {at for at in chosen if at not in {item.at for item in usable}}
        if name in causes:
            causes[name].hits |= hits
            continue
        variant = Variant(layer, name.replace(":", ",", 1), says(name, quantity, kind), ())
        causes[name] = Cause([Hypothesis(variant, FORMULA, hits=hits)], hits)
    for cause in causes.values():
        left = left - cause.hits
    return list(causes.values()), left


def is_backward_kind(kind: str) -> bool:
    """Whether a kind of output is a gradient."""
    return is_backward(kind + ".0")


def says(name: str, quantity: str, kind: str) -> str:
    """The sentence of a structured cause."""
    where = {"eval": " of evaluation", "out": "", "state": " after a step"}[kind.partition(".")[0]]
    text = f"the layer's {quantity}{where} is the right one but for this"
    return f"{text}; {FORMULAS[quantity]}" if name.startswith("dx: the") else text

