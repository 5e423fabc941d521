"""The course itself: every lesson runs, its stub fails at its checks alone, and its wrong answers are refused.

A lesson is played in a process of its own, a few at a time; a test waits for the one it is about. The solved lessons
are kept, with their outputs, in the folder that MINIDL_EXECUTED_LESSONS names: the site of CI shows them.
"""

import importlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lessons.machinery.source import read

pytest.importorskip("nbclient", reason="the course is played where `pip install -e '.[lessons]'` was run")

ROOT = Path(__file__).resolve().parents[2]
LESSONS = [path.stem for path in sorted((ROOT / "lessons" / "src").glob("*.py"))]
SECONDS = 900  # for a stuck process


def start(proof, name, folder):
    """Play a lesson; return what the command said."""
    source = ROOT / "lessons" / "src" / f"{name}.py"
    commands = {
        "stub": ["-m", "lessons.machinery.play", "stub", str(source)],
        "wrong": ["-m", "lessons.machinery.play", "wrong", str(source)],
        "run": ["lessons/build.py", "--only", name[:2], "--execute", str(folder)],
    }
    return subprocess.run(
        [sys.executable, *commands[proof]], capture_output=True, text=True, cwd=ROOT, timeout=SECONDS, check=False
    )


@pytest.fixture(scope="session")
def played(request, tmp_path_factory):
    """What came of playing a lesson, for the tests of this session alone: ``played("stub", name)``."""
    kept = os.environ.get("MINIDL_EXECUTED_LESSONS")
    folder = Path(kept).resolve() if kept else tmp_path_factory.mktemp("executed")
    importlib.import_module("matplotlib.font_manager")  # it lists the fonts once, and says so if that takes 5 s
    if "PYTEST_XDIST_WORKER" in os.environ:  # the tests themselves run side by side; each process sees all, runs some
        yield lambda proof, name: start(proof, name, folder)
        return
    tests = [item.callspec.params for item in request.session.items if item.path == Path(__file__)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {(one["proof"], one["name"]): pool.submit(start, **one, folder=folder) for one in tests}
        yield lambda proof, name: runs[proof, name].result()
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", LESSONS)
@pytest.mark.parametrize("proof", ["run"])
def test_the_solved_notebook_runs_clean_and_as_many_checks_as_declared(proof, name, played):
    done = played(proof, name)
    assert done.returncode == 0, done.stderr
    checks = read(ROOT / "lessons" / "src" / f"{name}.py").checks
    assert re.match(rf"{name}: {checks} of {checks} checks, ", done.stdout)


@pytest.mark.parametrize("name", LESSONS)
@pytest.mark.parametrize("proof", ["stub", "wrong"])
def test_the_stub_fails_at_its_checks_alone_and_wrong_answers_are_refused(proof, name, played):
    done = played(proof, name)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
