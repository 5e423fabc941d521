"""How near every comparison of the suite comes to failing: |got − want| / tolerance, worst first.

    PYTHONPATH=tests python -m pytest -p margins --margins margins.csv tests/norm

NumPy and OpenBLAS choose their kernels by NPY_DISABLE_CPU_FEATURES, OPENBLAS_CORETYPE and OPENBLAS_NUM_THREADS;
--other-draws N has every generator of the suite draw from another seed.

A margin above 1/3 is one that another processor, another BLAS or another seed may turn into a failure: the tolerance
does not follow from the arithmetic. Seen are `assert_close` and `assert_gradients`, numpy.testing.assert_allclose and
pytest.approx. What a test compares in order to fail (a mutant, a planted error) is left out.
"""

import csv
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tolerance

Approx = type(pytest.approx(0.0))
HERE = Path(__file__).parent
HELPERS = {HERE / name for name in ("margins.py", "tolerance.py", "gradients.py", "layer_check.py")}
MEANT_TO_FAIL = re.compile(r"mutant|mutation|dropp|planted|refuse|finds|drowns|nothing_is|counterexample")

_worst: dict[str, float] = {}  # by "file:line"
_test = ""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --margins and --other-draws."""
    parser.addoption("--margins", metavar="FILE", default="margins.csv", help="where the margins go; appended to")
    parser.addoption("--other-draws", metavar="N", type=int, default=0, help="shifts all seeds; 0 leaves them alone")


def pytest_configure(config: pytest.Config) -> None:
    """Listen to every comparison, and shift the seeds."""
    if shift := config.getoption("--other-draws"):
        make = np.random.default_rng
        np.random.default_rng = lambda seed=None: make([seed, shift] if isinstance(seed, int) else seed)
    tolerance.observe = _record
    np.testing.assert_allclose = _listening(np.testing.assert_allclose)
    equal = Approx.__eq__

    def listening(self: Any, actual: Any) -> bool:
        if isinstance(actual, int | float | np.floating) and isinstance(self.expected, int | float | np.floating):
            _record(abs(float(actual) - float(self.expected)), self.tolerance)
        return equal(self, actual)

    Approx.__eq__ = listening  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Remember which test runs."""
    global _test
    _test = item.nodeid
    return (yield)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Append "margin,place" lines, and print the worst."""
    with open(session.config.getoption("--margins"), "a", newline="") as file:
        csv.writer(file).writerows((f"{m:.3g}", place) for place, m in sorted(_worst.items(), key=lambda x: -x[1]))


def _listening(compare: Callable[..., None]) -> Callable[..., None]:
    """Return assert_allclose, recorded."""

    def assert_allclose(actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0, **rest: Any) -> None:
        got, want = np.asarray(actual), np.asarray(desired)
        if got.dtype.kind in "fciu" and want.dtype.kind in "fciu":
            with np.errstate(all="ignore"):
                _record(np.abs(got - want), atol + rtol * np.abs(want))
        compare(actual, desired, rtol=rtol, atol=atol, **rest)

    return assert_allclose


def _record(error: Any, allowed: Any) -> None:
    """Keep the worst margin of the line that compares; one above 1 fails, or was meant to."""
    if MEANT_TO_FAIL.search(_test):
        return
    error, allowed = np.broadcast_arrays(np.asarray(error, float), np.asarray(allowed, float))
    inexact = np.isfinite(error) & (error > 0)
    margin = float((error[inexact] / np.maximum(allowed[inexact], 1e-300)).max(initial=0))
    if margin <= 1:
        place = _place()
        _worst[place] = max(margin, _worst.get(place, 0.0))


def _place() -> str:
    """Return "file:line" of the test that compares, its helpers' lines too."""
    frame, lines = sys._getframe(2), []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if HERE in path.parents and path not in HELPERS:
            lines.append(f"{os.path.relpath(path, HERE)}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(lines[:2]) or _test
