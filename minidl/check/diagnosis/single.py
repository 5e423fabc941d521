"""One expression of the layer's formula that is another: every single change of its source is held against the layer.

They are thousands, so each must first give a wrong output of two small cases; what is left is held against all.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np

from minidl.check.diagnosis.consequences import alike
from minidl.check.diagnosis.evidence import Bench, Hypothesis, Tensor, best_of, is_backward
from minidl.check.diagnosis.replay import FORMULA
from minidl.check.diagnosis.weighing import Cause, covered
from minidl.check.plain.derived import Derived
from minidl.check.variants.edited import Edited, namespace_of
from minidl.check.variants.edits import edits

TRUE = 0.95  # the share of its predictions that such a change gets right
LEAST = 4  # wrong outputs that it explains
CLEARLY = 3  # wrong predictions that rule a change out beside one that has none
SURVIVORS = 60  # that are held against all cases
ROUNDS = 3
Sieve = Callable[[Edited], bool]


def by_single_changes(
    bench: Bench, left: set[Tensor], wrong: set[Tensor], layer: str
) -> tuple[list[Cause], set[Tensor]]:
    """The changes that explain what is left, and what is left then."""
    causes: list[Cause] = []
    for _ in range(ROUNDS):
        cause = best_change(bench, left, wrong, layer)
        if cause is None:
            break
        causes.append(cause)
        left = left - covered(cause.rivals[0], wrong)
        if not left:
            break
    return causes, left


def best_change(bench: Bench, left: set[Tensor], wrong: set[Tensor], layer: str) -> Cause | None:
    """The one change that explains most of what is left."""
    sieves = [sieve(bench, i, left, layer) for i in smallest(bench, left)]
    if len(sieves) < 2:
        return None
    known = [v for v in edits(layer) if sieves[0](v)]
    known = [v for v in known if sieves[1](v)][:SURVIVORS]
    weighed = [h for v in known for h in best_of(bench.weigh(v, wrong))]
    sound = [h for h in weighed if sure(h, left, wrong)]
    if not sound:
        return None
    sound.sort(key=lambda h: len(h.misses) - len(h.hits & left))  # of equals the first, which is the simplest
    best = sound[0]
    equals = [best]
    for other in sound[1:]:
        if other.hits & left == best.hits & left and other.misses == best.misses:
            equals.append(other)
            continue
        clearly = not best.misses and len(other.misses) >= CLEARLY
        if not clearly and len(other.hits & left) - len(other.misses) > 0.9 * len(best.hits & left) - len(best.misses):
            return None  # two that cannot be told apart, and are not the same
    ends = [best] if equals[-1].variant.name == best.variant.name else [best, equals[-1]]  # the same at either end
    return Cause(ends, best.hits & left)


def sure(h: Hypothesis, left: set[Tensor], wrong: set[Tensor]) -> bool:
    """Whether nearly all that a change says is true, and explains a good part of what is left."""
    if len(h.hits & left) < max(LEAST, 0.3 * len(left)):
        return False
    forward = sum(not is_backward(name) for _, name in h.hits & left)
    return h.precision >= TRUE or (forward >= LEAST and h.forward_precision >= TRUE)


def smallest(bench: Bench, left: set[Tensor]) -> list[int]:
    """Two small cases that fail as most do, of as many axes as there are."""
    kinds = [name.partition(".")[2] for _, name in left]
    most = max(set(kinds), key=kinds.count)
    cases = {i for i, name in left if name.partition(".")[2] == most and bench.results[i].asked is not None}
    cases = {i for i in cases if not bench.results[i].case.shards and not bench.results[i].raised}

    def size(i: int) -> tuple[int, int]:
        asked = bench.results[i].asked
        assert asked is not None
        x = asked.inputs["in.x.0"]
        return -sum(n > 1 for n in x.shape), x.size

    return sorted((i for i in cases if np.isfinite(first_input(bench, i)).all()), key=size)[:2]


def first_input(bench: Bench, i: int) -> Any:
    """The first x of a case."""
    asked = bench.results[i].asked
    return np.zeros(1) if asked is None else asked.inputs["in.x.0"]


def sieve(bench: Bench, i: int, left: set[Tensor], layer: str) -> Sieve:
    """Whether a change gives a wrong output of a case: y or a gradient of its first step, if one is wrong there."""
    result = bench.results[i]
    asked = result.asked
    assert asked is not None
    inputs = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in asked.inputs.items()}
    params = {k[6:]: v for k, v in inputs.items() if k.startswith("param.")}
    state = {k[8:]: v for k, v in inputs.items() if k.startswith("state.0.")}
    x, dy, training = inputs["in.x.0"], inputs.get("in.dy.0"), asked.steps[0] == "train"
    prefix = "out" if training else "eval"
    mine = [name for j, name in sorted(left) if j == i]
    output = f"{prefix}.y.0"
    gradients = [name for name in mine if is_backward(name) and name.startswith(prefix) and name.endswith(".0")]

    def gives_y(variant: Edited) -> bool:
        if variant.of_gradients or variant.function == "update" or variant.derived:
            return False
        made = variant.plain(layer, dict(asked.options))
        made.load(deepcopy(params), deepcopy(state))
        return alike(output, made.compute(x, training), result, bench.dtype)

    bases: dict[Any, Any] = {}

    def base_of(form: Any) -> Any:
        if form not in bases:
            bases[form] = namespace_of(layer, form)["Layer"](layer, dict(asked.options))
            bases[form].load(params, state)
            bases[form].forward(x, training)
        return bases[form]

    def gives_gradients(variant: Edited) -> bool:
        made: Any = variant.plain(layer, dict(asked.options))
        if variant.derived:
            made = Derived(made)
            made.load(params, state)
            made.forward(x, training)
            found = made.backward(dy)
        elif variant.of_gradients:
            base = base_of(variant.form)
            made.params, made.kept = deepcopy((base.params, base.kept))  # a change may write into them
            found = made.gradients(dy)
        else:
            return False
        quantities = {name: name.split(".", 1)[1].rpartition(".")[0] for name in gradients}
        return any(alike(name, found.get(quantity), result, bench.dtype) for name, quantity in quantities.items())

    def gives_any(variant: Edited) -> bool:
        held = Hypothesis(variant, FORMULA)
        bench.hold(held, i, left)
        return len(held.hits) > len(held.misses)

    chosen = gives_y if output in mine else gives_gradients if gradients and dy is not None else gives_any

    def safely(variant: Edited) -> bool:
        with np.errstate(all="ignore"):
            try:
                return chosen(variant)
            except Exception:  # a change that makes no sense here
                return False

    return safely
