"""Running a case on both backends: errors of everything it gives, and its times."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minidl import device
from minidl.backend import to_host, use_backend, use_device
from minidl.parity.cases import Case
from minidl.parity.rounding import conditions
from minidl.parity.subjects import Pass

Record = dict[str, Any]
CALLS = 50  # at most, in a measurement


@contextmanager
def side(backend: str, index: int | None) -> Iterator[None]:
    """Compute on a backend, and a GPU of it."""
    with use_backend(backend), use_device(index):
        yield


def compare(case: Case, dtype: str, backend: str, index: int | None = None, seconds: float = 0.1) -> list[Record]:
    """Return a record for each value that a case gives: how far the backend's is from NumPy's.

    Parameters
    ----------
    case : Case
    dtype : "float32" or "float64"
    backend, index : what is compared with NumPy
    seconds : how long to measure the time of either; 0 for not at all
    """
    found, times = {}, {}
    for name in ("numpy", backend):
        with side(name, index if name == backend else None):
            run = case.subject(dtype)
            found[name] = {key: np.array(to_host(value)) for key, value in run().items()}
            times[f"{name}_ms"] = 1e3 * _time(run, seconds) if seconds else None
    ours, theirs = found["numpy"], found[backend]
    if ours.keys() != theirs.keys():
        raise RuntimeError(f"{case.name}: numpy gives {', '.join(ours)}, {backend} gives {', '.join(theirs)}")
    about = {"group": case.group, "case": case.name, "dtype": dtype}
    of = conditions(case.subject)
    return [about | {"value": key} | error(ours[key], theirs[key], of[key].allowed(dtype)) | times for key in ours]


def error(a: np.ndarray, b: np.ndarray, allowed: float) -> Record:
    """Return the largest |a − b| and whether that is allowed; it and the tolerance are relative to the largest |a|.

    An error below the smallest normal number is allowed always: a processor may flush such numbers to zero.

    >>> error(np.array([4.0, -8.0]), np.array([4.0, -8.5]), 0.8)["relative"]
    0.0625
    >>> error(np.array([3e-41], np.float32), np.array([0], np.float32), 1e-42)["ok"]
    True
    """
    if a.shape != b.shape or a.dtype != b.dtype:
        raise RuntimeError(f"numpy gives {a.dtype} {a.shape}, the other backend {b.dtype} {b.shape}")
    largest = float(np.abs(a).max(initial=0.0))
    absolute = float(np.abs(b.astype(np.float64) - a.astype(np.float64)).max(initial=0.0))
    relative, tolerance = (value / largest if largest else value for value in (absolute, allowed))
    smallest = float(np.finfo(a.dtype).tiny) if a.dtype.kind == "f" else 0.0
    ok = bool(absolute <= allowed or absolute <= smallest)  # not of NaN
    return {"absolute": absolute, "largest": largest, "relative": relative, "tolerance": tolerance, "ok": ok}


def _time(run: Pass, seconds: float) -> float:
    """Return the time of a pass: of a burst of them, the device waited for at its ends."""
    run()
    device.synchronize()
    start, calls = time.perf_counter(), 0
    while calls == 0 or (calls < CALLS and time.perf_counter() < start + seconds):
        run()
        calls += 1
    device.synchronize()
    return (time.perf_counter() - start) / calls
