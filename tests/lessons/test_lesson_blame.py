"""A sentence blames what the learner wrote: no function that the lesson gives, no NaN that was handed over."""

import ast
from pathlib import Path

import numpy as np
import pytest
from notebook_cell import cell

from lessons.machinery.source import blocks, read
from minidl.lesson import CheckFailed, Lesson
from minidl.lesson.given import GIVEN
from minidl.lesson.hints import alone, hint
from minidl.lesson.lint import unused
from minidl.lesson.repair import repair
from minidl.lesson.values import blank, same

SOURCES = sorted((Path(__file__).resolve().parents[2] / "lessons" / "src").glob("*.py"))
ROW = np.random.default_rng(3).normal(1.0, 2.0, 8)
GRID = np.random.default_rng(4).normal(1.0, 2.0, (5, 3))


@pytest.fixture
def lesson():
    return Lesson("14", checks=2)


def told(lesson, got, want, wrong=None):
    with pytest.raises(CheckFailed) as error:
        lesson.check("y", got, want, 1e-12, wrong)
    return str(error.value)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name[:2])
def test_the_functions_that_a_lesson_gives_are_known(path):
    source, solved, given = read(path), set(), set()
    for one in source.cells:
        if one.kind == "code" and one.tag != "wrong":
            own = {block.function.partition(".")[0] for block in blocks(source, one)}
            named = [n.name for n in ast.parse(one.text).body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
            solved |= own
            given |= set(named) - own
    assert GIVEN[source.number] == given - solved


def test_a_function_that_the_lesson_gives_is_never_to_blame(lesson):
    text = "def launch(a):\n    return 3 * a\n\n\ndef answer(x):\n    y = launch(x)\n    return y.copy()\n"
    names = cell(text, x=ROW)
    right = 5 * ROW + np.sin(ROW)
    assert "launch" not in told(lesson, names["got"], right)
    assert "launch" not in told(lesson, names["got"], 2 * ROW)
    assert "launch" in repair(names["got"], lambda y: set() if np.allclose(y, 4 * ROW) else {"y"})


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (slice(0, 0), "Not one value of it was written"),
        (slice(0, 5), "3 of its 8 values were never written, the first at index 5"),
        (slice(1, 8), "1 of its 8 values was never written, the first at index 0"),
    ],
)
def test_what_was_handed_over_empty_and_never_written_is_said(written, words):
    y = blank(8)
    assert np.isnan(y).all()
    y[written] = ROW[written]
    assert words in hint(y, ROW, 1e-12)
    assert "0 divided by 0" not in hint(y, ROW, 1e-12)
    added = blank(8)
    added += ROW
    assert "`+=`" in hint(added, ROW, 1e-12)


def test_a_nan_that_was_computed_is_no_empty_place():
    with np.errstate(invalid="ignore"):
        assert "0 divided by 0" in hint(np.where(ROW > 0, np.zeros(8) / 0.0, ROW), ROW, 1e-12)


def test_a_tuple_of_several_is_named_as_such(lesson):
    assert "is a tuple of 2, want one array" in told(lesson, lambda: (GRID, GRID + 1), GRID)
    assert "number 0 of them is right" in told(lesson, lambda: (GRID, GRID + 1), GRID)
    assert "is a tuple of 2, want one number" in told(lesson, lambda: {"a": (2.0, 3.0)}, {"a": 2.5})
    assert "holds 'memory'" in told(lesson, lambda: (0.5, "memory"), np.array([0.5, 1.0]))
    lesson.check("y", lambda: (1.0, True), np.array([1.0, 1.0]), 1e-12)


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (GRID.sum(0), "It is the sum of what is right over axis 0: a step too many."),
        (GRID.mean(), "It is the mean of what is right over axis 0, 1: a step too many."),
        (GRID.max(1), "It is the max of what is right over axis 1: a step too many."),
        (3.25, "It is one number, and (5, 3) are wanted"),
    ],
)
def test_a_step_too_many_is_named(got, words):
    assert words in hint(got, GRID, 1e-12)


def test_where_a_row_of_values_goes_wrong_is_said():
    late, early = ROW.copy(), ROW.copy()
    late[6:], early[:3] = 0, [5.0, 9.0, 7.0]
    assert "are right up to index 5; from 6 on they are 0, as if never reached" in hint(late, ROW, 1e-12)
    assert "Only the first 3 of the 8 values are wrong" in hint(early, ROW, 1e-12)


def test_single_numbers_that_miss_one_number_say_it():
    got, want = {"a": 3.0, "b": 4.0, "c": 7.0}, {"a": 4.0, "b": 5.0, "c": 8.0}
    assert alone(got, want, 0.5) == "Each of your values is the right one minus 1."
    assert alone({"a": 3.0}, {"a": 4.0}, 0.5) == ""


SLIPS = [
    (
        "    total = 0\n    for a in x:\n        total += a\n        return total\n",
        lambda x: x.sum(),
        "where `return` stands",
    ),
    (
        "    t = 0\n    y = []\n    for a in x:\n        for b in (1, 2):\n            t += a * b\n"
        "        y.append(t)\n    return np.array(y)\n",
        lambda x: 3 * x,
        "what is set before the loop",
    ),
    (
        "    t = s = 0.0\n    y = []\n    for a in x:\n        for b in (1, 2):\n            t += a * b\n"
        "            s += b\n        y.append(t / s)\n    return np.array(y)\n",
        lambda x: x,
        "what is set before the loop",
    ),
    (
        "    y = np.zeros(8)\n    a, b = x.copy(), x.copy()\n    for i in range(8):\n        a[i] += 1\n"
        "        b[i] -= 1\n        y[i] = (a**2).sum() - (b**3).sum()\n    return y\n",
        lambda x: np.array([(x**2).sum() + 2 * a + 1 - (x**3).sum() + a**3 - (a - 1) ** 3 for a in x]),
        "what is set before the loop",
    ),
]


@pytest.mark.parametrize(("body", "right", "words"), SLIPS)
def test_a_statement_in_the_wrong_loop_is_found(body, right, words):
    names, want = cell(f"def answer(x):\n{body}", x=ROW), right(ROW)
    assert words in repair(
        names["got"], lambda y: set() if np.shape(y) == want.shape and np.allclose(y, want) else {"y"}
    )


def test_a_loop_that_keeps_only_its_last_turn_is_said():
    body = "    for a in (1, 2, 3):\n        y = a * x\n    return y + 1\n"
    assert "only that of the last turn is left" in unused(cell(f"def answer(x):\n{body}", x=ROW)["got"])
    kept = "    for a in (1, 2, 3):\n        y = a * x\n        x = y + x\n    return x\n"
    assert unused(cell(f"def answer(x):\n{kept}", x=ROW)["got"]) == ""


def test_a_mistake_may_have_several_values(lesson):
    wrong = {"The power is wrong.": lambda: (ROW**k for k in (3, 4, 5))}
    assert "The power is wrong." in told(lesson, lambda: ROW**4, ROW**2, wrong)
    assert "The power is wrong." not in told(lesson, lambda: ROW**6 + 1, ROW**2, wrong)
    assert same("y", ROW**5, wrong["The power is wrong."], 1e-12)
