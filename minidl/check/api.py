"""Run, verify and the grades: what a program or a person calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from minidl.check import bfloat16
from minidl.check.adapter import load_adapter
from minidl.check.case import DTYPES, Array, Case
from minidl.check.conventions import Conventions, declared
from minidl.check.diagnosis import diagnose
from minidl.check.program import Make
from minidl.check.report import Report
from minidl.check.runner import CaseResult, judge, run_case
from minidl.check.safetensors import VectorError, read
from minidl.check.seeds import seeded
from minidl.check.suite import VECTORS, Entry, Suite, open_suite


def chosen(suite: Suite, layer: str, only: Iterable[str] = ()) -> list[Entry]:
    """The index's entries of a layer, or those of it whose id contains one of ``only``; unknown names raise
    ValueError.
    """
    if layer not in suite.layers:
        raise ValueError(f"run: layer must be one of {', '.join(suite.layers)}, got {layer!r}")
    wanted = tuple(only)
    return [e for e in suite.entries if e.layer == layer and (not wanted or any(part in e.id for part in wanted))]


def damaged(entry: Entry, error: VectorError) -> CaseResult:
    """The result of a case whose file cannot be used."""
    return CaseResult(Case(entry.id, entry.layer, entry.flag, entry.dtype, {}, ()), "failed", str(error))


def run(
    adapter: Make | str,
    layer: str = "batch_norm",
    dtype: str = "float32",
    cases: Iterable[str] = (),
    vectors: str | Path = VECTORS,
    conventions: Mapping[str, str] | None = None,
) -> Report:
    """Run the cases of a layer on an adapter and return the report.

    Parameters
    ----------
    adapter : a class or function called as ``adapter(layer, options)`` for every case, or "pkg.module:Name"
    layer, dtype : which cases, and the dtype of the arrays handed over
    cases : parts of case names; none means all
    vectors : a folder of vectors; with the shipped ones, larger cases that are made from seeds are run as well
    conventions : what the layer declares, in place of the adapter's own ``conventions``

    Raises
    ------
    ImportError, ValueError
        If the adapter cannot be loaded, or the layer, the dtype or a convention is none of the known ones.

    Examples
    --------
    >>> from minidl import check
    >>> report = check.run("minidl.check.adapters.reference:Adapter", "group_norm", "float64", cases=["shape"])
    >>> print(report.text().splitlines()[-1].partition(";")[0])
    3 cases: 3 passed, 0 failed, 0 declared, 0 absent
    """
    if dtype not in (*DTYPES, bfloat16.NAME):
        raise ValueError(f"run: dtype must be one of {', '.join((*DTYPES, bfloat16.NAME))}, got {dtype!r}")
    name = adapter if isinstance(adapter, str) else getattr(adapter, "__name__", type(adapter).__name__)
    make = load_adapter(adapter) if isinstance(adapter, str) else adapter
    agreed = declared(getattr(make, "conventions", None) if conventions is None else conventions)
    suite = open_suite(vectors)
    results = []
    for entry in chosen(suite, layer, cases):
        try:
            case = suite.case(entry)
        except VectorError as error:
            results.append(damaged(entry, error))
            continue
        held = bfloat16.held_in(case, dtype)
        if held is not None:
            results.append(run_case(make, held, dtype, agreed))
    if Path(vectors) == VECTORS:
        wanted = tuple(cases)
        for case in seeded(layer, dtype):
            if not wanted or any(part in case.id for part in wanted):
                results.append(run_case(make, replace(case), dtype, agreed))
    usable = [result for result in results if result.case.steps]
    return Report(f"{name}: {layer} in {dtype}", results, diagnose(usable, layer, dtype, agreed))


def verify(
    vectors: str | Path,
    outputs: str | Path,
    layer: str = "",
    conventions: Mapping[str, str] | None = None,
    dtype: str = "",
) -> Report:
    """Compare outputs that another program wrote with what is expected: a safetensors file for each case.

    The tolerance is that of ``dtype``, the dtype the program computes in, whatever dtype its outputs are stored in; if
    none is given, that of the outputs' own dtype.  Cases whose inputs are not exact in ``dtype`` (the float16 cases for
    a float32 program) are left out.  Cases without an output file are counted as absent.  Parameter gradients are those
    of each backward alone unless ``grads='accumulate'`` is declared.

    Parameters
    ----------
    vectors : path
        The folder of vectors that the program read.
    outputs : path
        The folder of its files, under the vectors' names.
    layer : str
        Only this layer's cases; all by default.
    conventions : mapping of str, optional
        What the layer declares.
    dtype : str
        The dtype that the program computes in; by default that of each output.

    Returns
    -------
    Report
        Its ``exit_code`` is 3 where nothing was found.

    Examples
    --------
    >>> from minidl.check.suite import VECTORS
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as empty:
    ...     verify(VECTORS, empty, "group_norm").exit_code
    3
    """
    if dtype and dtype not in DTYPES:
        raise ValueError(f"verify: dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    agreed = declared({"grads": "overwrite", **(conventions or {})})
    suite = open_suite(vectors)
    results: list[CaseResult] = []
    for entry in suite.entries if not layer else chosen(suite, layer):
        if dtype and not Case(entry.id, entry.layer, entry.flag, entry.dtype, {}, ()).runs_in(dtype):
            continue
        found = [path for path in (Path(outputs) / entry.file, Path(outputs) / Path(entry.file).name) if path.exists()]
        if not found:
            results.append(CaseResult(Case(entry.id, entry.layer, entry.flag, entry.dtype, {}, ()), "absent"))
            continue
        try:
            case = suite.case(entry)
            results.append(verified(case, found[0], agreed, dtype))
        except VectorError as error:
            results.append(damaged(entry, error))
    lines = []
    for name in dict.fromkeys(result.case.layer for result in results):
        for kind in [dtype] if dtype else DTYPES:
            usable = [r for r in results if r.case.layer == name and r.case.steps]
            usable = [r for r in usable if dtype or _dtype_of(r.outputs) == kind]
            lines += [f"{name}: {line}" for line in diagnose(usable, name, kind, agreed)]
    present = [result for result in results if result.status != "absent"]
    return Report(f"{outputs}: {len(present)} of {len(results)} cases have outputs", results if present else [], lines)


def _dtype_of(outputs: Mapping[str, Array]) -> str:
    for name, value in outputs.items():
        if not name.startswith("state."):
            return str(np.asarray(value).dtype)
    return ""


def verified(case: Case, path: Path, conventions: Conventions, dtype: str) -> CaseResult:
    """Judge one file of outputs; where a dtype is given, the outputs may be stored in another."""
    tensors, _ = read(path)
    stored = _dtype_of(tensors)
    if not stored or not case.tol:
        found = stored or "no output of a known name"
        raise VectorError(
            f"{path.name}: its outputs must be in {' or '.join(case.tol) or 'no dtype: it must raise'}, got {found}"
        )
    if not dtype and stored not in case.tol:
        raise VectorError(
            f"{path.name}: its outputs must be in {' or '.join(case.tol)}, got {stored}; if the program computes in "
            f"another dtype than it writes, say so with --dtype"
        )
    if dtype:
        tensors = {name: value.astype(dtype) if value.dtype.kind == "f" else value for name, value in tensors.items()}
    return judge(case, tensors, dtype or stored, conventions)
