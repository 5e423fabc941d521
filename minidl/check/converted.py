"""Expected values in the conventions of the layer under test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from minidl.check.case import Case
from minidl.check.conventions import Conventions, asked
from minidl.check.expected import exactly, tolerances
from minidl.check.variants import known_wrong


def in_convention(case: Case, conventions: Conventions, dtype: str) -> Case:
    """The case as a layer of these conventions must answer it: other running statistics mean other expected values."""
    if case.result == "error":
        return case
    wide = asked(case, conventions)
    kept = {name: value for name, value in case.expected.items() if _runs_backward(name, wide)}
    wide = replace(wide, expected=kept)
    if wide.options != case.options or "state.0.running_var" in wide.inputs.keys() - case.inputs.keys():
        wide = _recomputed(wide, case, conventions, dtype)
    return _of_one_pass(wide, dtype) if conventions.variance == "one_pass" else wide


def _runs_backward(name: str, case: Case) -> bool:
    prefix, _, rest = name.partition(".")
    return prefix == "state" or not rest.startswith("d") or f"in.dy.{name.rpartition('.')[2]}" in case.inputs


_KNOWN: dict[Any, Case] = {}
_CANCELLED: dict[Any, dict[str, Any]] = {}


def _of_one_pass(case: Case, dtype: str) -> Case:
    """The case with the tolerances of a variance in one pass, E[x²] − m², where they are larger.

    Both summands carry a rounding of the unit u of their size v + m², which the difference v keeps: v errs by about
    1 + m²/v times what it errs by in two passes.  The tolerance follows that of its own accord, since it is found by
    the same rounding noise, in the operations of this formula.
    """
    layers = [variant for variant in known_wrong(case.layer) if variant.name == "one-pass variance"]
    if not layers or dtype not in case.tol:
        return case
    key = (case.id, dtype, repr(case.options), *(value.tobytes() for value in case.inputs.values()))
    if key not in _CANCELLED:
        _CANCELLED[key] = tolerances(case, dtype, case.expected, layers[0])
    wider = {
        name: np.maximum(tol, _CANCELLED[key][name]) for name, tol in case.tol[dtype].items() if name in case.expected
    }
    return replace(case, tol={**case.tol, dtype: case.tol[dtype] | wider})


def _recomputed(wide: Case, case: Case, conventions: Conventions, dtype: str) -> Case:
    """Expected values and tolerances of other options, from the plain layer."""
    key = (case.id, conventions, dtype, b"".join(value.tobytes() for value in case.inputs.values()))
    if key in _KNOWN:
        return replace(_KNOWN[key])
    values = exactly(wide)
    renamed = ("_square", "running_var")
    want = {
        name: value.astype(np.float64)
        for name, value in values.items()
        if name in wide.expected or name.endswith(renamed)
    }
    if not any(name.startswith("state.1.") for name in case.expected):
        want = {name: value for name, value in want.items() if not name.startswith("state")}
    same = wide.options.keys() - case.options.keys() <= {"running_var"} and case.layer == "batch_norm"
    same = same and all(wide.options[name] == value for name, value in case.options.items())
    kept = {key for key in want if same and (key.startswith("out.") or key.endswith("running_mean"))}
    kept &= wide.expected.keys()
    tol = tolerances(wide, dtype, {key: value for key, value in want.items() if key not in kept})
    expected = {key: wide.expected[key] if key in kept else value for key, value in want.items()}
    tol |= {key: case.tol[dtype][key] for key in kept}
    _KNOWN[key] = replace(wide, expected=expected, tol={dtype: tol})
    return replace(_KNOWN[key])
