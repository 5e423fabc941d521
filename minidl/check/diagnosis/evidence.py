"""What speaks for and against a known variant: the outputs of a layer that it predicts, and those it gets wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from minidl.check.conventions import Conventions
from minidl.check.diagnosis.consequences import alike, within
from minidl.check.diagnosis.replay import DERIVED, FORMULA, computed_in, key_of, predicted
from minidl.check.plain import first_gradient, plain_source
from minidl.check.runner import MISSING, CaseResult
from minidl.check.variants import Variant

BACKWARD = "backward"  # the right forward pass beside the gradients of a wrong one
ONLY = "only "  # the right layer beside one gradient of a wrong one, which is named after this
RIGHT = "right"  # a wrong forward pass beside the right gradients
Tensor = tuple[int, str]  # a case's number and an output's name
PANEL = 12  # failing cases that a variant is first held against
HOPELESS = 8  # outputs a variant gets wrong, after which it is dropped


@dataclass
class Hypothesis:
    """A variant with one of its backward passes.

    ``hits`` are wrong outputs that it predicts, ``misses`` outputs of which it says a wrong thing, ``ended`` cases
    whose y it predicts and is of a wrong shape or not finite: the gradients of such a y depend on who takes them.
    """

    variant: Variant
    form: str
    hits: set[Tensor] = field(default_factory=set)
    misses: set[Tensor] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)

    @property
    def precision(self) -> float:
        """The share of its predictions that came true."""
        said = len(self.hits) + len(self.misses)
        return len(self.hits) / said if said else 0.0

    @property
    def forward_precision(self) -> float:
        """The same over the outputs and states alone."""
        hits, misses = (sum(not is_backward(name) for _, name in of) for of in (self.hits, self.misses))
        return hits / (hits + misses) if hits + misses else 0.0


def kind_of(name: str) -> str:
    """An output's name without the number of its step."""
    parts = name.split(".")
    if parts[0] == "state":
        return ".".join(["state", *parts[2:]])
    return name.rpartition(".")[0] or name


def quantity_of(kind: str) -> str:
    """What an output is called without its step: dx, y, running_var."""
    return kind.partition(".")[2]


def is_backward(name: str) -> bool:
    """Whether an output is a gradient."""
    prefix, _, rest = name.partition(".")
    return prefix in ("out", "eval") and rest.startswith("d")


@dataclass
class Bench:
    """The results of a run, prepared for variants to be held against them."""

    results: Sequence[CaseResult]
    dtype: str
    conventions: Conventions
    keys: list[Any] = field(default_factory=list)
    trial: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys = [key_of(result.asked) if result.asked else () for result in self.results]
        self.raising = any(result.raised for result in self.results) and any(
            not result.raised and result.outputs for result in self.results
        )
        usable = [i for i, r in enumerate(self.results) if r.asked is not None and (r.outputs or r.raised)]
        self.failing = [i for i in usable if self.results[i].status == "failed"]
        self.others = [i for i in usable if self.results[i].status != "failed"]

    def wrong(self) -> set[Tensor]:
        """The outputs that need a cause: wrong, and not right for an earlier wrong value."""
        found = {(i, tensor.name) for i in self.failing for tensor in self.results[i].failed}
        found -= {
            (i, t.name) for i in self.failing for t in self.results[i].failed if t.problem == MISSING or t.follows
        }
        for i in self.failing:
            if self.results[i].raised and self.raising:
                found.add((i, "raised"))
            if self.results[i].message.startswith("must raise"):
                found.add((i, "must raise"))
        return found

    def panel(self, wrong: set[Tensor]) -> list[int]:
        """A few failing cases: of each set of outputs that fail together the first, then the second of each."""
        seen: Counter[frozenset[str]] = Counter()
        chosen: tuple[list[int], list[int]] = ([], [])
        for i in sorted({i for i, _ in wrong}, key=lambda i: (self.results[i].case.memory != "", i)):
            kinds = frozenset(name.rpartition(".")[0] for j, name in wrong if j == i)
            if seen[kinds] < 2:
                chosen[seen[kinds]].append(i)
            seen[kinds] += 1
        return [*chosen[0], *chosen[1]][:PANEL]

    def weigh(self, variant: Variant, wrong: set[Tensor], cases: Sequence[int] = ()) -> list[Hypothesis]:
        """A variant's hypotheses with their hits and misses over all cases, or none if it is hopeless."""
        if not self.trial:
            self.trial = self.panel(wrong)
        trial = list(cases) or self.trial
        first = self.tried(Hypothesis(variant, FORMULA), trial, wrong)
        at_all = any(not is_backward(name) for _, name in first.hits) or not any(
            not is_backward(name) for _, name in first.misses
        )
        found = [first]
        if at_all and not variant.derived and not only_backward(variant):
            forms = (RIGHT,) if variant.closed else (DERIVED, RIGHT)
            found += [self.tried(Hypothesis(variant, form), trial, wrong) for form in forms]
        found = [h for h in found if h.hits]
        if cases or not found:
            return found
        rest = [i for i in (*self.failing, *self.others) if i not in trial]
        return [h for h in (self.tried(h, rest, wrong) for h in found) if len(h.misses) <= HOPELESS + len(h.hits)]

    def tried(self, hypothesis: Hypothesis, cases: Iterable[int], wrong: set[Tensor]) -> Hypothesis:
        """Hold a hypothesis against cases until it is hopeless."""
        for i in cases:
            self.hold(hypothesis, i, wrong)
            if len(hypothesis.misses) > HOPELESS + 3 * len(hypothesis.hits) and hypothesis.forward_precision < 0.5:
                break
        return hypothesis

    def says(self, variant: Variant, i: int) -> Hypothesis:
        """What a variant with its own backward pass says of a case."""
        found = Hypothesis(variant, FORMULA)
        self.hold(found, i, {(i, tensor.name) for tensor in self.results[i].failed})
        return found

    def outputs(self, hypothesis: Hypothesis, i: int) -> dict[str, Any]:
        """What a hypothesis predicts of a case."""
        result = self.results[i]
        assert result.asked is not None
        form = DERIVED if hypothesis.form == DERIVED else FORMULA
        kind = np.float32 if self.dtype == "float16" else np.float64
        found = predicted(hypothesis.variant, form, result.asked, self.keys[i], kind, self.conventions)
        if hypothesis.form == BACKWARD:
            return {name: value if is_backward(name) else result.wanted.get(name) for name, value in found.items()}
        if hypothesis.form.startswith(ONLY):
            one = hypothesis.form.removeprefix(ONLY)
            return {n: value if quantity_of(kind_of(n)) == one else result.wanted.get(n) for n, value in found.items()}
        if hypothesis.form == RIGHT:
            return {name: result.wanted.get(name) if is_backward(name) else value for name, value in found.items()}
        return dict(found)

    def short(self, hypothesis: Hypothesis, i: int) -> dict[str, Any]:
        """The same, computed in the layer's own dtype: what overflows there overflows alike."""
        result = self.results[i]
        assert result.asked is not None
        form = DERIVED if hypothesis.form == DERIVED else FORMULA
        kind = computed_in(self.dtype)
        return dict(predicted(hypothesis.variant, form, result.asked, self.keys[i], kind, self.conventions))

    def hold(self, hypothesis: Hypothesis, i: int, wrong: set[Tensor]) -> None:
        """Hold a hypothesis against one case."""
        result = self.results[i]
        said = self.outputs(hypothesis, i)
        if result.message.startswith("must raise"):
            if "raised" not in said:
                hypothesis.hits.add((i, "must raise"))
            return
        if "raised" in said and not result.raised:
            hypothesis.misses.add((i, "raised"))
        elif "raised" in said and (i, "raised") in wrong:
            hypothesis.hits.add((i, "raised"))
        overflow: dict[str, Any] | None = None
        for tensor in result.tensors:
            name = tensor.name
            want, value = result.wanted.get(name), said.get(name)
            if value is None or tensor.problem == MISSING:
                continue
            if want is None:  # a state of which no more is asked than that it is finite
                if not np.isfinite(value).all():
                    hypothesis.hits.add((i, name))
                continue
            says_wrong = np.shape(value) != np.shape(want) or not within(value, want, result.tol[name])
            fits = alike(name, value, result, self.dtype)
            if not fits and _ends_early(result.outputs.get(name), value):
                overflow = self.short(hypothesis, i) if overflow is None else overflow
                value = overflow.get(name, value)
                fits = alike(name, value, result, self.dtype)
                says_wrong = says_wrong or (fits and not tensor.passed)
            if fits and (i, name) in wrong and says_wrong:
                hypothesis.hits.add((i, name))
                broken = np.shape(value) != np.shape(want) or (~np.isfinite(value) & np.isfinite(want)).any()
                if broken and not is_backward(name):
                    hypothesis.ended.add(i)
            elif says_wrong and not fits and not tensor.follows:
                hypothesis.misses.add((i, name))
        if i in hypothesis.ended:
            hypothesis.misses -= {(k, name) for k, name in hypothesis.misses if k == i and is_backward(name)}
            hypothesis.misses.discard((i, "raised"))


def _ends_early(got: Any, value: Any) -> bool:
    """Whether an output has a NaN or an infinity more than a prediction, or a NaN for its infinity."""
    try:
        wide = np.asarray(got, np.float64)
    except (TypeError, ValueError):
        return False
    if wide.shape != np.shape(value):
        return False
    return bool(((~np.isfinite(wide) & np.isfinite(value)) | (np.isnan(wide) & ~np.isnan(value))).any())


@cache
def _only_backward(layer: str, patches: tuple[tuple[str, str], ...]) -> bool:
    source, start = plain_source(layer), first_gradient(layer)
    return bool(patches) and all(source.index(old) > start for old, _ in patches)


def only_backward(variant: Variant) -> bool:
    """Whether all a variant changes is its backward pass."""
    return variant.of_gradients or _only_backward(variant.layer, variant.patches)


def best_of(hypotheses: Sequence[Hypothesis]) -> Iterator[Hypothesis]:
    """The best form of each variant."""
    by_variant: dict[tuple[Any, ...], Hypothesis] = {}
    for hypothesis in hypotheses:
        key = hypothesis.variant.key
        old = by_variant.get(key)
        if old is None or _worth(hypothesis) > _worth(old):
            by_variant[key] = hypothesis
    return iter(by_variant.values())


def _worth(hypothesis: Hypothesis) -> float:
    return len(hypothesis.hits) - len(hypothesis.misses)
