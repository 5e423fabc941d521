"""What follows an array, what a function does with what it is given, and slips that are made in several places."""

import ast
import sys

import numpy as np
import pytest
from notebook_cell import cell

from minidl.lesson import CheckFailed, Lesson
from minidl.lesson.edits import edits
from minidl.lesson.lint import small_constants, unused
from minidl.lesson.repair import repair
from minidl.lesson.terms import parts, related, sums
from minidl.lesson.tutor import tutor
from minidl.lesson.values import compare_all, in_part
from minidl.lesson.watch import Watch

RNG = np.random.default_rng(11)
DY, X = RNG.normal(size=(2, 5, 3, 4, 7))
ONE, TWO, SHIFT = RNG.uniform(0.5, 2.0, (3, 1, 3, 1, 1))  # a factor for each channel
MEAN = X.mean(axis=(0, 2, 3), keepdims=True)
WANT = ONE * DY + TWO * (X - MEAN) + SHIFT
TOL = 1e-11


@pytest.fixture
def lesson():
    return Lesson("05", checks=2)


def mended(body, right, x):
    names, want = cell(f"def answer(x):\n{body}", x=x), right(x)
    return repair(names["got"], lambda y: set() if np.shape(y) == np.shape(want) and np.allclose(y, want) else {"y"})


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (WANT - TWO * (X - MEAN), "what follows `x` is missing; all the rest is right."),
        (WANT - 2 * TWO * (X - MEAN), "what follows `x` has the wrong sign"),
        (WANT + 4 * ONE * (DY - DY.mean(axis=(0, 2, 3), keepdims=True)), "what follows `dy` is 5 times as large"),
        (WANT + ONE * (X - MEAN), "what follows `x` has a wrong factor, another one in each slice"),
        (WANT + 2 * X - SHIFT, "what follows `x` has a wrong factor, another one in each slice and what is constant"),
    ],
)
def test_a_sum_is_taken_apart_channel_by_channel(got, words):
    said = parts(got, WANT, TOL, {"dy": DY, "x": X, "xhat": (X - MEAN) / 3})
    assert said.startswith("Taken apart channel by channel, ")
    assert words in said
    assert "xhat" not in said  # it follows from x


def test_a_sum_that_is_all_wrong_or_no_sum_at_all_is_not_taken_apart():
    assert parts(WANT**2, WANT, TOL, {"dy": DY, "x": X}) == ""
    assert parts(RNG.normal(size=WANT.shape), WANT, TOL, {"dy": DY, "x": X}) == ""
    assert parts(WANT + DY + X + 1, WANT, TOL, {"dy": DY, "x": X}) == ""
    assert parts(WANT + X, WANT, TOL, {}) == ""


def test_where_only_what_is_wrong_follows_an_array_it_is_named():
    want = WANT**2
    assert "what is wrong is what follows `x`" in parts(want + TWO * (X - MEAN), want, TOL, {"dy": DY, "x": X})


def test_a_total_that_is_always_the_same_is_said_where_it_is_lost():
    p = RNG.dirichlet(np.ones(4), 6)
    assert "adds up to 1 along axis 1; yours" in sums(p**2, p, TOL)
    centred = X - MEAN
    assert "adds up to 0 along axes 0, 2, 3; yours" in sums(centred + SHIFT, centred, TOL)
    assert sums(2 * centred, centred, TOL) == ""
    assert sums(X + 1, X, TOL) == ""


def test_an_array_of_the_answer_itself_is_a_factor_and_never_the_answer():
    rstd = RNG.uniform(0.5, 2.0, 3)
    want = RNG.normal(size=3)
    assert related(want * rstd, want, TOL, {}, {"rstd": rstd}) == "Your values are the right ones times `rstd`."
    assert "times the square of `rstd`" in related(want * rstd**2, want, TOL, {}, {"rstd": rstd})
    assert related(want * rstd, want, TOL, {}, {"y": want * rstd}) == ""


def test_an_array_that_only_the_check_knows_is_protected(lesson):
    names = cell("def answer(x):\n    x -= x.mean()\n    return x\n", x=X)
    exec(compile("def got():\n    return answer(x.copy())\n", "<check>", "exec"), names)
    with pytest.raises(CheckFailed, match="changed x of answer in place"):
        lesson.check("y", names["got"], X - X.mean(), 1e-12)
    assert sys.getprofile() is None


def test_an_array_in_a_list_is_protected_and_a_copy_may_be_written():
    def add(parts):
        total = parts[0]
        for part in parts[1:]:
            total += part
        return total

    def careful(parts):
        total = parts[0].copy()
        for part in parts[1:]:
            total += part
        return total

    with Watch({add.__code__, careful.__code__}) as seen:
        careful([np.ones(3), np.ones(3)])
    assert seen.changed == {}
    assert [*seen.made["total"]] == [2, 2, 2]
    with Watch({add.__code__}) as seen:
        add([np.ones(3), np.ones(3)])
    assert [*seen.changed] == ["parts[0] of add"]


def test_what_returns_nothing_is_there_to_write_and_a_helper_of_the_answer_is_its_own_affair():
    def fill(y):
        y[...] = 1

    def halve(y):
        y /= 2
        return y

    def answer(x):
        return halve(x * 3)

    with Watch({fill.__code__, halve.__code__, answer.__code__}) as seen:
        fill(np.zeros(3))
        answer(np.ones(3))
    assert seen.changed == {}


@pytest.mark.parametrize(
    ("body", "right", "words"),
    [
        (
            "    mu = x.mean(axis=0)\n    sd = x.std(axis=0)\n    return mu + sd\n",
            lambda x: x.mean(axis=(0, 2)) + x.std(axis=(0, 2)),
            "The same slip is in 2 places; it is right when all are changed",
        ),
        ("    y = x * 2\n    z = y + 1\n    y = y * 3\n    return z + 0 * y\n", lambda x: x * 6 + 1, "other order"),
        ("    return (x - 1) / len(x)\n", lambda x: (x - 1) / x.size, "what is counted in `len(x)`"),
        ("    return x.mean() + x**2\n", lambda x: (x + x**2).mean(), "what the `mean` is taken of"),
        ("    if x.any():\n        return 2 * x\n    return 3 * x\n", lambda x: 3 * x, "when the condition holds"),
        ("    return x[1]\n", lambda x: x[:, 1], "which axis the index is of in `x[1]`"),
        (
            "    a = np.zeros(2)\n    y = []\n    for i in (0, 1):\n        a[i] += 1\n        y.append(a.copy())\n"
            "    return np.array(y)\n",
            lambda x: np.eye(2),
            "what is set before the loop",
        ),
        (
            "    y = x\n    for i in (1, 2, 3):\n        y = y + i\n        y = 2 * y\n    return y\n",
            lambda x: 2 * (x + 6),
            "done once, after it",
        ),
        ("    a = x[0, 2]\n    return x[0, 2] + a * 0\n", lambda x: x[0, 2] ** 2, "a square that is missing"),
    ],
)
def test_a_slip_of_form_is_found(body, right, words):
    assert words in mended(body, right, RNG.normal(size=(3, 5, 4)))


def test_an_index_is_not_squared():
    tree = ast.parse("def answer(x, c):\n    return x[0, c]\n").body[0]
    of_c = [edit.words for edit in edits(tree) if getattr(edit.whole, "id", "") == "c"]
    assert "the variable `c` in" in of_c
    assert not any("square" in words or "root" in words for words in of_c)


def test_a_change_that_mends_one_of_several_results_says_which():
    names = cell("def answer(x):\n    return {'a': x + 1, 'b': x**2 + 1 / (1 + x)}\n", x=np.abs(X) + 1)
    want = {"a": names["x"] - 1, "b": np.sin(names["x"])}
    bad = lambda y: {k for k in want if not np.allclose(y[k], want[k])}  # noqa: E731
    assert repair(names["got"], bad) == ""  # it may be right by chance
    said = repair(names["got"], bad, sure={"a", "b"})
    assert "One change makes `a` right" in said
    assert said.endswith("Something else is wrong besides.")


def test_a_listed_mistake_is_recognised_in_one_of_the_results():
    want = {"a": X, "b": DY}
    mistake = {"a": 2 * X, "b": DY}
    assert in_part("y", {"a": 2 * X, "b": DY + 1}, want, lambda: mistake, TOL)
    assert not in_part("y", {"a": 3 * X, "b": DY + 1}, want, lambda: mistake, TOL)
    verdicts = {"a": np.array([0, 1]), "b": DY}
    assert not in_part(
        "y", {"a": np.array([0, 2]), "b": DY + 1}, verdicts, lambda: {"a": np.array([0, 2]), "b": DY}, TOL
    )


def test_a_listed_mistake_that_calls_the_learners_function_is_not_recognised_by_what_that_function_gives(lesson):
    names = cell("def answer(x):\n    return x**3\n", x=X)
    exec(compile("def got():\n    return {'y': answer(x), 'b': x.sum()}\n", "<check>", "exec"), names)
    exec(compile("def wrong():\n    return {'y': answer(x), 'b': x.mean()}\n", "<check>", "exec"), names)
    with pytest.raises(CheckFailed) as error:
        lesson.check("y", names["got"], {"y": X, "b": X.sum()}, TOL, {"b is a mean.": names["wrong"]})
    assert "b is a mean." not in str(error.value)


def told(names, want, tol, watch=None):
    given = names["got"]()
    bad = [one for one in compare_all("y", given, want, tol) if not one.passed]
    return tutor("y", names["got"], given, want, tol, bad, set(), watch or Watch(set()))


def test_answers_to_several_questions_are_judged_one_by_one():
    names = cell("def answer(x):\n    return np.array([x, 4.0, 10.0])\n", x=16.0)
    assert told(names, np.array([2.0, 4.0, 10.0]), [1.0, 2.0, 0.1]) == [
        "Counted from 0, number 0 is 8 times the right one."
    ]


def test_a_small_constant_is_named_where_digits_are_missing():
    names = cell("def answer(x):\n    return np.log(x + 1e-6)\n", x=np.abs(X) + 1)
    assert small_constants(names["got"]) == "In answer, look at `x + 1e-06`: what it adds is in the result."
    assert "x + 1e-06" in " ".join(told(names, np.log(np.abs(X) + 1 + 1e-9 * X), 1e-12))


def test_what_is_never_done_is_said():
    raising = (
        'def answer(x):\n    """Raise AssertionError or VacuousError."""\n    if x.any():\n        raise VacuousError\n'
    )
    assert "is to raise AssertionError, and no line" in unused(cell(raising, x=X)["got"])
    over = "def answer(x):\n    y = np.zeros(3)\n    for i in range(5):\n        y[x[i]] = i\n    return y\n"
    assert "writes into `y[x[i]]` in a loop" in unused(cell(over, x=np.array([0, 1, 2, 1, 0]))["got"])
    several = "def answer(x):\n    a, b = np.modf(x)\n    c, d = x, 2 * x\n    return b + c\n"
    assert "computes `d` and never uses it" in unused(cell(several, x=X)["got"])  # and not `a`, which came with b
    reading = "def answer(x):\n    y = x['mean'] + 1\n    return y\n"
    keys = {"answer.x": ["mean", "var"]}
    assert "never reads `var` of `x`" in unused(cell(reading, x={"mean": 1.0, "var": 2.0})["got"], keys=keys)
    assert unused(cell(reading.replace("y = ", "y = sum(x.values()) + "), x={"mean": 1.0})["got"], keys=keys) == ""


def test_where_the_first_result_shows_nothing_another_one_may():
    names = cell("def answer(x):\n    return {'a': np.tanh(x) + np.cos(3 * x), 'b': 2.7 * x + 0.3 * x}\n", x=X)
    said = " ".join(told(names, {"a": X, "b": X}, TOL))
    assert said.endswith("In `b`: each of your values is 3 times the right one.")
    assert "In `b`" not in " ".join(told(names, {"a": 2 * names["got"]()["a"], "b": X}, TOL))


def test_a_factor_that_only_the_first_result_has_is_said_of_it_alone():
    names = cell("def answer(x):\n    return {'a': x / 50, 'b': x / 30}\n", x=X)
    assert "In `a`: each of your values is 0.02 times the right one" in " ".join(told(names, {"a": X, "b": X}, TOL))
    assert "In `" not in " ".join(told(names, {"a": X / 5, "b": X / 3}, TOL))  # 0.1 of both
