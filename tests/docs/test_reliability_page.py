"""The page of promises and the files of tests that keep them: one for each, and no others."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")


def rows():
    """Return (number, files) of each promise."""
    found = re.findall(r"^\| (\d+) \| .+ \| ((?:`test_\w+\.py`(?:, )?)+) \|$", PAGE, re.MULTILINE)
    return [(int(number), re.findall(r"\w+\.py", files)) for number, files in found]


def test_each_promise_has_files_of_tests_and_each_file_one_promise():
    assert [number for number, _ in rows()] == list(range(1, len(rows()) + 1))
    files = [file for _, files in rows() for file in files]
    assert len(set(files)) == len(files) >= 13
    assert set(files) == {path.name for path in (ROOT / "tests" / "faults").glob("test_*.py")}


def test_each_file_says_which_promise_it_keeps():
    for number, files in rows():
        for file in files:
            assert (ROOT / "tests" / "faults" / file).read_text("utf-8").startswith(f'"""Promise {number}: ')
