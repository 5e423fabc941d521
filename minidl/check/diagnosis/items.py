"""One output of one step, with all that it was computed from: what the structured causes look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.check.case import LAST_AXIS, Array
from minidl.check.conventions import is_gradient
from minidl.check.diagnosis.evidence import Bench, Tensor, kind_of
from minidl.check.expected import UNIT
from minidl.check.runner import CaseResult

SHARE = 0.9  # of the wrong outputs of a kind that a structured cause explains, and of the right ones that it leaves so
LEAST = 3  # wrong outputs that it explains


@dataclass
class Item:
    """An output as the layer gave it and as it must be, for one step alone.

    ``tol`` is its tolerance, the rounding of its largest value counted; ``old`` are the layer's own running statistics
    before the step, and ``base`` the right ones; ``running`` and ``after`` are the layer's own running variances before
    and after it, ``running_mean`` its running mean before it; ``trained`` counts the steps of training before it.
    """

    at: Tensor
    wrong: bool
    got: Array
    want: Array
    tol: Array
    x: Array
    dy: Array | None
    params: Mapping[str, Array]
    options: Mapping[str, Any]
    layer: str
    training: bool
    old: Array | None = None
    base: Array | None = None
    running: Array | None = None
    running_mean: Array | None = None
    after: Array | None = None
    trained: int = 0

    def equals(self, predicted: Any, scale: float = 1.0) -> bool:
        """Whether the output is a prediction, up to rounding."""
        if np.shape(predicted) != self.got.shape:
            return False
        with np.errstate(invalid="ignore"):
            return bool((np.abs(self.got - predicted) <= self.tol * max(1.0, abs(scale))).all())


def wide(value: Any) -> Array | None:
    """An array in float64, or nothing."""
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None


def items(bench: Bench, kind: str, left: set[Tensor]) -> list[Item]:
    """The outputs of a kind, where got and want have one shape and are finite, the wrong ones that are ``left`` first;
    wrong ones that have a cause are left out.
    """
    found = []
    for i in (*bench.failing, *bench.others):
        result = bench.results[i]
        if result.asked is None or result.case.shards:
            continue
        broken = {tensor.name for tensor in result.failed}
        for name in result.wanted:
            if kind_of(name) != kind or (name in broken and (i, name) not in left):
                continue
            if (item := one(bench, result, i, name, name in broken)) is not None:
                found.append(item)
    return sorted(found, key=lambda item: not item.wrong)


def one(bench: Bench, result: CaseResult, i: int, name: str, wrong: bool) -> Item | None:
    """An output by its name, gradients that add up taken apart."""
    assert result.asked is not None
    inputs, state = result.asked.inputs, name.startswith("state.")
    t = int(name.split(".")[1]) - 1 if state else int(name.rpartition(".")[2])
    x = inputs.get(f"in.x.{t}")
    got, want, tol = wide(result.outputs.get(name)), wide(result.wanted[name]), wide(result.tol.get(name, 0))
    if x is None or got is None or want is None or tol is None or got.shape != want.shape or not want.size:
        return None
    if bench.conventions.grads == "accumulate" and is_gradient(name):
        quantity = name.split(".", 1)[1].rpartition(".")[0]
        before = [f"{prefix}.{quantity}.{t - 1}" for prefix in ("out", "eval")]
        for earlier in (n for n in before if n in result.wanted):
            first = wide(result.outputs.get(earlier))
            if first is None or first.shape != got.shape:
                return None
            got, want = got - first, want - np.asarray(result.wanted[earlier], np.float64)
    if not (np.isfinite(got).all() and np.isfinite(want).all()):
        return None
    dy = inputs.get(f"in.dy.{t}")
    steps = [step for step in result.asked.steps if step != "reload"]
    item = Item(
        (i, name),
        wrong,
        got,
        want,
        allowed(tol, got, want, UNIT[bench.dtype]),
        x.astype(np.float64),
        None if dy is None else dy.astype(np.float64),
        {k[6:]: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in inputs.items() if k[:6] == "param."},
        result.asked.options,
        result.case.layer,
        steps[t] == "train",
    )
    item.trained = steps[:t].count("train")
    for field, number, which in (("running", t, "var"), ("after", t + 1, "var"), ("running_mean", t, "mean")):
        statistic = result.outputs.get(f"state.{number}.running_{which}")
        statistic = inputs.get(f"state.0.running_{which}") if statistic is None and number == 0 else statistic
        if statistic is not None:
            setattr(item, field, wide(statistic))
    if state and "reload" not in result.asked.steps:
        before_it = f"state.{t}.{name.split('.', 2)[2]}"
        item.old = wide(inputs.get(before_it) if t == 0 else result.outputs.get(before_it))
        item.base = wide(inputs.get(before_it) if t == 0 else result.wanted.get(before_it))
    return item


def allowed(tol: Array, got: Array, want: Array, unit: float) -> Array:
    """What an output may be off that a slip has made larger: its tolerance with it, and some rounding."""
    largest = float(np.abs(want).max())
    larger = max(largest, float(np.abs(got).max()))
    more = larger / largest if largest else 1.0
    return np.asarray(4 * np.broadcast_to(tol, got.shape) * more + 64 * unit * larger)


def step_of(item: Item) -> int:
    """The number of an output's step."""
    name = item.at[1]
    return int(name.split(".")[1]) if name.startswith("state.") else int(name.rpartition(".")[2])


def everywhere(looked_at: Iterable[Item], hits: set[Tensor]) -> bool:
    """Whether what explains ``hits`` explains some of each kind of step: of each rank of x, and of each step's number.

    What is true of nine outputs in ten and of none after the first step is not the cause, though the first step is
    most of what there is.
    """
    told: dict[tuple[str, int], list[bool]] = {}
    for item in looked_at:
        for kind in (("rank", item.x.ndim), ("step", step_of(item))):
            told.setdefault(kind, []).append(item.at in hits)
    return all(any(of) for of in told.values() if len(of) > 1)


def agreed(found: list[Item], names: Callable[[Item], set[str] | None]) -> tuple[list[str], set[Tensor]] | None:
    """The names that hold for nearly all wrong outputs that tell anything (None tells nothing), and those outputs."""
    told: dict[str, set[Tensor]] = {}
    counted, asked = 0, []
    for item in (item for item in found if item.wrong):
        said = names(item)
        if said is None:
            continue
        counted += 1
        asked.append(item)
        for name in said:
            told.setdefault(name, set()).add(item.at)
        if counted >= 5 and not any(len(hits) >= SHARE * counted - 1 for hits in told.values()):
            return None
    whole = [name for name, hits in told.items() if len(hits) >= SHARE * counted and everywhere(asked, hits)]
    most = max((len(told[name]) for name in whole), default=0)
    whole = [name for name in whole if len(told[name]) == most]
    return (whole, told[whole[0]]) if counted >= LEAST and whole else None


def fits(found: list[Item], predict: Callable[[Item], Any], scale: float = 1.0) -> set[Tensor] | None:
    """The wrong outputs that a prediction explains, or None if it does not explain nearly all, or spoils right ones."""
    wrong = [item for item in found if item.wrong]
    allowed = (1 - SHARE) * len(wrong)
    hits: set[Tensor] = set()
    missed = 0
    for item in wrong:
        if item.equals(predict(item), scale):
            hits.add(item.at)
        else:
            missed += 1
            if missed > allowed:
                return None
    if len(hits) < min(LEAST, len(wrong)) or len(hits) < 2 or not everywhere(wrong, hits):
        return None
    right = [item for item in found if not item.wrong]
    spoilt = sum(not item.equals(predict(item), scale) for item in right)
    return hits if spoilt <= (1 - SHARE) * max(len(right), 1) else None


def sizes(item: Item) -> Iterator[tuple[str, float]]:
    """The counts that a formula of the layer has, or that are taken for one of them."""
    shape, o = item.x.shape, item.options
    n = shape[0]
    if item.layer in LAST_AXIS:
        yield "the values of a row", shape[-1]
        yield "the rows", item.x.size / shape[-1]
        yield "the batch", n
        if len(shape) > 2:
            yield "the tokens of a sample", item.x.size / shape[-1] / n
    elif item.layer in ("linear", "softmax_cross_entropy"):
        yield "the batch", n
        yield "the classes" if item.layer != "linear" else "the inputs", shape[1]
        if item.layer == "linear":
            yield "the outputs", item.params["weight"].shape[0]
        yield "all values of x", item.x.size
    elif item.dy is not None and item.layer in ("conv2d", "max_pool2d", "avg_pool2d"):
        yield "the batch", n
        yield "the channels", shape[1]
        yield "the pixels of y", item.dy[0, 0].size
        yield "the pixels of x", item.x[0, 0].size
        yield "the batch times the pixels of y", n * item.dy[0, 0].size
        kernel = item.params["weight"].shape[2:] if item.layer == "conv2d" else tuple(np.ravel(o["kernel_size"]))
        yield "the kernel's area", float(np.prod(np.broadcast_to(kernel, 2)))
        if item.layer == "conv2d":
            yield "the output channels", item.params["weight"].shape[0]
            yield "the values of a kernel", item.params["weight"][0].size
        yield "the area of the stride", float(np.prod(np.broadcast_to(o["stride"], 2)))
    else:
        pixels = float(np.prod(shape[2:]))
        yield "the batch", n
        yield "the channels", shape[1]
        yield "all values of a channel", n * pixels
        if len(shape) > 3:
            yield "the height", shape[2]
            yield "the width", shape[3]
        yield "the values of a sample", shape[1] * pixels
        if len(shape) > 2:
            yield "the pixels", pixels
        if "num_groups" in o:
            yield "the groups", float(o["num_groups"])
            yield "the channels of a group", shape[1] / float(o["num_groups"])
            yield "the values of a group", shape[1] * pixels / float(o["num_groups"])
        if "num_modes" in o:
            yield "the modes", float(o["num_modes"])


CONSTANTS = {
    "has the wrong sign": -1.0,
    "is doubled": 2.0,
    "is halved": 0.5,
    "has the wrong sign and is doubled": -2.0,
    "has the wrong sign and is halved": -0.5,
    "is multiplied by 3": 3.0,
    "is multiplied by 4": 4.0,
    "is divided by 4": 0.25,
    "is multiplied by the root of 2": 2**0.5,
    "is divided by the root of 2": 0.5**0.5,
    "is divided by ln 10, as a logarithm to base 10 is": 1 / np.log(10.0),
    "is divided by ln 2, as a logarithm to base 2 is": 1 / np.log(2.0),
}


def factors(item: Item) -> Iterator[tuple[str, float]]:
    """Factors that are slips, in words; the commonest first."""
    yield from CONSTANTS.items()
    for name, value in sizes(item):
        yield f"is divided by {name}", 1.0 / value
        yield f"is multiplied by {name}", value
    for name, value in sizes(item):
        yield f"has a factor n/(n − 1), n being {name}", value / max(value - 1, 1)
        yield f"has a factor (n − 1)/n, n being {name}", max(value - 1, 1) / value
        yield f"has a factor root of n/(n − 1), n being {name}", (value / max(value - 1, 1)) ** 0.5
        yield f"is divided by the root of {name}", value**-0.5
        yield f"is multiplied by the root of {name}", value**0.5
        yield f"has the wrong sign and is divided by {name}", -1.0 / value
        yield f"has the wrong sign and is multiplied by {name}", -value
        yield f"is divided by {name} squared", value**-2.0
        yield f"is doubled and divided by {name}", 2.0 / value
    if "momentum" in item.options:
        yield "has the momentum as a factor", float(item.options["momentum"])
        yield "has 1 − momentum as a factor", 1 - float(item.options["momentum"])
