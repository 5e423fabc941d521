"""Run a case on an adapter, or judge outputs that another program wrote."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from minidl.check.bfloat16 import NAME, storage
from minidl.check.case import LAST_AXIS, Array, Case
from minidl.check.compare import TensorResult, compare
from minidl.check.conventions import (
    Conventions,
    NotSupportedError,
    adapted_inputs,
    asked,
    declared,
    summed_gradients,
)
from minidl.check.converted import in_convention
from minidl.check.memory import arranged
from minidl.check.program import UNSUPPORTED, Make, play

MISSING = "is missing"
SINGLE = "single-value"  # cases of one value per channel
HERE = Path(__file__).parent


@dataclass
class CaseResult:
    """What came of one case: status is passed, failed, declared or absent.

    ``asked``, ``wanted`` and ``tol`` are the case, its expected values and its tolerances as the adapter's conventions
    have them; ``raised`` is an exception of the adapter, ``at`` the line of the user's file that raised it, ``changed``
    are inputs the layer wrote into.
    """

    case: Case
    status: str
    message: str = ""
    tensors: list[TensorResult] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    worst_accurate: float = 0.0
    cause: str = ""
    asked: Case | None = None
    wanted: dict[str, Array] = field(default_factory=dict)
    tol: dict[str, Array] = field(default_factory=dict)
    raised: str = ""
    at: str = ""
    changed: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """The expected outputs that were not given."""
        return [tensor.name for tensor in self.tensors if tensor.problem == MISSING]

    @property
    def judged(self) -> int:
        """How many outputs were compared."""
        return len(self.tensors) - len(self.missing) + (self.case.result == "error" and self.status == "passed")

    @property
    def failed(self) -> list[TensorResult]:
        """The tensors that are wrong, in computation order."""
        return [tensor for tensor in self.tensors if not tensor.passed]

    @property
    def worst(self) -> float:
        """The largest error in units of its tolerance."""
        return max((tensor.worst for tensor in self.tensors), default=0.0)


class Border:
    """Hands inputs to an adapter in its dtype, layout and memory, and sees whether they were changed."""

    def __init__(self, case: Case, dtype: str, conventions: Conventions) -> None:
        self.case, self.dtype, self.conventions = case, dtype, conventions
        self.turned = conventions.layout == "NHWC" and case.layer not in LAST_AXIS
        self.lent: list[tuple[str, Array, Array]] = []

    def place(self, name: str, array: Array) -> Array:
        """Return the array as the adapter gets it."""
        if array.dtype.kind == "i":
            return array.copy()
        if name.startswith("state."):
            return array.astype("float64" if self.dtype == "float64" else "float32")
        array = array.astype(storage() if self.dtype == NAME else self.dtype)
        if name.startswith("param."):
            return array
        if self.turned and array.ndim > 2:
            array = np.ascontiguousarray(np.moveaxis(array, 1, -1))
        array = arranged(array, self.case.memory)
        self.lent.append((name, array, array.copy()))
        return array

    def returned(self, name: str, value: Any) -> Any:
        """Return an output in NCHW, copied before the layer can use its memory again."""
        if isinstance(value, np.ndarray):
            value = value.copy()
            if self.turned and value.ndim > 2 and re.search(r"\.(y|dx)\.", name):
                value = np.moveaxis(value, -1, 1)
        return value

    def changed(self) -> list[str]:
        """The inputs that the adapter wrote into."""
        return [name for name, array, copy in self.lent if not np.array_equal(array, copy, equal_nan=True)]


def raised_at(error: BaseException) -> str:
    """The last line of the user's own code in an exception's traceback: file:line, or nothing."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame for frame in frames if HERE not in Path(frame.filename).parents and "site-packages" not in frame.filename
    ]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


def run_case(make: Make, case: Case, dtype: str, conventions: Conventions | None = None) -> CaseResult:
    """Run one case; whatever the adapter does, a CaseResult comes back."""
    conventions = declared(getattr(make, "conventions", None)) if conventions is None else conventions
    if reason := conventions.excused(case):
        return CaseResult(case, "declared", reason)
    inputs, options = adapted_inputs(case, conventions)
    border = Border(case, dtype, conventions)
    outputs: dict[str, Any] = {}
    unsupported: list[str] = []
    must_raise = case.result == "error" or (case.result == "declared" and conventions.single_value == "raises")
    failure: Exception | None = None
    try:
        with np.errstate(all="ignore"):
            for name, value in play(make, replace(case, inputs=inputs, options=options), border.place):
                if name.startswith(UNSUPPORTED):
                    unsupported.append(f"not supported: {value}")
                else:
                    outputs[name] = border.returned(name, value)
    except NotSupportedError as error:
        unsupported.append(f"not supported: {error}")
    except Exception as error:
        failure = error
    if must_raise and failure:
        return CaseResult(case, "passed", f"raised {type(failure).__name__}, as it must")
    if must_raise and not unsupported:
        return CaseResult(case, "failed", "must raise, and did not", outputs=outputs, asked=asked(case, conventions))
    if failure:
        return raised_result(case, failure, outputs, dtype, conventions)
    result = judge(case, outputs, dtype, conventions)
    if unsupported:
        result.tensors = [tensor for tensor in result.tensors if tensor.problem != MISSING]
        result.status = "failed" if result.failed else "declared"
        result.message = unsupported[0]
        if result.tensors:
            right = sum(tensor.passed for tensor in result.tensors)
            result.message += f" ({right} of {len(result.tensors)} outputs that came are right)"
    if changed := border.changed():
        result.status, result.changed = "failed", tuple(changed)
        result.message = f"the layer changed its input {', '.join(changed)}"
    return result


def raised_result(
    case: Case, error: Exception, outputs: dict[str, Any], dtype: str, conventions: Conventions
) -> CaseResult:
    """The result of a case in which the adapter raised: the exception as itself, and what came before it compared."""
    done = list(outputs)[-1] if outputs else "the start"
    line = (str(error).splitlines() or [""])[0]
    result = judge(case, outputs, dtype, conventions)
    result.tensors = [tensor for tensor in result.tensors if tensor.problem != MISSING]
    result.status, result.raised, result.at = "failed", f"{type(error).__name__}: {line}", raised_at(error)
    where = f", at {result.at}" if result.at else ""
    result.message = f"raised {result.raised} (after {done}{where})"
    return result


def judge(case: Case, outputs: Mapping[str, Any], dtype: str, conventions: Conventions) -> CaseResult:
    """Compare outputs, in computation order, with what a layer of these conventions must answer."""
    converted = in_convention(case, conventions, dtype)
    wanted = summed_gradients(converted.expected, conventions)
    tol = summed_gradients(converted.tol.get(dtype, {}), conventions)
    accurate = summed_gradients(case.accurate.get(dtype, {}), conventions)
    result = CaseResult(case, "passed", outputs=dict(outputs), asked=asked(case, conventions), wanted=wanted, tol=tol)
    for name, want in wanted.items():
        if name not in outputs:
            result.tensors.append(TensorResult(name, np.inf, MISSING))
            continue
        free = name.startswith("state.") or conventions.outputs == "float64" or dtype == NAME
        kind = None if free else dtype
        tensor = compare(name, outputs[name], want, tol[name], kind)
        result.tensors.append(tensor)
        if name in accurate and not tensor.problem:
            strict = compare(name, outputs[name], want, accurate[name]).worst
            result.worst_accurate = max(result.worst_accurate, strict)
    if case.flag == SINGLE:
        result.tensors += not_finite_states(outputs, wanted)
    if result.failed:
        result.status = "failed"
    return result


def not_finite_states(outputs: Mapping[str, Any], wanted: Mapping[str, Array]) -> list[TensorResult]:
    """Running statistics that are NaN or infinite where right layers differ, but give a number."""
    found = []
    for name, value in outputs.items():
        if name.startswith("state.") and name not in wanted:
            array = np.asarray(value)
            bad = int((~np.isfinite(array)).sum()) if array.dtype.kind == "f" else 0
            if bad:
                found.append(TensorResult(name, np.inf, f"{bad} of {array.size} are NaN or infinite"))
    return found
