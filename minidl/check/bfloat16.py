"""Cases in bfloat16: the float32 cases with their inputs rounded to it, expected values and tolerances anew.

bfloat16 is float32 with 8 binary digits.  Arrays are of ``ml_dtypes.bfloat16`` where that package is installed, else
float32 that hold numbers of bfloat16; outputs may be of either.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from minidl.check.case import Array, Case
from minidl.check.expected import exactly, tolerances

NAME = "bfloat16"


@cache
def storage() -> np.dtype[Any]:
    """The dtype that bfloat16 arrays have here."""
    try:
        kind: Any = importlib.import_module("ml_dtypes").bfloat16
    except ImportError:
        kind = np.float32
    made: np.dtype[Any] = np.dtype(kind)
    return made


def rounded(array: Array) -> Array:
    """The nearest numbers of bfloat16, ties to even, as float32; NaN stays NaN.

    Examples
    --------
    >>> rounded(np.array([1.0, 1.00390625, 1.01171875, np.nan]))
    array([1.      , 1.      , 1.015625,      nan], dtype=float32)
    """
    single = np.asarray(array, np.float32)
    bits: Array = np.atleast_1d(single).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    near = bits.astype(np.uint32).view(np.float32).reshape(single.shape)
    return np.where(np.isnan(single), single, near)


def narrowed(case: Case) -> Case | None:
    """A float32 case in bfloat16; None of one that bfloat16 cannot hold: a large mean, a tiny scale."""
    if case.dtype != "float32" or case.offset or case.flag in ("std-1e-8", "subnormal", "constant", "shifted"):
        return None
    inputs = {
        name: value if value.dtype.kind == "i" or name.startswith("state.") else rounded(value)
        for name, value in case.inputs.items()
    }
    near = replace(case, inputs=inputs, accurate={})
    if case.result == "error":
        return near
    values = {k: v.astype(np.float64) for k, v in exactly(near).items() if not case.expected or k in case.expected}
    return replace(near, expected=values, tol={NAME: tolerances(near, NAME, values)})


def held_in(case: Case, dtype: str) -> Case | None:
    """The case in a dtype, or None if it cannot be had."""
    if dtype == NAME:
        return narrowed(case)
    return case if case.runs_in(dtype) else None
