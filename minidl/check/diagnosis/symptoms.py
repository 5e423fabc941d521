"""Causes that are told without replaying values: exceptions, outputs that are missing, inputs that were changed, a
shorter floating-point format, sizes beyond a limit, and digits that are noise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from minidl.check.case import LAST_AXIS, Array
from minidl.check.compare import TensorResult
from minidl.check.conventions import Conventions, is_gradient
from minidl.check.diagnosis.consequences import alike, within
from minidl.check.diagnosis.evidence import Bench, Tensor, kind_of
from minidl.check.diagnosis.replay import FORMULA, computed_in, key_of, predicted
from minidl.check.runner import CaseResult
from minidl.check.variants import Variant, known_wrong

SPREAD = 30  # between small and large errors of a rounded factor, as parts of their values
ALIKE = 0.6  # of the failing cases that two layers share, whose wrong digits are noise
FORMATS = {"bfloat16": 8, "float16 or TF32": 11, "float32": 24}
DIGITS = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}


def exceptions(results: Sequence[CaseResult]) -> list[str]:
    """A note of each exception: its type, its message, and the line of the user's file."""
    ran = sum(bool(r.outputs or r.raised) for r in results)
    counted = Counter((r.raised, r.at) for r in results if r.raised)
    lines = []
    for (what, at), count in counted.most_common(3):
        where = f", at {at}" if at else ""
        lines.append(f"note: the adapter raises {what}{where} (in {count} of {ran} cases)")
    for result in results:
        if result.raised:
            result.cause = result.raised
    return lines


def missing(results: Sequence[CaseResult]) -> list[str]:
    """A note of the outputs that were never given."""
    ran = [r for r in results if r.tensors]
    kinds = Counter(kind_of(name) for r in ran for name in r.missing)
    if not kinds:
        return []
    given = Counter(kind_of(t.name) for r in ran for t in r.tensors if t.name not in r.missing)
    never = [kind for kind in kinds if kind not in given]
    names = ", ".join(sorted(never or kinds))
    text = (
        f"note: {names} {'are never given' if never else 'are missing'} (in {len([r for r in ran if r.missing])} cases)"
    )
    backward = [kind for kind in kinds if ".d" in kind]
    if len(backward) == len(kinds) and all(kind.startswith("eval.") for kind in backward):
        text += "; if the layer has no backward pass in evaluation, declare backward='training'"
    elif never and len(backward) == len(kinds):
        text += "; if the layer has no backward pass, declare backward='none'"
    return [text]


def dtypes(bench: Bench, wrong: set[Tensor]) -> tuple[list[str], set[Tensor]]:
    """A line for outputs whose values are right and whose dtype is not, and those outputs."""
    found: dict[str, set[Tensor]] = {}
    for i in bench.failing:
        for tensor in bench.results[i].failed:
            if tensor.problem.startswith("dtype") and not tensor.bad and (i, tensor.name) in wrong:
                found.setdefault(tensor.problem, set()).add((i, tensor.name))
    lines = []
    for problem, tensors in found.items():
        names = ", ".join(sorted({kind_of(name) for _, name in tensors}))
        cases = {i for i, _ in tensors}
        hint = "; if you mean it, declare outputs='float64'" if "is float64" in problem else ""
        lines.append(
            f"dtype of {names}: {problem}; its values are right{hint} (explains {len(cases)} of {len(bench.failing)} "
            "failing cases)"
        )
        for i in cases:
            bench.results[i].cause = f"dtype of {names}"
    return lines, set().union(*found.values()) if found else set()


def overwritten(bench: Bench, left: set[Tensor]) -> tuple[str, set[Tensor]] | None:
    """A line, and the outputs it explains, if some gradients are overwritten where all are declared to add up."""
    if bench.conventions.grads != "accumulate":
        return None
    kinds: dict[str, set[Tensor]] = {}
    for i, name in left:
        kinds.setdefault(kind_of(name), set()).add((i, name))
    told: dict[str, set[Tensor]] = {}
    for kind, tensors in kinds.items():
        if (
            is_gradient(kind + ".0")
            and len(tensors) >= 2
            and all(alone(bench.results[i], n, bench) for i, n in tensors)
        ):
            told[kind.partition(".")[2]] = tensors
    if not told:
        return None
    hits = set().union(*told.values())
    count = len({i for i, _ in hits})
    text = (
        f"{' and '.join(told)} overwritten: stored anew in each backward pass, where gradients are declared to add up"
    )
    return f"{text} (explains {count} of {len(bench.failing)} failing cases)", hits


def alone(result: CaseResult, name: str, bench: Bench) -> bool:
    """Whether a gradient is that of its own step, without those before it."""
    stem, _, step = name.rpartition(".")
    quantity = stem.partition(".")[2]
    before = [f"{prefix}.{quantity}.{int(step) - 1}" for prefix in ("out", "eval")]
    earlier = next((n for n in before if n in result.wanted), None)
    if (
        earlier is None
        or name not in result.wanted
        or np.shape(result.wanted[name]) != np.shape(result.wanted[earlier])
    ):
        return False
    own = np.asarray(result.wanted[name], np.float64) - np.asarray(result.wanted[earlier], np.float64)
    return alike(name, own, result, bench.dtype)


def in_place(results: Sequence[CaseResult]) -> list[str]:
    """A line for each input that the layer writes into."""
    lines = []
    for what in ("x", "dy"):
        cases = [r for r in results if any(name.startswith(f"in.{what}.") for name in r.changed)]
        if cases:
            count = sum(r.status == "failed" for r in results)
            lines.append(
                f"{what} changed in place: the layer writes into {what} (explains {len(cases)} of {count} "
                f"failing cases)"
            )
            for result in cases:
                result.cause = f"{what} changed in place"
    return lines


def precision(bench: Bench, wrong: set[Tensor], dtype: str) -> tuple[str, set[Tensor]] | None:
    """A line, and the outputs it explains, if errors are those of a format shorter than the layer's dtype."""
    if dtype in ("float16", "bfloat16"):
        return None
    kinds = dict.fromkeys(kind_of(name) for _, name in sorted(wrong))
    groups = [set(kinds)] + [{kind} for kind in kinds]
    for group in groups:
        chosen = {(i, name) for i, name in wrong if kind_of(name) in group and name in bench.results[i].wanted}
        cases = {i for i, _ in chosen}
        ran = [i for i, r in enumerate(bench.results) if any(kind_of(name) in group for name in r.outputs)]
        if len(cases) < 4 or len(cases) < 0.6 * len(ran):
            continue
        tensors = [
            (bench.results[i], t) for i in sorted(cases) for t in bench.results[i].failed if (i, t.name) in chosen
        ]
        units = np.array([t.worst for _, t in tensors])
        for name, digits in sorted(FORMATS.items(), key=lambda item: -item[1]):
            ratio = 2.0 ** (DIGITS[dtype] - digits)
            if ratio <= 1 or np.mean(units <= 2 * ratio) < 0.9:
                continue
            short = representable(tensors, digits)
            noise = group == groups[0] and np.median(units) >= ratio / 2**9 and all_noise(tensors)
            if short or (noise and digits > FORMATS["bfloat16"]):
                if not short:
                    if not any(".y" in kind for kind in group):
                        continue  # noise in gradients alone may be of many kinds
                    name = {"float16 or TF32": "float16, bfloat16 or TF32"}.get(name, name)
                return said_short(bench, cases, chosen, group, kinds, name, units, dtype)
            break
    return None


def said_short(
    bench: Bench,
    cases: set[int],
    chosen: set[Tensor],
    group: set[str],
    kinds: Mapping[str, None],
    name: str,
    units: Array,
    dtype: str,
) -> tuple[str, set[Tensor]]:
    """The line of a shorter format; only the statistics are short where no y of training is, and evaluation follows."""
    whole = len(group) == len(kinds) and any(kind.startswith("out.") for kind in group)
    stored = any(kind.startswith("state.") for kind in group) and "out.y" not in group
    what = "running statistics" if stored else ", ".join(sorted(group))
    what = "computed" if whole and not stored else f"{what} kept"
    for i in cases:
        bench.results[i].cause = f"{what} in {name}"
    text = (
        f"{what} in {name} whatever the dtype: the errors are those of sums or values kept in {name}, about "
        f"{np.median(units):.2g} tolerances of {dtype} (explains {len(cases)} of {len(bench.failing)} failing cases)"
    )
    return text, chosen


def representable(tensors: Sequence[tuple[CaseResult, TensorResult]], digits: int) -> bool:
    """Whether all wrong outputs are numbers of so many binary digits."""
    exact = []
    for result, tensor in tensors:
        got = np.asarray(result.outputs[tensor.name])
        if got.dtype.kind == "f" and np.isfinite(got).all() and np.count_nonzero(got) > 2:
            mantissa = np.frexp(got.astype(np.float64))[0] * 2.0**digits
            exact.append(bool((mantissa == np.round(mantissa)).all()))
    return len(exact) >= 4 and bool(np.mean(exact) > 0.9)


def all_noise(tensors: Sequence[tuple[CaseResult, TensorResult]]) -> bool:
    """Whether errors do not depend on the values they are errors of; or as often one way as the other, and of one size
    by the values, as the error of one rounded factor does.
    """
    found, signs, lopsided, parts = [], [], [], []
    for result, tensor in tensors:
        want, got = np.asarray(result.wanted[tensor.name], np.float64), np.asarray(result.outputs[tensor.name])
        if want.size >= 20 and got.shape == want.shape and np.isfinite(got).all() and np.isfinite(want).all():
            error = (got.astype(np.float64) - want).reshape(-1)
            table = error.reshape(want.shape)
            large = np.abs(want) > np.abs(want).max() / 10
            parts.append(float(np.abs(table[large] / want[large]).max(initial=0.0)))
            channel = want.ndim - 1 if result.case.layer in LAST_AXIS else min(1, want.ndim - 1)
            others = tuple(k for k in range(want.ndim) if k != channel)
            lopsided.append(np.abs(table.mean(axis=others)).mean() / (np.abs(error).mean() or 1) if others else 0.0)
            axes = (0, *range(2, want.ndim))
            flat = (want - want.mean(axis=axes, keepdims=True)).reshape(-1)
            scale = np.sqrt((error**2).sum())
            if scale > 0:
                aligned = [error @ v / scale / np.sqrt(v @ v) for v in (flat, want.reshape(-1)) if v @ v > 0]
                found.append(max((abs(a) for a in aligned), default=0.0))
                signs += [a > 0 for a in aligned[:1]]
    if len(found) < 3 or np.median(lopsided) > 0.8:  # of one sign in each channel: not rounding
        return False
    low, high = np.percentile(parts, [10, 90])
    mixed = len(signs) >= 6 and 0.25 <= np.mean(signs) <= 0.75 and high <= SPREAD * low
    return bool(np.median(found) < 0.45 or mixed)


SIZES: dict[str, Callable[[tuple[int, ...]], int]] = {
    "values of a channel": lambda shape: int(np.prod(shape)) // shape[1],
    "channels": lambda shape: shape[1],
    "samples": lambda shape: shape[0],
    "pixels": lambda shape: int(np.prod(shape[2:])),
}
LARGER = {"large", "many-channels", "many-samples"}  # cases that differ from others in their size alone
ROWS: dict[str, Callable[[tuple[int, ...]], int]] = {
    "values of a row": lambda shape: shape[-1],
    "rows": lambda shape: int(np.prod(shape[:-1])),
}


def by_size(results: Sequence[CaseResult], dtype: str) -> tuple[str, set[str]] | None:
    """A line, and the cases it explains, if exactly the cases above a size fail."""
    counted = [
        r
        for r in results
        if r.case.inputs.get("in.x.0") is not None and r.outputs and not r.raised and not r.case.shards
    ]
    fails = [r for r in counted if r.status == "failed"]
    passes = [r for r in counted if r.status == "passed"]
    if len(fails) < 2 or len(passes) < 8:
        return None
    if not {r.case.flag for r in fails} & (LARGER | {r.case.flag for r in passes}):
        return None  # these cases differ from the others in more than their size
    names, says = [], []
    for name, size in (ROWS if counted[0].case.layer in LAST_AXIS else SIZES).items():
        low = max(size(r.case.inputs["in.x.0"].shape) for r in passes)
        high = min(size(r.case.inputs["in.x.0"].shape) for r in fails)
        if high > low:
            names.append(f"limit on the {name}")
            says.append(f"all cases of up to {low} {name} pass, and all of {high} or more fail")
    if not names:
        return None
    for result in fails:
        result.cause = " or ".join(names)
    return f"{' or '.join(names)}: {'; '.join(says)}", {r.case.id for r in fails}


def by_symptom(
    remaining: Sequence[CaseResult],
    results: Sequence[CaseResult],
    layer: str,
    dtype: str,
    conventions: Conventions,
) -> tuple[str, set[str]] | None:
    """Name a variant whose wrong digits are noise, by the cases it fails."""
    failing = {result.case.id for result in remaining}
    for variant in known_wrong(layer):
        if not variant.symptom:
            continue
        theirs = {
            r.case.id
            for r in results
            if r.asked and r.wanted and not r.case.shards and loses(variant, r, dtype, conventions)
        }
        common = failing & theirs
        if common and len(common) >= ALIKE * len(failing | theirs):
            for result in remaining:
                result.cause = variant.name if result.case.id in common else result.cause
            seen = f"; seen in {', '.join(variant.seen)}" if variant.seen else ""
            count = sum(r.status == "failed" for r in results)
            text = f"{variant.name}: {variant.says} (explains {len(common)} of {count} failing cases){seen}"
            return text, common
    return None


def loses(variant: Variant, result: CaseResult, dtype: str, conventions: Conventions) -> bool:
    """Whether a variant, computed in the layer's own dtype and conventions, fails a case."""
    assert result.asked is not None
    said = predicted(variant, FORMULA, result.asked, key_of(result.asked), computed_in(dtype), conventions)
    return any(
        not within(said[name], want, result.tol[name])
        for name, want in result.wanted.items()
        if name in said and np.shape(said[name]) == np.shape(want)
    )
