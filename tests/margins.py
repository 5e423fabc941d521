"""How near every comparison of the suite comes to failing: |got − want| / tolerance.

    python tests/margins.py OUT tests/norm tests/layers      # 3 seeds, each with 1 and 2 threads, new and old kernels
    python tests/margins.py OUT tests/norm --seeds 0 --threads 1 --kernels all
    python tests/margins.py OUT --table 40                   # the worst so far

A sweep runs pytest once for each path and configuration, one after another, and writes OUT/CONFIGURATION/PATH.csv
with what it printed beside it. What is there is not run again, so that a sweep which was stopped goes on. It ends with
the table of the worst margin of each test function, and with the tests that failed.

- `--seeds`: seed 0 leaves the suite's draws alone; another one shifts every `np.random.default_rng(N)`, hypothesis'
  own draws too. A test that asserts what one draw gave, rather than what any would give, fails then, and may.
- `--threads`: of OpenBLAS and Numba.
- `--kernels`: `all` that the processor has, or `old`: what NumPy, OpenBLAS and Numba compute on a Nehalem.

A margin above 1/3 is one that another processor, another BLAS or another seed may turn into a failure: the tolerance
does not follow from the arithmetic. Seen are `assert_close` and `assert_gradients`, numpy.testing.assert_allclose and
pytest.approx. What a test compares in order to fail (a mutant, a planted error) is left out, as is a comparison beyond
its tolerance in a test that passes.

The plugin alone: PYTHONPATH=tests python -m pytest -p margins --margins FILE.csv [--other-draws N] tests/norm
"""

import argparse
import csv
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tolerance

Approx = type(pytest.approx(0.0))
HERE = Path(__file__).resolve().parent
HELPERS = {HERE / name for name in ("margins.py", "tolerance.py", "gradients.py", "layer_check.py")}
MEANT_TO_FAIL = re.compile(r"mutant|mutation|dropp|planted|refuse|check_finds|drowns|nothing_is|counterexample")
OLD = {"OPENBLAS_CORETYPE": "Nehalem", "NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": ""}

_worst: dict[tuple[str, str], float] = {}  # by test function and by where it compares
_now: dict[str, float] = {}  # of the test that runs, by where it compares
_test = ""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --margins and --other-draws."""
    parser.addoption("--margins", metavar="FILE", default="margins.csv", help="where the margins go")
    parser.addoption("--other-draws", metavar="N", type=int, default=0, help="shifts all seeds; 0 leaves them alone")


def pytest_configure(config: pytest.Config) -> None:
    """Listen to every comparison, and shift the seeds."""
    if shift := config.getoption("--other-draws"):
        make = np.random.default_rng
        np.random.default_rng = lambda seed=None: make([seed, shift] if isinstance(seed, int | np.integer) else seed)
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
    """Keep the margins of a test, under the name of its function; those above 1 where it fails by them."""
    global _test
    _test = item.nodeid.split("[")[0]
    _now.clear()
    most = 1.0
    try:
        return (yield)
    except BaseException:
        most = np.inf
        raise
    finally:
        for place, margin in _now.items():
            if margin <= most:
                _worst[_test, place] = max(margin, _worst.get((_test, place), 0.0))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write "margin,test,place" lines, the worst first."""
    with open(session.config.getoption("--margins"), "w", encoding="utf-8", newline="") as file:
        worst = sorted(_worst.items(), key=lambda x: -x[1])
        csv.writer(file).writerows((f"{margin:.3g}", *where) for where, margin in worst)


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
    """Keep the worst margin of the line that compares."""
    if MEANT_TO_FAIL.search(_test):
        return
    error, allowed = np.broadcast_arrays(np.asarray(error, float), np.asarray(allowed, float))
    inexact = np.isfinite(error) & (error > 0)
    margin = float((error[inexact] / np.maximum(allowed[inexact], 1e-300)).max(initial=0))
    place = _place()
    _now[place] = max(margin, _now.get(place, 0.0))


def _place() -> str:
    """Return "file:line" of the test that compares, its helpers' lines too."""
    frame, lines = sys._getframe(2), []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if HERE in path.parents and path not in HELPERS:
            lines.append(f"{os.path.relpath(path, HERE)}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(lines[:2])


def sweep(out: Path, paths: list[str], seeds: list[int], threads: list[int], kernels: list[str]) -> None:
    """Run pytest on each path in each configuration that has no result yet."""
    older = subprocess.run(
        [sys.executable, HERE.parent / ".ci/newer_cpu_features.py"], stdout=-1, text=True, check=True
    )
    old = {**OLD, "NPY_DISABLE_CPU_FEATURES": older.stdout.strip()}
    for seed, kind, count, path in itertools.product(seeds, kernels, threads, paths):
        done = out / f"seed {seed}, {count} thread{'s'[: count - 1]}, {kind} kernels" / f"{path.replace('/', '.')}.csv"
        if done.exists():
            continue
        done.parent.mkdir(parents=True, exist_ok=True)
        part = done.with_suffix(".part")
        env = os.environ | (old if kind == "old" else {}) | {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"}
        env |= {"OPENBLAS_NUM_THREADS": str(count), "NUMBA_NUM_THREADS": str(count)}
        env.pop("CI", None)  # in which hypothesis draws the same examples whatever its seed
        options = ["-q", "-p", "no:randomly", "-p", "no:cacheprovider", f"--hypothesis-seed={seed}", "-p", "margins"]
        command = [sys.executable, "-m", "pytest", *options, f"--margins={part}", f"--other-draws={seed}", path]
        print(done, flush=True)
        with open(done.with_suffix(".log"), "w", encoding="utf-8") as log:
            subprocess.run(command, cwd=HERE.parent, env=env, stdout=log, stderr=log, check=False)
        if part.exists():
            part.rename(done)


def report(out: Path, rows: int) -> None:
    """Print the worst margin of each test function in all configurations, and what failed."""
    worst: dict[str, tuple[float, str, str]] = {}
    for file in sorted(out.glob("*/*.csv")):
        for margin, test, place in csv.reader(file.open(newline="")):
            worst[test] = max((float(margin), place, file.parent.name), worst.get(test, (0.0, "", "")))
    table = sorted(((*found, test) for test, found in worst.items()), reverse=True)
    print("| margin | test | compares at | in |\n|---|---|---|---|")
    for margin, place, where, test in table[:rows]:
        print(f"| {margin:.3g} | `{test.removeprefix('tests/')}` | {place} | {where} |")
    print(f"\n{len(table)} test functions compare; {sum(row[0] > 1 / 3 for row in table)} with a margin above 1/3")
    for log in sorted(out.glob("*/*.log")):
        for line in log.read_text("utf-8").splitlines():
            if line.startswith(("FAILED", "ERROR ")):
                print(f"{log.parent.name}: {line}")


def main() -> None:
    """Sweep the paths, and print the table."""
    parser = argparse.ArgumentParser(description="Report how near every comparison of the suite comes to failing.")
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="the folder of the results")
    add("paths", nargs="*", metavar="PATH", help="test files or folders, from the root of the clone")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="0 1 2 (0 leaves the draws alone)")
    add("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="1 2")
    add("--kernels", nargs="+", choices=("all", "old"), default=["all", "old"], help="all old")
    add("--table", type=int, default=40, metavar="N", help="how many lines the table has (40)")
    args = parser.parse_args()
    sweep(args.out.resolve(), args.paths, args.seeds, args.threads, args.kernels)
    report(args.out, args.table)


if __name__ == "__main__":
    main()
