"""The campaigns themselves: that they find what they look for, in seconds; and, marked `campaign`, all of them.

`pytest -m campaign tests/campaigns` goes on for MINIDL_CAMPAIGN_SECONDS (600) in the folder MINIDL_CAMPAIGN_STATE
(a new one); the same command with the same folder goes on where it stopped.
"""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fuzz
import steps

import minidl
from minidl.data import DataError
from minidl.models import MODELS
from minidl.train import plots

HERE = Path(__file__).parent
SECONDS = float(os.environ.get("MINIDL_CAMPAIGN_SECONDS", "600"))


def run(script, *arguments, timeout=300):
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1]), "MINIDL_BACKEND": "numpy"}
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    """Undo what the campaigns, meant for processes of their own, change for all."""
    monkeypatch.setattr(plots, "draw_run", plots.draw_run)
    monkeypatch.setitem(MODELS, "tiny", None)


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_the_inputs_to_begin_with_are_taken(target):
    for content in fuzz.seeds(target):
        try:
            fuzz.TARGETS[target](content)
        except fuzz.documented() as error:
            pytest.fail(f"{target}: {error}")
        fuzz.check(target, content, ())


def test_the_inputs_to_begin_with_are_made_without_the_tests_around_them():
    code = "import sys, fuzz\nfor target in fuzz.TARGETS: assert fuzz.seeds(target)"
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], cwd=HERE, env=env, check=True, timeout=300)


def slow(data):
    sum(i * i for i in range(10**8 if data else 0))


def greedy(data):
    np.ones(fuzz.MOST_BYTES + 100, np.uint8)


def stray(data):
    raise KeyError("x")


def long(data):
    raise DataError("x" * 2000)


def two_lines(data):
    raise DataError("a\nb")


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("wrong", [greedy, stray, long, two_lines])
def test_what_no_reader_may_do_is_a_finding(monkeypatch, wrong):
    monkeypatch.setitem(fuzz.TARGETS, "wrong", wrong)
    with pytest.raises((AssertionError, KeyError)):
        fuzz.check("wrong", b"x", fuzz.documented())


@pytest.mark.usefixtures("traced")
def test_what_takes_long_is_a_finding(monkeypatch):
    times = iter([0.0, 1.5])
    monkeypatch.setattr(fuzz.time, "process_time", lambda: next(times))
    with pytest.raises(AssertionError, match=r"1\.5 s"):
        fuzz.check("idx", fuzz.seeds("idx")[0], fuzz.documented())


def test_a_few_kills_end_as_no_kill_does(tmp_path):
    done = run("kills.py", "--state", tmp_path, "--kills", 2, "--seconds", 3)
    assert done.returncode == 0, done.stderr
    totals = json.loads(done.stdout.splitlines()[-1])
    assert totals["ends"] == totals["identical_ends"] >= 1


def test_another_end_is_noticed(tmp_path):
    assert run("kills.py", "--state", tmp_path, "--kills", 0, "--seconds", 0.1).returncode == 0
    (kept,) = tmp_path.glob("*.json")
    content = json.loads(kept.read_text("utf-8"))
    content["end"][1] = content["end"][1].replace('"step": 7', '"step": 8')
    kept.write_text(json.dumps(content))
    (tmp_path / "rounds.jsonl").unlink()
    done = run("kills.py", "--state", tmp_path, "--kills", 1, "--seconds", 1)
    assert done.returncode == 1
    assert "another end after" in done.stderr


def test_a_run_that_grows_or_slows_is_noticed():
    flat = {"resident": [1 << 28] * 30, "blocks": [1000] * 30, "pool": [0] * 30, "seconds": [1.0] * 30}
    assert steps.is_flat(steps.summary(flat))
    assert not steps.is_flat(steps.summary({**flat, "resident": [(1 << 28) + i * (1 << 19) for i in range(30)]}))
    assert not steps.is_flat(steps.summary({**flat, "seconds": [1 + i / 15 for i in range(30)]}))


def test_a_few_steps_are_looked_at(tmp_path):
    done = run("steps.py", "--state", tmp_path, "--updates", 60, "--only", "residual-numpy")
    assert done.returncode == 0, done.stderr
    (kept,) = tmp_path.glob("*.json")
    assert {len(values) for values in json.loads(kept.read_text("utf-8")).values()} == {steps.MARKS}


@pytest.fixture
def state(tmp_path):
    return Path(os.environ.get("MINIDL_CAMPAIGN_STATE") or tmp_path)


@pytest.mark.campaign
def test_five_hundred_kills(state):
    done = run("kills.py", "--state", state / "kills", "--kills", 500, "--seconds", SECONDS, timeout=2 * SECONDS + 600)
    assert done.returncode == 0, done.stderr
    print(done.stdout)


@pytest.mark.campaign
def test_fifty_kills_of_one_rank_of_several(state):
    pytest.importorskip("mpi4py", reason="several processes: pip install 'minidl[mpi]'")
    words = ("--state", state / "ranks", "--kills", 50, "--seconds", SECONDS)
    done = run("rank_kills.py", *words, timeout=2 * SECONDS + 600)
    assert done.returncode == 0, done.stderr
    print(done.stdout)


@pytest.mark.campaign
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_a_reader_has_no_findings(state, target):
    pytest.importorskip("atheris", reason="the fuzzer: pip install 'minidl[campaigns]'")
    seconds = SECONDS / len(fuzz.TARGETS)
    done = run("fuzz.py", target, "--state", state / "fuzz", "--seconds", seconds, timeout=2 * seconds + 600)
    assert fuzz.total(state / "fuzz")["findings"] == 0, done.stderr[-3000:]
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.campaign
def test_thirty_thousand_updates_stay_flat(state):
    done = run("steps.py", "--state", state / "steps", "--updates", 30000, timeout=7200)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
