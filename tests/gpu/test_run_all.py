"""run_all.sh without a GPU: what it would run, its one line, and its report, with a Python that plays the parts."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("run_all.sh")
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")

PLAYER = """#!/usr/bin/env bash
# stands in for python: a GPU is there, and each part does as its variable says
case "$*" in
    *why_no_cupy*) echo ;;
    -) echo "- GPU: played" ;;
    "-m pytest"*) echo "tests ran"; exit "${TESTS:-0}" ;;
    *minidl.parity*) echo "values within"; exit "${PARITY:-0}" ;;
    *minidl.bench*) echo "ratios"; exec sleep "${BENCH:-0}" ;;
    *minidl.reproduce*) echo "$*" | sed 's/.*table1/table1/' ;;
esac
"""


def run(folder, *args, **variables):
    """Run the script in a folder; return its status, standard output and standard error."""
    plain = {name: value for name, value in os.environ.items() if name not in ("DATA_DIR", "SEEDS", "SAMPLE", "RUNS")}
    env = {**plain, "PYTHON": sys.executable, **variables}
    done = subprocess.run([SCRIPT, *args], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def player(tmp_path):
    path = tmp_path / "python"
    path.write_text(PLAYER)
    path.chmod(0o755)
    if not os.access(path, os.X_OK):
        pytest.skip("nothing in the folder of temporary files may be run here")
    return str(path)


def test_a_dry_run_lists_the_parts_and_writes_nothing(tmp_path):
    status, out, err = run(tmp_path, "--dry-run", "report.md", SEEDS="3", DATA_DIR="data")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split(",")[0] for line in lines[:-1]] == [
        "gpu tests",
        "parity with NumPy",
        "bench against PyTorch",
        "Table 1",
    ]
    assert all("at most 600 s" in line for line in lines[:-1])
    assert "minidl.parity --backend cupy" in lines[1]
    assert "minidl.bench --backend cupy --against torch --json" in lines[2]
    assert f"table1 --backend cupy --seeds 3 --jobs 3 --out runs/gpu --data-dir {tmp_path}/data" in lines[3]
    assert lines[-1] == f"report: {tmp_path}/report.md"
    assert list(tmp_path.iterdir()) == []


def test_without_a_gpu_it_ends_with_one_line_that_names_the_cure(tmp_path):
    from minidl.backend import why_no_cupy

    if why_no_cupy() is None:
        pytest.skip("there is a GPU")
    status, out, err = run(tmp_path, "report.md")
    assert (status, out) == (1, "")
    assert err == f"run_all.sh: backend cupy cannot be used: {why_no_cupy()}\n"
    assert list(tmp_path.iterdir()) == []


def test_all_parts_passed_is_a_dated_report_with_versions_and_exit_status_0(tmp_path, player):
    status, out, err = run(tmp_path, "new/report.md", PYTHON=player, SAMPLE="1", SEEDS="2")
    assert (status, err) == (0, "")
    report = (tmp_path / "new" / "report.md").read_text("utf-8")
    assert re.search(r"^- date: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", report, re.M)
    assert "- GPU: played\n" in report
    assert "- driver: " in report
    for name in ("gpu tests", "parity with NumPy", "bench against PyTorch", "Table 1, seeds: 2"):
        assert re.search(rf"^\| {name} \| passed \| \d+ s \|$", report, re.M), name
        assert f"\n## {name}\n" in report
    assert "```\nvalues within\n```" in report
    assert "table1 --backend cupy --seeds 2 --jobs 3 --out runs/gpu --sample\n```" in report
    assert out.endswith(f"report: {tmp_path}/new/report.md\n")


def report_of_failures(folder, **environment):
    """Play the parts, of which some fail; return the report."""
    status, _, _ = run(folder, "report.md", **environment)
    assert status == 1
    return (folder / "report.md").read_text("utf-8")


def test_failing_parts_are_named_and_do_not_stop_the_others(tmp_path, player):
    report = report_of_failures(tmp_path, PYTHON=player, TESTS="5", PARITY="1")
    assert "| gpu tests | FAILED: exit status 5 |" in report
    assert "| parity with NumPy | FAILED: exit status 1 |" in report
    assert "| bench against PyTorch | passed |" in report
    assert "| Table 1, seeds: 1 | passed |" in report
    assert report.index("tests ran") < report.index("values within") < report.index("ratios")


def test_a_part_that_takes_too_long_is_named_and_does_not_stop_the_next(tmp_path, player):
    report = report_of_failures(tmp_path, PYTHON=player, BENCH="600", LIMIT="1")
    assert "| bench against PyTorch | FAILED: not done after 1 s |" in report
    assert "\n## Table 1, seeds: 1\n" in report


def test_an_unknown_argument_is_refused(tmp_path):
    assert run(tmp_path, "--fast") == (2, "", "run_all.sh: unknown argument --fast (--help lists them)\n")
