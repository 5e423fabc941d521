"""The proofs of a lesson can fail: each meets a small lesson that breaks what it is there to find."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_lesson

from lessons.machinery.play import play_stub, play_wrong
from lessons.machinery.source import read

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _own_main(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


def stub(tmp_path, *changes):
    return play_stub(read(tiny_lesson.lesson(tmp_path, *changes)))


def wrong(tmp_path, *changes):
    return play_wrong(read(tiny_lesson.lesson(tmp_path, *changes)))


def test_a_good_lesson_passes(tmp_path, capsys):
    assert stub(tmp_path) == []
    assert wrong(tmp_path) == []
    assert capsys.readouterr().out == ""


def test_a_stub_that_passes_its_check_is_found(tmp_path):
    faults = stub(tmp_path, ("lambda: double(x)", "lambda: 2 * x"))
    assert "must fail with `your turn`, got no error" in faults[0]
    assert faults[-1] == "2 checks must fail, got 1"


def test_a_check_that_fails_in_the_stub_for_another_reason_is_found(tmp_path):
    faults = stub(tmp_path, ("lambda: double(x)", "lambda: no_such_name + double(x)"))
    assert "got CheckFailed: double: name 'no_such_name' is not defined" in faults[0]


def test_a_cell_that_fails_in_the_stub_is_found(tmp_path):
    faults = stub(tmp_path, ('lesson.yours(double, lambda x: 2 * x, "double")(x)', "double(x)"))
    assert faults == ["the cell `print(double(x))` must run in the stub, got NotImplementedError: your turn: double"]


def test_a_cell_that_raises_before_its_check_is_found(tmp_path):
    faults = stub(
        tmp_path, ('lesson.check("double", lambda: double(x)', 'y = double(x)\nlesson.check("double", lambda: y')
    )
    assert "must fail with `your turn`, got NotImplementedError" in faults[0]


def test_a_wrong_answer_that_is_accepted_is_found(tmp_path):
    (fault,) = wrong(tmp_path, ("def double(x):\n    return x**2", "def double(x):\n    return x + x"))
    assert "02_tiny.py:" in fault
    assert 'the check "double" must refuse this answer, got no error' in fault


def test_a_wrong_answer_refused_without_its_diagnosis_is_found(tmp_path):
    (fault,) = wrong(tmp_path, ("# says: You squared it.", "# says: You cubed it."))
    assert 'must say "You cubed it.", got double: not yet | WRONG double' in fault


def test_a_wrong_answer_that_cannot_run_is_found(tmp_path):
    (fault,) = wrong(tmp_path, ("def double(x):\n    return x**2", "def double(x):\n    return x.no_such_thing"))
    assert 'must say "You squared it.", got double: an error in double' in fault
    (fault,) = wrong(tmp_path, ("def double(x):\n    return x**2", "1 / 0"))
    assert "the wrong answer must run, got ZeroDivisionError" in fault


def test_a_check_that_cannot_fail_is_found(tmp_path):
    faults = wrong(tmp_path, ("lambda: 2 * x, 1e-12", "lambda: 2 * x, 1e3"))
    assert "got LessonError: lesson 02: the check 'double' would accept zeros" in faults[0]


def test_a_solved_cell_that_fails_ends_the_play(tmp_path):
    faults = wrong(tmp_path, ("rng = np", "raise ValueError('off')\nrng = np"))
    assert len(faults) == 1
    assert "the solved cell must run, got ValueError: off" in faults[0]


def test_a_wrong_answer_leaves_no_trace(tmp_path):
    seen = (
        "print(lesson.yours(",
        'assert list(lesson.passed) == ["double"]\nassert not lesson.failed\nassert double(x)[0] == 3.0\n'
        "assert rng.random() == np.random.default_rng(0).random()\nprint(lesson.yours(",
    )
    drawn = ("def double(x):\n    return x**2", "rng.random()\n\n\ndef double(x):\n    return x**2")
    assert wrong(tmp_path, seen, drawn) == []


def test_a_warning_is_an_error_when_a_lesson_is_played(tmp_path):
    path = tiny_lesson.lesson(tmp_path, ("rng = np", "np.log(np.zeros(1))\nrng = np"))
    play = subprocess.run(
        [sys.executable, "-m", "lessons.machinery.play", "stub", str(path)],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert "RuntimeWarning: divide by zero" in play.stdout


def execute(tmp_path, *changes, seconds=300, give_up=300):
    pytest.importorskip("nbclient", reason="pip install -e '.[lessons]'")
    path = tiny_lesson.lesson(tmp_path, *changes)
    code = (
        "import json, pathlib, sys; from lessons.machinery import execute, source;"
        "r = execute.run(source.read(pathlib.Path(sys.argv[1])), *map(float, sys.argv[2:]));"
        "print(json.dumps([r.passed, r.faults, len(r.notebook.cells)]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path), str(seconds), str(give_up)],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    return json.loads(run.stdout)


def test_an_executed_lesson_is_clean(tmp_path):
    passed, faults, cells = execute(tmp_path)
    assert passed == ["double", "square"]
    assert faults == []
    assert cells == 17


def test_run_all_goes_through_a_notebook_in_which_nothing_is_written_and_ends_with_a_table(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="pip install -e '.[lessons]'")
    code = (
        "import pathlib, sys; from lessons.machinery import execute, source;"
        "r = execute.run(source.read(pathlib.Path(sys.argv[1])), with_solutions=False);"
        "import nbformat; print(nbformat.writes(r.notebook))"
    )
    command = [sys.executable, "-c", code, str(tiny_lesson.lesson(tmp_path))]
    run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    cells = [cell for cell in nbformat.reads(run.stdout, as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert "your turn: double is still to be written" in cells[3].outputs[0].text
    assert cells[-1].outputs[0].text == "lesson 02: 0 of 2 checks passed.\n  not yet  double\n  not yet  square\n"


def test_warnings_connections_stand_ins_and_checks_that_did_not_run_are_found(tmp_path):
    passed, faults, _ = execute(
        tmp_path,
        ("rng = np", "np.log(np.zeros(1))\nrng = np"),
        ("# %%\nlesson.done()", CONNECTS + "# %%\nlesson.done()"),
        ('lesson.check("square"', 'if not x.size:\n    lesson.check("square"'),
        ('"double")(x)', '"square")(x)'),
    )
    assert passed == ["double"]
    found = "\n".join(faults)
    assert "on stderr: " in found
    assert "RuntimeWarning: divide by zero" in found
    assert "opened a connection: socket." in found
    assert 'yours: the check "square" had not passed' in found
    assert len(faults) == 3


CONNECTS = """\
# %%
import socket

try:
    socket.create_connection(("127.0.0.1", 9), timeout=1)
except OSError:
    print("it lives with it")

"""


@pytest.mark.parametrize(
    "last", ["object()", "[iter(x.tolist())]", "type('Text', (), {'__repr__': lambda t: 'Text(0)'})()"]
)
def test_a_bare_object_below_a_cell_is_found(tmp_path, last):
    _, faults, _ = execute(tmp_path, ("rng = np", f"{last}\n\n\n# %%\nrng = np"))
    assert len(faults) == 1
    assert faults[0].startswith("shows a bare object, ")


def test_an_error_in_a_lesson_is_found(tmp_path):
    _, faults, _ = execute(tmp_path, ("rng = np", "raise ValueError('off')\nrng = np"))
    assert faults == ["ValueError: off"]


def test_a_lesson_that_takes_too_long_is_given_up(tmp_path):
    _, faults, _ = execute(tmp_path, ("rng = np", "import time\n\ntime.sleep(600)\nrng = np"), give_up=5)
    assert faults == ["stopped after 5 s"]


def test_a_lesson_that_computes_too_long_is_found(tmp_path):
    _, faults, _ = execute(tmp_path, seconds=0.001)
    assert len(faults) == 1
    assert "s of processor time, more than 0.001" in faults[0]


def test_a_source_that_breaks_the_form_is_one_line_for_the_player(tmp_path):
    path = tiny_lesson.lesson(tmp_path, ("checks: 2", "checks: x"))
    command = [sys.executable, "-m", "lessons.machinery.play", "stub", str(path)]
    play = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert play.returncode == 1
    assert play.stderr == f"{path}:1: " + play.stderr.partition(":1: ")[2]
    assert play.stderr.count("\n") == 1
