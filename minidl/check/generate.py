"""Make the vectors: ``python -m minidl.check.generate [DIR]``.

Each expected value is computed in 50 digits by the plain layer and rounded once.  It is written only if
``minidl.reference`` in extended precision gives the same to 1e-15, and if the gradients agree with the complex step to
1e-15; otherwise nothing is written and the command says where they differ.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from minidl.check.adapters.reference import Adapter as Reference
from minidl.check.case import SCHEMA, Array, Case
from minidl.check.cases import all_cases
from minidl.check.expected import compute, fill, tolerances
from minidl.check.flags import FLAGS
from minidl.check.program import play
from minidl.check.suite import VECTORS
from minidl.check.values import away_from_zero
from minidl.command_line import Parser, as_path

DIGITS = 50
AGREEMENT = 1e-15
STEP = "1e-40"
DIRECTIONS = 2


class DisagreementError(Exception):
    """Two oracles differ, so no vector is written."""


def in_digits(array: Array) -> Array:
    """The array as mpmath numbers, which hold its values exactly."""
    import mpmath

    if array.dtype.kind in "iO":
        return array
    return np.asarray(np.frompyfunc(mpmath.mpf, 1, 1)(array.astype(np.float64).astype(object)), dtype=object)


def precise(case: Case) -> dict[str, Array]:
    """Outputs in 50 digits."""
    import mpmath

    with mpmath.workdps(DIGITS):
        return compute(case, lambda name, array: in_digits(array))


def rounded(value: Any) -> Array:
    """An output in 50 digits, rounded once to float64."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.frompyfunc(float, 1, 1)(value), dtype=np.float64)


def wanted(case: Case, values: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs that a case asks for.

    Left out is what right layers may answer differently: the unbiased variance of a single value, and dbias = sum dy,
    written or not as a sum over gates that are NaN.
    """
    unsettled = {"single-value": "state.", "nan-one-sample": "out.dbias."}.get(case.flag)
    return {n: rounded(v) for n, v in values.items() if unsettled is None or not n.startswith(unsettled)}


def agree_with_reference(case: Case, want: Mapping[str, Array]) -> None:
    """Raise unless minidl.reference in longdouble gives the wanted values.

    The bound is 1e-15 of the tensor's largest value, or, for an ill-conditioned case, the tolerance rule at
    longdouble's unit.
    """
    with np.errstate(all="ignore"):
        lift = lambda name, array: array if array.dtype.kind == "i" else array.astype(np.longdouble)  # noqa: E731
        got = dict(play(Reference, case, lift))
    allowed = tolerances(case, "float64", want)
    for name, value in want.items():
        finite = np.abs(value[np.isfinite(value)])
        bound = np.maximum(AGREEMENT * finite.max(initial=0.0), allowed[name].max(initial=0.0) / 1024.0)
        other = np.asarray(got[name], np.longdouble)
        same = (np.abs(other - value) <= bound + np.spacing(np.abs(value))) | (np.isnan(other) & np.isnan(value))
        if other.shape != value.shape or not same.all():
            raise DisagreementError(f"{case.id}: {name} of minidl.reference differs from the value in {DIGITS} digits")


def one_step(case: Case, values: Mapping[str, Array], t: int) -> Case:
    """Step t alone, from the state that the steps before it left: running statistics are constants to its gradients."""
    step = [step for step in case.steps if step != "reload"][t]
    inputs = {name: value for name, value in case.inputs.items() if not name.startswith("in.")}
    inputs |= {f"in.{kind}.0": case.inputs[f"in.{kind}.{t}"] for kind in ("x", "dy")}
    inputs |= {f"state.0.{n.split('.', 2)[2]}": v for n, v in values.items() if t and n.startswith(f"state.{t}.")}
    return replace(case, steps=(step,), inputs=inputs)


def agree_with_complex_step(case: Case, values: Mapping[str, Array]) -> None:
    """Raise unless each step's gradients along random directions equal the complex step of its forward pass."""
    steps = [step for step in case.steps if step != "reload"]
    for t, step in enumerate(steps):
        prefix = "out" if step == "train" else "eval"
        if f"in.dy.{t}" in case.inputs and np.isfinite(case.inputs[f"in.x.{t}"]).all():
            grads = {
                name: value for name, value in values.items() if name.startswith(prefix) and name.endswith(f".{t}")
            }
            found = {name.removeprefix(f"{prefix}.").removesuffix(f".{t}"): value for name, value in grads.items()}
            for trial in range(DIRECTIONS):
                if not derivative_agrees(one_step(case, values, t), prefix, found, f"{case.id} {t} {trial}"):
                    raise DisagreementError(f"{case.id}: the gradients of step {t} differ from the complex step")


def derivative_agrees(case: Case, prefix: str, grads: Mapping[str, Array], key: str) -> bool:
    """Whether the gradients along a random direction equal the imaginary part of the loss a tiny step along i times
    it.
    """
    import mpmath

    names = ["in.x.0"] + [name for name in case.inputs if name.startswith("param.") and name != "param.labels"]
    with mpmath.workdps(DIGITS):
        along = {name: in_digits(away_from_zero(f"{key} {name}", *case.inputs[name].shape)) for name in names}
        step = mpmath.mpc(0, STEP)
        moved = compute(
            case, lambda name, array: in_digits(array) + along[name] * step if name in along else in_digits(array)
        )[f"{prefix}.y.0"]
        want = np.asarray(in_digits(case.inputs["in.dy.0"]) * moved).sum().imag / mpmath.mpf(STEP)
        terms = [(grads["dx" if n == "in.x.0" else "d" + n.removeprefix("param.")] * along[n]).sum() for n in names]
        scale = sum((abs(term) for term in terms), abs(want))
        return bool(abs(sum(terms) - want) <= AGREEMENT * scale)


def finished(case: Case) -> Case:
    """The case with expected values that three oracles agree on, and tolerances."""
    if case.result == "error":
        return case
    values = precise(case)
    want = wanted(case, values)
    agree_with_reference(case, want)
    agree_with_complex_step(case, values)
    return fill(case, want)


def generate(folder: Path, cases: list[Case]) -> int:
    """Write the vectors and the index; return their size in bytes."""
    files = {f"{case.layer}/{case.id}.safetensors": finished(case).to_file() for case in cases}
    for name, raw in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    (folder / "index.json").write_text(index_of(cases, files), "utf-8")
    return sum(len(raw) for raw in files.values())


def index_of(cases: list[Case], files: Mapping[str, bytes]) -> str:
    """Return the text of the index of cases, of which files has the content by name, in the cases' order."""
    lines: list[dict[str, Any]] = []
    for case, (name, raw) in zip(cases, files.items(), strict=True):
        head = {"id": case.id, "layer": case.layer, "flag": case.flag, "dtype": case.dtype, "file": name}
        lines.append({**head, "sha256": hashlib.sha256(raw).hexdigest(), "result": case.result})
    used = {case.flag for case in cases}
    flags = {name: asdict(flag) for name, flag in FLAGS.items() if name in used}
    return json.dumps({"schema": SCHEMA, "flags": flags, "cases": lines}, indent=1) + "\n"


def main(arguments: list[str]) -> int:
    """Generate into the folder given, or into the package."""
    parser = Parser(prog="python -m minidl.check.generate", description="Compute the vectors anew and write them.")
    parser.add_argument("folder", nargs="?", type=as_path, default=VECTORS, metavar="DIR", help="where (the package)")
    folder = parser.parse_args(arguments).folder
    cases = all_cases()
    print(f"{len(cases)} cases in 50 digits, half a minute or more; then they are written to {folder}", flush=True)
    try:
        size = generate(folder, cases)
    except DisagreementError as error:
        print(f"generate: {error}; nothing was written", file=sys.stderr)
        return 1
    print(f"{folder}: {size / 2**20:.2f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
