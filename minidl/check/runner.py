"""Run a case on an adapter, or judge outputs that another program wrote."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from minidl.check.case import Array, Case
from minidl.check.compare import TensorResult, compare
from minidl.check.conventions import (
    Conventions,
    NotSupportedError,
    adapted_inputs,
    declared,
    in_convention,
    summed_gradients,
)
from minidl.check.memory import arranged
from minidl.check.program import Make, play


@dataclass
class CaseResult:
    """What came of one case: status is passed, failed, declared or absent."""

    case: Case
    status: str
    message: str = ""
    tensors: list[TensorResult] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    worst_accurate: float = 0.0
    cause: str = ""

    @property
    def failed(self) -> list[TensorResult]:
        """The tensors that are wrong, in computation order."""
        return [tensor for tensor in self.tensors if not tensor.passed]

    @property
    def worst(self) -> float:
        """The largest error in units of its tolerance."""
        return max((tensor.worst for tensor in self.tensors), default=0.0)


def load_adapter(spec: str) -> Make:
    """Import ``pkg.module:Name`` and return what it names, or raise ImportError with one line."""
    module_name, _, name = spec.partition(":")
    if not name:
        raise ImportError(f"run: an adapter must be given as pkg.module:Name, got {spec!r}")
    try:
        return cast(Make, getattr(importlib.import_module(module_name), name))
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"run: the adapter {spec!r} cannot be loaded ({error}); is its folder on PYTHONPATH?"
        ) from None


class Border:
    """Hands inputs to an adapter in its dtype, layout and memory, and sees whether they were changed."""

    def __init__(self, case: Case, dtype: str, conventions: Conventions) -> None:
        self.case, self.dtype, self.conventions = case, dtype, conventions
        self.lent: list[tuple[str, Array, Array]] = []

    def place(self, name: str, array: Array) -> Array:
        """Return the array as the adapter gets it."""
        if array.dtype.kind == "i":
            return array.copy()
        if name.startswith("state."):
            return array.astype("float32" if self.dtype == "float16" else self.dtype)
        array = array.astype(self.dtype)
        if name.startswith("param."):
            return array
        if self.conventions.layout == "NHWC" and array.ndim > 2:
            array = np.ascontiguousarray(np.moveaxis(array, 1, -1))
        array = arranged(array, self.case.memory)
        self.lent.append((name, array, array.copy()))
        return array

    def returned(self, name: str, value: Any) -> Any:
        """Return an output in NCHW, copied before the layer can use its memory again."""
        if isinstance(value, np.ndarray):
            value = value.copy()
            if self.conventions.layout == "NHWC" and value.ndim > 2 and re.search(r"\.(y|dx)\.", name):
                value = np.moveaxis(value, -1, 1)
        return value

    def changed(self) -> list[str]:
        """The inputs that the adapter wrote into."""
        return [name for name, array, copy in self.lent if not np.array_equal(array, copy, equal_nan=True)]


def run_case(make: Make, case: Case, dtype: str, conventions: Conventions | None = None) -> CaseResult:
    """Run one case; whatever the adapter does, a CaseResult comes back."""
    conventions = declared(getattr(make, "conventions", None)) if conventions is None else conventions
    if case.shards and conventions.shards == "unsupported":
        return CaseResult(case, "declared", "shards are declared unsupported")
    inputs, options = adapted_inputs(case, conventions)
    border = Border(case, dtype, conventions)
    outputs: dict[str, Any] = {}
    must_raise = case.result == "error" or (case.result == "declared" and conventions.single_value == "raises")
    try:
        with np.errstate(all="ignore"):
            for name, value in play(make, replace(case, inputs=inputs, options=options), border.place):
                outputs[name] = border.returned(name, value)
    except NotSupportedError as error:
        return CaseResult(case, "declared", f"not supported: {error}")
    except Exception as error:
        if must_raise:
            return CaseResult(case, "passed", f"raised {type(error).__name__}, as it must")
        done = list(outputs)[-1] if outputs else "the start"
        line = (str(error).splitlines() or [""])[0]
        return CaseResult(case, "failed", f"raised {type(error).__name__}: {line} (after {done})", outputs=outputs)
    if must_raise:
        return CaseResult(case, "failed", "must raise, and did not", outputs=outputs)
    result = judge(case, outputs, dtype, conventions)
    if changed := border.changed():
        result.status, result.message = "failed", f"the layer changed its input {', '.join(changed)}"
    return result


def judge(case: Case, outputs: Mapping[str, Any], dtype: str, conventions: Conventions) -> CaseResult:
    """Compare outputs, in computation order, with what a layer of these conventions must answer."""
    case = in_convention(case, conventions, dtype)
    wanted, tol = summed_gradients(case.expected, conventions), summed_gradients(case.tol[dtype], conventions)
    accurate = case.accurate.get(dtype, {})
    result = CaseResult(case, "passed", outputs=dict(outputs))
    for name, want in wanted.items():
        if name not in outputs:
            result.tensors.append(TensorResult(name, np.inf, "is missing"))
            continue
        kind = None if name.startswith("state.") else dtype
        tensor = compare(name, outputs[name], want, tol[name], kind)
        result.tensors.append(tensor)
        if name in accurate and not tensor.problem:
            strict = compare(name, outputs[name], want, accurate[name]).worst
            result.worst_accurate = max(result.worst_accurate, strict)
    if result.failed:
        result.status = "failed"
    return result
