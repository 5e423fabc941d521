"""Does this installation still compute the shipped vectors?  One sentence if it does not."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from minidl.check.adapter import load_adapter
from minidl.check.case import Case
from minidl.check.conventions import declared
from minidl.check.runner import CaseResult, judge, run_case
from minidl.check.safetensors import VectorError
from minidl.check.suite import VECTORS, open_suite

ADAPTERS = ("minidl.check.adapters.reference:Adapter", "minidl.check.adapters.minidl:Adapter")
CASES = (
    "linear-shape-nc-float32-01",
    "conv2d-kernel-3x3-float32-01",
    "conv2d-stride-oblong-float32-01",
    "max_pool2d-overlap-float32-01",
    "avg_pool2d-overlap-float32-01",
    "softmax_cross_entropy-shape-nc-float32-01",
    "batch_norm-shape-nchw-float32-01",
    "batch_norm-momentum-0.1-float32-01",
    "batch_norm-eval-backward-float32-01",
    "instance_norm-shape-nchw-float32-01",
    "layer_norm-shape-nchw-float32-01",
    "group_norm-two-groups-float32-01",
    "mode_norm-modes-3-float32-01",
    "mode_norm-momentum-0.1-float32-01",
    "mode_norm-eval-twice-float32-01",
    "mode_group_norm-modes-3-float32-01",
    "mode_group_norm-pooled-float32-01",
)


def selftest(folder: str | Path = VECTORS) -> str:
    """Run a few shipped cases of every layer on ``minidl.reference`` and on minidl's layers, in float64.

    Parameters
    ----------
    folder : of the vectors

    Returns
    -------
    "" if everything agrees, else one sentence: which file differs, in which case, and what brings it back

    Notes
    -----
    A comparison that has stopped comparing is found as well: every case is judged a second time with one element
    changed, and must then fail.

    Examples
    --------
    >>> selftest()
    ''
    """
    use_backend = importlib.import_module("minidl").use_backend
    try:
        suite = open_suite(folder)
        entries = {entry.id: entry for entry in suite.entries}
        missing = [name for name in CASES if name not in entries]
        if missing:
            return _sentence(Path(folder) / "index.json", f"has no case {missing[0]}")
        cases = [suite.case(entries[name]) for name in CASES]
    except VectorError as error:
        return _sentence(Path(folder), str(error))
    with use_backend("numpy"):
        for spec in ADAPTERS:
            for case in cases:
                result = run_case(load_adapter(spec), case, "float64")
                if result.status != "passed":
                    said = result.message or result.failed[0].lines()[0]
                    return _sentence(_room(spec, case), f"does not give the shipped answer of {case.id}: {said}")
                if not _notices_a_change(spec, result):
                    return _sentence(Path(inspect.getfile(judge)).with_name("compare.py"), "lets wrong values pass")
    return ""


def _sentence(path: Path, what: str) -> str:
    return (
        f"{path}, or what it calls, {what}; bring minidl back with `git checkout -- minidl` in the clone, or with "
        "`pip install --force-reinstall --no-deps` and what you installed it from, then restart the kernel"
    )


def _room(spec: str, case: Case) -> Path:
    """Return the file that holds the layer under test."""
    made: Any = load_adapter(spec)(case.layer, case.options)
    where = getattr(importlib.import_module("minidl.reference"), case.layer) if "reference" in spec else type(made.made)
    return Path(inspect.getfile(where))


def _notices_a_change(spec: str, result: CaseResult) -> bool:
    """Whether the same outputs with one element changed are refused."""
    conventions = declared(load_adapter(spec).conventions)  # type: ignore[attr-defined]
    name = next(iter(result.outputs))
    changed = np.array(result.outputs[name])
    changed.flat[0] += 1.0
    again = judge(replace(result.case), result.outputs | {name: changed}, "float64", conventions)
    return again.status == "failed"
