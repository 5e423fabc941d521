"""An error in an answer is said in the words of a lesson; a search for a change ends, and leaves nothing behind."""

import linecache

import numpy as np
import pytest

from minidl.lesson import CheckFailed, Lesson
from minidl.lesson.errors import explain
from minidl.lesson.inputs import Inputs
from minidl.lesson.repair import repair

X = np.array([1.0, -2.0, 4.0])


def both(a):
    return a


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: max(X, 0), "Element by element it is np.maximum"),
        (lambda: (lambda a, b: a)(*both(X)), "is it as many values as asked for?"),
        (lambda: [a for a, b in [(1, 2, 3)]], "not as many values as are taken apart"),
        (lambda: None + X, "Something there is None: does a function end without `return`?"),
        (lambda: X[3], "runs past the end"),
        (lambda: {"dx": X}["dw"], "no such key"),
        (lambda: both((X, X))["dx"], "A dictionary is wanted there"),
        (lambda: dict(zip(("a", "b"), (X, X, X), strict=True)), "not as many values as are asked for"),
        (lambda: range(3 / 1), "`//` gives one"),
        (lambda: np.arange(3).__iadd__(0.5), "keep the dtype of the array on the left"),
        (lambda: np.broadcast_to(X, (2, 3)).__setitem__(0, 1), "may not be written into"),
        (lambda: X.relu(), "cannot do that"),
        (lambda: np.concatenate([None, None]), "gave None or one number"),
    ],
)
def test_an_error_is_said_in_plain_words(answer, words):
    assert words in explain(raised_by(answer), globals())


def raised_by(answer):
    """Return the error that an answer raises."""
    try:
        answer()
    except Exception as error:
        return error
    return pytest.fail("the answer must raise an error")


def defined(text, **space):
    """Return the names that a cell defines."""
    file = f"<answer {len(linecache.cache)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names = {"np": np, "__name__": "answers", **space}
    exec(compile(text, file, "exec"), names)
    check = "def got():\n    return answer(x)\n"
    exec(compile(check, "<check>", "exec"), names)
    return names


def far(want):
    return lambda given: set() if np.shape(given) == np.shape(want) and np.allclose(given, want) else {"y"}


REPAIRS = [  # an answer, what is right, and the place that is named
    ("return x / (np.sqrt(np.mean(x * x)) + 1)", X / np.sqrt(np.mean(X * X) + 1), "what stands under the root"),
    ("return abs(x) ** 1 / 3", abs(X) ** (1 / 3), "the brackets in"),
    ("return x * x[0] * 4 / x[2]", X * X[0] * X[2] / 4, "what is multiplied and what divided"),
    ("return x", X + X * X, "`x * x`, a term that is missing"),
    ("return np.mean(x) ** 2 + x", np.mean(X**2) + X, "where the power stands in `np.mean(x) ** 2`"),
    ("return np.sum(x**2) * x", np.sum(X) ** 2 * X, "where the power stands in `np.sum(x ** 2)`"),
    ("return x / np.mean(x * x)", X / np.var(X), "a term that a variance has, the square of a mean, at"),
    ("return (x - np.mean(x)) * 7.3", abs(X - X.mean()) * 7.3, "the magnitude, which is missing at `x - np.mean(x)`"),
    (
        "y = np.outer(x, x)\n    return y[:, [2, 0, 1]]",
        np.outer(X, X)[[0, 1, 2], [2, 0, 1]],
        "the `:`, with which every",
    ),
    ("return np.ones(6).reshape(1, 2, 3).transpose(0, 1, 2)", np.ones((3, 2, 1)), "the order of the axes"),
    (
        "y = np.zeros((3, 3))\n    for i in range(2):\n        for j in range(2):\n            y[i, j] = x[i - 1 + 1]\n"
        "    return np.zeros((len(x), y.shape[1]))",
        np.zeros((4, 4)),
        "two neighbours, each one too small, in `(len(x), y.shape[1])`",
    ),
    (
        "y = 0 * x\n    for i in range(3):\n        y += x[i] * i\n    return y",
        X * [0, 1, 2],
        "an index, which is missing",
    ),
    ("return 7 * abs(x)", (7 * abs(X)) ** (1 / 3), "a root that is missing"),
    ("t = 0.3\n    return x * t + abs(x)", 0.3 * X + 0.7 * abs(X), "1 − `t`, a factor that is missing"),
]


@pytest.mark.parametrize(("body", "want", "words"), REPAIRS)
def test_the_place_of_one_change_is_named(body, want, words):
    names = defined(f"def answer(x):\n    {body}\n", x=X)
    said = repair(names["got"], far(want))
    assert said.startswith("One change makes it right: in answer, look at ")
    assert words in said


LOOPS = """def answer(x):
    n, found = 0, []
    while n < 3:
        found.append(sum(x[i] for i in range(3) if x[i] > n))
        n += 1
    return np.array(found)
"""


def test_a_search_ends_where_a_change_loops_for_ever_and_leaves_names_and_arrays_as_they_were():
    names = defined(LOOPS, x=X.copy())
    before = {key: value for key, value in names.items() if key != "x"}
    assert repair(names["got"], lambda given: {"y"}) == ""
    assert {key: value for key, value in names.items() if key != "x"} == before
    assert np.array_equal(names["x"], X)


def test_a_quoted_comprehension_is_as_it_was_written():
    names = defined("def answer(x):\n    return np.array([a * 2 for a in x]) * 2\n", x=X)
    said = repair(names["got"], far(2 * X))
    assert "_minidl" not in said
    assert said.startswith("One change makes it right: in answer, look at ")


def test_a_change_that_mends_one_array_of_two_is_not_recommended():
    names = defined('def answer(x):\n    return {"a": -x, "b": x + 3}\n', x=X)

    def bad(given):
        return {key for key, want in (("a", X), ("b", 5 * X)) if not np.allclose(given[key], want)}

    assert repair(names["got"], bad) == ""


def test_only_the_arrays_of_the_names_given_are_kept():
    names = defined("def answer(x):\n    return x\n", x=X.copy(), other=X.copy())
    kept = Inputs(names["got"], {"x"})
    names["x"][0] = names["other"][0] = 9
    assert kept.restore() == ["x"]
    assert names["other"][0] == 9
    assert kept.size == X.size


def test_an_answer_that_raises_an_error_gets_both_sentences():
    names = defined("def answer(x):\n    return max(x, 0)\n", x=X)
    with pytest.raises(CheckFailed) as caught:
        Lesson("05", checks=1).check("y", names["got"], np.maximum(X, 0), 1e-12)
    assert "np.maximum" in str(caught.value)


def test_a_view_past_the_end_of_its_array_is_said():
    x = np.arange(12.0).reshape(3, 4)
    names = defined("def answer(x):\n    return np.lib.stride_tricks.as_strided(x, (3, 4), (64, 8))\n", x=x)
    with pytest.raises(CheckFailed, match="Your view reaches past the memory of its array"):
        Lesson("01", checks=1).check("y", names["got"], x, 1e-12)
