"""The term that an answer lacks is told by the arrays that it is made of, and not where all of an answer is wrong."""

import numpy as np
import pytest

from minidl.lesson import CheckFailed, Lesson
from minidl.lesson.hints import hint
from minidl.lesson.missing import missing
from minidl.lesson.terms import size, sums

RNG = np.random.default_rng(31)
A, B, REST = RNG.normal(size=(3, 4, 5))
TALL, OTHER, RIGHT = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 4)), RNG.normal(size=(7, 5))
TOL = 1e-10


@pytest.mark.parametrize("factor", [-2.0, -1.0, 0.5, 1.0])
def test_a_product_of_two_arrays_that_is_missing_too_many_or_wrongly_weighed_is_named(factor):
    assert "What is wrong follows `a` times `b`:" in missing(REST + factor * A * B, REST, TOL, {"a": A, "b": B})
    column = B[:, :1]
    assert "`a` times `column`" in missing(REST + factor * A * column, REST, TOL, {"a": A, "column": column})


def test_a_square_that_is_missing_is_named():
    assert "What is wrong follows the square of `a`:" in missing(REST - A**2, REST, TOL, {"a": A})


@pytest.mark.parametrize(
    ("term", "words"),
    [
        (TALL @ RNG.normal(size=(3, 5)), "`tall @ …`"),
        (OTHER @ RNG.normal(size=(4, 5)), "`other @ …`"),
    ],
)
def test_a_matrix_product_that_is_missing_is_named_by_its_one_known_factor(term, words):
    arrays = {"tall": TALL, "other": OTHER}
    assert f"What is wrong is a product {words}:" in missing(RIGHT - term, RIGHT, TOL, arrays)
    turned = words.replace("`tall @ …`", "`… @ tall.T`").replace("`other @ …`", "`… @ other.T`")
    assert f"What is wrong is a product {turned}:" in missing((RIGHT - term).T, RIGHT.T, TOL, arrays)


def test_nothing_is_said_of_a_difference_that_follows_nothing_or_that_any_product_could_be():
    arrays = {"a": A, "b": B, "tall": TALL}
    assert missing(REST + RNG.normal(size=REST.shape), REST, TOL, arrays) == ""
    assert missing(RIGHT + RNG.normal(size=RIGHT.shape), RIGHT, TOL, arrays) == ""
    wide = RNG.normal(size=(7, 7))  # spans everything
    assert missing(RIGHT + RNG.normal(size=RIGHT.shape), RIGHT, TOL, {"wide": wide}) == ""


def test_nothing_is_said_where_the_whole_answer_is_one_product():
    assert missing(2 * A * B, A * B, TOL, {"a": A, "b": B}) == ""
    assert missing(TALL @ RNG.normal(size=(3, 5)), TALL @ RNG.normal(size=(3, 5)), TOL, {"tall": TALL}) == ""


def test_of_values_without_sense_no_total_is_told():
    right = A - A.mean(axis=0)
    assert sums(1e100 * (A + 3), right, TOL) == ""
    assert "no sensible size" in size(1e100 * (A + 3), right, {})


def test_values_of_one_sign_are_not_called_almost_right_for_having_it():
    assert not hint(np.array([32, 96, 8, 40]), np.array([840, 280, 40, 8]), TOL).startswith("Most of it is there")


def test_a_factor_that_is_nearly_one_for_all_is_told_as_such():
    want = RNG.normal(size=(5, 7))
    assert "nearly 0.5 times" in hint(want / 2 + 0.004 * RNG.normal(size=want.shape), want, TOL)
    assert "nearly" not in hint(want / 2 + 0.2 * RNG.normal(size=want.shape), want, TOL)
    assert "nearly" not in hint(want + 0.01 * RNG.normal(size=want.shape), want, TOL)


@pytest.mark.parametrize(("lengths", "told"), [((4, 8), True), ((4, 4), False)])
def test_an_axis_is_one_too_long_only_where_every_wrong_length_is(lengths, told):
    def said():
        Lesson("05", checks=1).check(
            "y",
            lambda: {"a": RNG.normal(size=lengths[0]), "b": RNG.normal(size=lengths[1])},
            {"a": np.array([1.0, 4.0, 2.0]), "b": np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0])},
            1e-9,
        )

    with pytest.raises(CheckFailed) as told_of:
        said()
    assert ("one too long" in str(told_of.value)) is told
