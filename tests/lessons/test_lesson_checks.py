"""The checks of a lesson: what they accept, what they refuse, and what they say."""

import builtins
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import minidl
from minidl import lesson as lesson_module
from minidl.check import compare as compare_function
from minidl.check import runner, selftest
from minidl.check.suite import VECTORS
from minidl.lesson import CheckFailed, Lesson, LessonError

X = np.array([[1.0, 2.0, 4.0], [3.0, -5.0, 0.5]])


@pytest.fixture
def lesson():
    return Lesson("05", checks=2)


def said(lesson, got, want=X, tol=1e-9, **more):
    with pytest.raises(CheckFailed) as caught:
        lesson.check("y", got, want, tol, **more)
    assert "\n".join(caught.value._render_traceback_()) == str(caught.value)
    assert caught.value.__suppress_context__
    return str(caught.value)


def test_a_right_answer_passes_and_says_which_check_it_was(lesson, capsys):
    lesson.check("y", lambda: X + 1e-10, X, 1e-9)
    lesson.check("z", lambda: {"dx": X, "dw": 3 * X}, lambda: {"dx": X, "dw": 3 * X}, {"dx": 1e-9, "dw": 1e-3})
    first, second = capsys.readouterr().out.splitlines()
    assert first == "ok    y: worst 0.1 of the tolerance  (check 1 of 2)"
    assert second == "ok    z: worst 0 of the tolerance  (check 2 of 2)"


def test_a_check_that_runs_again_counts_once(lesson, capsys):
    for _ in range(3):
        lesson.check("y", lambda: X, X, 1e-9)
    assert capsys.readouterr().out.count("(check 1 of 2)") == 3
    assert list(lesson.passed) == ["y"]


def test_a_check_that_fails_after_it_passed_counts_no_more(lesson):
    lesson.check("y", lambda: X, X, 1e-9)
    said(lesson, lambda: 2 * X)
    assert not lesson.passed


def test_a_wrong_answer_is_described_and_the_mistake_named(lesson):
    mistakes = {
        "Yours is turned round.": lambda: -X,
        "You doubled it.": lambda: 2 * X,
        "Needs what is not there.": lambda: no_such_name,  # noqa: F821
    }
    text = said(lesson, lambda: 2 * X, wrong=mistakes)
    assert text.startswith("y: not yet\nWRONG y[1, 1]: got -10, want -5")
    assert text.endswith("You doubled it.")
    assert "turned" not in text
    assert "Needs" not in text


def test_a_wrong_dict_of_arrays_is_described_key_by_key(lesson):
    text = said(lesson, lambda: {"dx": 2 * X, "db": X}, {"dx": X, "dw": X}, wrong={"No dw.": lambda: {"dx": 2 * X}})
    assert "WRONG dx" in text
    assert "WRONG dw: is missing" in text
    assert "WRONG db: is not wanted; leave it out" in text


@pytest.mark.parametrize(
    ("got", "want", "words"),
    [
        (lambda: None, X, "is None: does your function end without `return`?"),
        (lambda: X + 0j, X, "is complex, want real numbers"),
        (lambda: (X, X), {"a": X, "b": X}, "is tuple; want a dict with the keys a, b"),
        (lambda: {"y": X}, X, "is dict; want one array"),
        (lambda: X.T, X, "shape is (3, 2), want (2, 3) (transposed)"),
        (lambda: "nothing", X, "is str, want an array of real numbers"),
        (lambda: {"a": (X, X[0]), "b": X}, {"a": X, "b": X}, "WRONG a: is tuple of 2 arrays of several shapes"),
        (lambda: X.sum, X, "is a function, sum: is it called, with ()?"),
        (lambda: X.astype(object), X, "is ndarray of object values, want an array of real numbers"),
        (lambda: 3.0, X, "shape is (), want (2, 3)"),
    ],
)
def test_an_answer_of_the_wrong_kind_is_named(lesson, got, want, words):
    assert words in said(lesson, got, want)


def test_a_stub_is_the_learners_turn(lesson):
    def square(x):
        raise NotImplementedError("your turn: square")

    assert said(lesson, lambda: square(X)) == (
        "y: your turn: square is still to be written. Write it, run its cell, then run this one again."
    )


def test_another_not_implemented_error_is_an_error_like_others(lesson):
    def square(x):
        raise NotImplementedError("no float16 here")

    assert "NotImplementedError: no float16 here" in said(lesson, lambda: square(X))


def test_a_missing_name_in_the_check_means_that_cells_were_left_out(lesson):
    assert said(lesson, lambda: no_such_function(X)) == (  # noqa: F821
        "y: name 'no_such_function' is not defined. Run the cells above first, from the top, then this one again."
    )


def test_an_error_in_the_learners_function_names_the_line(lesson):
    def square(x):
        return np.linalg.inv(x)

    text = said(lesson, lambda: square(X))
    assert "an error in square, line " in text
    assert "`return np.linalg.inv(x)`" in text
    assert "LinAlgError: Last 2 dimensions of the array must be square" in text


def test_a_missing_name_in_the_learners_function_may_be_a_slip(lesson):
    def square(x):
        return xx * x  # noqa: F821

    text = said(lesson, lambda: square(X))
    assert "`return xx * x" in text
    assert "name 'xx' is not defined (a slip of the pen, or a cell above that has not run)" in text


def test_a_call_that_does_not_fit_is_named(lesson):
    assert "calling your code raised TypeError" in said(lesson, lambda: len(X, X))
    assert "calling your code raised ValueError" in said(lesson, lambda: int("no number"))


@pytest.mark.parametrize("want", [np.zeros((3, 4)), 1e-12 * X, {}, {"dx": X, "db": np.zeros(3)}, np.empty((0, 3))])
def test_a_check_that_cannot_fail_is_the_lessons_error(lesson, want):
    with pytest.raises(LessonError, match=r"would accept zeros|compares nothing"):
        lesson.check("y", lambda: want, want, 1e-9)
    assert not lesson.passed


def test_a_check_whose_tolerance_lets_a_listed_mistake_pass_is_the_lessons_error(lesson):
    with pytest.raises(LessonError, match=r"would accept the mistake 'It is off\.'"):
        lesson.check("y", lambda: X, X, 1e-3, {"It is off.": lambda: X + 1e-4})


def test_wanted_values_must_be_real_numbers(lesson):
    with pytest.raises(LessonError, match="y must be real numbers, got complex128"):
        lesson.check("y", lambda: X, X + 1j, 1e-9)


def test_what_is_checked_must_be_called_inside_the_check(lesson):
    with pytest.raises(LessonError, match="needs a callable"):
        lesson.check("y", X, X, 1e-9)


def test_more_checks_than_declared_is_the_lessons_error(lesson):
    lesson.check("a", lambda: X, X, 1e-9)
    said(lesson, lambda: 2 * X)
    with pytest.raises(LessonError, match="declares 2 checks; 'c' is one more"):
        lesson.check("c", lambda: X, X, 1e-9)


def test_yours_is_the_learners_once_its_check_passed(lesson, capsys):
    def mine(x):
        return x

    def own(x):
        return x

    assert lesson.yours(mine, own, check="y") is own
    assert 'minidl\'s own function stands in for mine: the check "y" has not passed yet' in capsys.readouterr().out
    lesson.check("y", lambda: X, X, 1e-9)
    capsys.readouterr()
    assert lesson.yours(mine, own, check="y") is mine
    assert capsys.readouterr().out == ""


def test_done_names_checks_in_the_order_of_the_lesson(lesson, capsys):
    for name in ("y", "dx"):
        with pytest.raises(CheckFailed):
            lesson.check(name, lambda: 2 * X, X, 1e-9)
    lesson.done()
    assert capsys.readouterr().out.endswith("  not yet  y\n  not yet  dx\n")


def test_done_counts_and_names_what_is_missing(lesson, capsys):
    lesson.done()
    assert capsys.readouterr().out == "lesson 05: 0 of 2 checks passed.\n  not run  2 checks\n"
    said(lesson, lambda: 2 * X)
    lesson.done()
    assert capsys.readouterr().out == "lesson 05: 0 of 2 checks passed.\n  not yet  y\n  not run  1 check\n"
    lesson.check("y", lambda: X, X, 1e-9)
    lesson.check("z", lambda: X, X, 1e-9)
    lesson.done()
    assert capsys.readouterr().out.endswith("lesson 05: all 2 checks passed.\n")


def test_an_answer_that_changes_its_input_is_refused_and_the_input_is_as_before(lesson):
    x, pair = X.copy(), (X.copy(), X.copy())

    def centred():
        nonlocal x
        x -= x.mean()
        pair[1][0, 0] = np.nan
        return x.copy()

    text = said(lesson, centred, X - X.mean())
    assert "your code changed x, pair[1] in place" in text
    assert "Write `x = x - a`" in text
    assert np.array_equal(x, X)
    assert np.array_equal(pair[1], X)


def test_an_error_after_a_change_in_place_leaves_the_input_as_before_too(lesson):
    x = X.copy()

    def spoil():
        x[...] = 0
        raise ValueError("off")

    assert "changed x in place" in said(lesson, spoil)
    assert np.array_equal(x, X)


def test_a_mistake_that_nobody_listed_gets_what_its_pattern_says(lesson):
    assert said(lesson, lambda: X * 3 / 2).endswith("Each of your values is 3/2 of the right one: " + LAST_OF_THREE)
    listed = said(lesson, lambda: 2 * X, wrong={"You doubled it.": lambda: 2 * X})
    assert listed.endswith("You doubled it.")


LAST_OF_THREE = "look at what is divided by 3, or by 2."


def test_in_a_notebook_a_check_that_fails_says_so_and_stops_nothing(monkeypatch, capsys):
    shell = type("Shell", (), {"events": type("Events", (), {"callbacks": {"post_run_cell": []}})()})()
    shell.events.register = lambda event, callback: None
    monkeypatch.setitem(sys.modules, "IPython", type("IPython", (), {"get_ipython": staticmethod(lambda: shell)}))
    lesson = Lesson("05", checks=2)
    lesson.check("y", lambda: 2 * X, X, 1e-9)
    assert capsys.readouterr().out.startswith("y: not yet\nWRONG y[1, 1]: got -10, want -5")
    assert [*lesson.failed] == ["y"]


def test_in_a_notebook_a_long_line_breaks_between_words(lesson, monkeypatch, capsys):
    monkeypatch.setattr(minidl.lesson, "_notebook", lambda: object())
    words = " ".join(f"word{n}" for n in range(60))
    lesson.check("y", lambda: X + 1, X, 1e-9, wrong={words: lambda: X + 1})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert words in " ".join(lines)
    assert any(line.startswith("      abs 1") for line in lines)  # what is indented stays so


@pytest.mark.parametrize("number", ["18", "00", "5", 5, "five"])
def test_a_lesson_that_minidl_does_not_know_asks_for_a_newer_minidl(number):
    with pytest.raises(LessonError, match=r"number must be 01 to 17.*git pull"):
        Lesson(number, checks=2)


def test_an_edited_layer_is_named_with_the_cure(monkeypatch):
    forward = minidl.BatchNorm.forward
    monkeypatch.setattr(minidl.BatchNorm, "forward", lambda self, x: forward(self, x) * 1.001)
    with pytest.raises(LessonError) as caught:
        Lesson("05", checks=2)
    text = str(caught.value)
    assert text.startswith("lesson 05 cannot start: ")
    assert "minidl/norm/batch.py" in text.replace("\\", "/")
    assert "does not give the shipped answer of batch_norm-shape-nchw" in text
    assert "git checkout -- minidl" in text
    assert "\n" not in text


def test_an_edited_reference_is_named(monkeypatch):
    from minidl import reference

    monkeypatch.setattr(reference, "softmax_cross_entropy", lambda logits, labels: 1 / 0)
    # The file named is where the function that stands there now was written.
    assert "raised ZeroDivisionError" in selftest.selftest()


@pytest.mark.parametrize("layer", ["linear", "conv2d", "max_pool2d", "layer_norm", "mode_norm", "mode_group_norm"])
def test_every_reference_layer_is_tested(layer, monkeypatch):
    from minidl import reference

    right = getattr(reference, f"{layer}_backward")

    def wrong(*args, **options):
        return {name: np.asarray(value) * 1.0001 for name, value in right(*args, **options).items()}

    monkeypatch.setattr(reference, f"{layer}_backward", wrong)
    assert f"does not give the shipped answer of {layer}-" in selftest.selftest()


def test_a_comparison_that_compares_nothing_is_found(monkeypatch):
    monkeypatch.setattr(runner, "compare", lambda name, got, *rest: compare_function(name, got, got, 1.0))
    assert "compare.py, or what it calls, lets wrong values pass" in selftest.selftest()


def test_damaged_vectors_are_named(tmp_path):
    copy = tmp_path / "v1"
    shutil.copytree(VECTORS, copy)
    victim = copy / "linear" / "linear-shape-nc-float32-01.safetensors"
    victim.write_bytes(victim.read_bytes()[:-1])
    assert "linear-shape-nc-float32-01.safetensors: its sha256 must be" in selftest.selftest(copy)
    index = json.loads((copy / "index.json").read_text("utf-8"))
    index["cases"] = index["cases"][:3]
    (copy / "index.json").write_text(json.dumps(index))
    assert "has no case" in selftest.selftest(copy)


def test_the_order_of_the_cells_is_explained_once_in_a_notebook(monkeypatch, capsys):
    class Events:
        def __init__(self):
            self.callbacks = {"post_run_cell": []}

        def register(self, event, callback):
            self.callbacks[event].append(callback)

        def unregister(self, event, callback):
            self.callbacks[event].remove(callback)

    class Shell:
        events = Events()

    class Result:
        error_in_exec = None

    monkeypatch.setitem(sys.modules, "IPython", type("IPython", (), {"get_ipython": staticmethod(Shell)}))
    for _ in range(2):
        Lesson("05", checks=2)
    (callback,) = Shell.events.callbacks["post_run_cell"]
    callback(Result)
    assert capsys.readouterr().out == ""
    Result.error_in_exec = builtins.NameError("name 'x' is not defined")
    callback(Result)
    assert "Run the cells above first" in capsys.readouterr().out


def test_importing_a_lesson_needs_numpy_alone():
    code = (
        "import sys; from minidl.lesson import Lesson; Lesson('01', checks=1);"
        "heavy = {'torch', 'mpmath', 'scipy', 'pytest', 'safetensors', 'matplotlib', 'IPython'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert lesson_module.LESSONS == 17
