"""A wrong answer that nobody listed: the sentence about it says what its pattern says, and nothing that it does not."""

import numpy as np
import pytest

from minidl.lesson.hints import alone, hint
from minidl.lesson.terms import related

RNG = np.random.default_rng(23)
Y = RNG.normal(1.0, 2.0, (3, 4, 5, 7))
ROW = RNG.normal(1.0, 2.0, 7)
OTHER = RNG.normal(size=Y.shape)
SQUARE = RNG.normal(size=(4, 4))
SPARSE = np.where(np.arange(7) % 4 == 0, Y, 0)
TOL = 1e-10

CASES = [
    ("a factor", Y, 2 * Y, "Each of your values is 2 times the right one."),
    ("a lost factor", Y, Y / 2, "Each of your values is 0.5 times the right one, that is 1/2."),
    (
        "N − 1 for N",
        ROW,
        ROW * 7 / 6,
        "Each of your values is 7/6 of the right one: look at what is divided by 7, or by 6.",
    ),
    (
        "a factor of what is mostly zero",
        SPARSE,
        0.4 * SPARSE,
        "Each of your values is 0.4 times the right one",
    ),
    ("a root of the count that is missing", ROW, ROW * 7**0.5, "2.64575 times the right one, that is √7: is a root"),
    ("a root of the count too many", ROW, ROW / 7**0.5, "0.377964 times the right one, that is 1/√7: is a root"),
    ("one number where three are wanted", ROW[:3], ROW[:1], "You give 1 number, and 3 are wanted: does `return`"),
    ("two numbers where three are wanted", ROW[:3], ROW[:2], "You give 2 numbers, and 3 are wanted"),
    ("a value too few of many", ROW, ROW[1:] + 1, "axis 0 is one too short"),
    ("a mean for a sum", ROW, ROW / 7, "1/7 of the right one"),
    ("the sign", Y, -Y, "The sign is turned."),
    ("a shift", Y, Y + 0.25, "Each of your values is the right one plus 0.25."),
    ("a lost root", np.abs(Y), Y**2, "the squares of the right ones: is a root missing?"),
    ("a root too many", np.abs(Y), np.sqrt(np.abs(Y)), "the roots of the right ones"),
    ("divided, not multiplied", ROW, 1 / ROW, "one over the right ones"),
    ("no logarithm", ROW, np.exp(ROW), "is a logarithm missing?"),
    ("whole numbers", 10 * Y, np.trunc(10 * Y), "cut to whole numbers"),
    ("swapped axes", SQUARE, SQUARE.T, "axes 0 and 1 are swapped"),
    ("turned round", Y, Y[:, :, ::-1], "they run backwards along axis 2"),
    ("another order", ROW, ROW[[1, 0, 3, 2, 6, 5, 4]], "The right values stand in the wrong places"),
    ("a transpose", Y[0, 0], Y[0, 0].T, "It is the transpose of what is right."),
    ("another order of axes", Y, Y.transpose(1, 2, 3, 0), "the axes in another order: look at transpose"),
    ("a shift of many digits", Y * 1e3, Y * 1e3 - 1e-1, "the right one minus 0.1."),
    ("a flat shape", Y, Y.reshape(12, 35), "The values are right, in another shape: reshape them to (3, 4, 5, 7)."),
    ("keepdims", ROW, ROW.reshape(1, 7, 1), "differs by axes of length 1"),
    ("a sum that is missing", Y.sum((0, 2, 3)), Y, "its sum is taken over axis 0, 2, 3"),
    ("a mean that is missing", Y.mean(1), Y, "its mean is taken over axis 1"),
    ("a window too few", Y, Y[:, :, 1:, 1:], "axes 2 and 3 are one too short"),
    ("a window too many", Y[:, :, 1:], Y, "axis 2 is one too long"),
    ("axes elsewhere", Y, 2 + OTHER.transpose(1, 0, 3, 2), "yours should stand in the order 1, 0, 3, 2."),
    ("a cube root", 1 + np.abs(Y), (1 + np.abs(Y)) ** 3, "is a cube root missing?"),
    ("the last row", SQUARE, np.where(np.arange(4) == 3, SQUARE**3, SQUARE), "Only the last index of axis 1 is wrong"),
    ("one axis lost", Y, Y[0], "Axis 0 of (3, 4, 5, 7) is gone"),
    ("a shift per channel", Y, Y + RNG.normal(size=(1, 4, 1, 1)), "one number for each index of axis 1 (channels)"),
    ("a factor per channel", Y, Y * [[[[2.0]], [[3.0]], [[0.5]], [[7.0]]]], "has a wrong factor of its own"),
    ("a term over the batch", Y, Y + RNG.normal(size=(1, 4, 5, 7)), "does not vary along axis 0 (samples)"),
    ("a sum that broadcast", Y, np.broadcast_to(Y.mean(2, keepdims=True), Y.shape), "do not vary along axis 2"),
    ("few digits", Y, Y.astype(np.float32), "compute in float64 throughout"),
    ("an eps elsewhere", Y, Y * (1 + 1e-6 * Y), "right to about"),
    ("NaN", Y, np.where(Y > 3, np.nan, Y), "0 divided by 0"),
    ("infinity", Y, np.where(Y > 3, np.inf, Y), "a division by zero"),
    ("zeros", Y, 0 * Y, "zero everywhere"),
    ("a clipped half", Y, np.maximum(Y, 0), "negative ones set to zero"),
    ("half of it", Y, np.where(Y < 0, 0.1 * Y, Y), "Only the values that should be negative are wrong."),
    ("a border", Y, np.where(np.arange(7) % 6 == 0, Y + RNG.normal(size=Y.shape), Y), "Only the border of axis 3"),
    ("channels in another order", Y, Y[:, [2, 0, 3, 1]], "the indices of axis 1 stand in another order, 2, 0, 3, 1."),
    ("a turn", ROW, np.roll(ROW, 2), "along axis 0 they are turned round by 2."),
    ("a turn the other way", Y, np.roll(Y, -1, 2), "along axis 2 they are turned round by 1."),
    ("one channel for all", Y, Y[:, [1, 1, 1, 1]], "Every index of axis 1 (channels) has what belongs to index 1"),
    ("one value for all", ROW, np.full(7, ROW[4]), "Every index of axis 0 has what belongs to index 4"),
    ("running totals", ROW, ROW.cumsum(), "Your values are running totals of the right ones along axis 0"),
    ("no running totals", ROW.cumsum(), ROW, "The right values are running totals of yours along axis 0"),
    ("one late", ROW, np.append(9, ROW[:-1]), "what belongs to the one before it: an index is one too small."),
    (
        "one early",
        Y,
        np.append(Y[:, 1:], 0 * Y[:, :1], 1),
        "Along axis 1 (channels) each index has what belongs to the next",
    ),
    (
        "one alone",
        Y,
        np.where(np.arange(4).reshape(4, 1, 1) == 1, Y, OTHER),
        "Only index 1 of axis 1 (channels) is right",
    ),
    (
        "a shape turned round",
        Y,
        Y.reshape(7, 5, 4, 3),
        "The values are right, in another shape: reshape them to (3, 4, 5, 7).",
    ),
    (
        "a margin",
        Y,
        np.pad(Y, ((0, 0), (0, 0), (1, 1), (2, 0))),
        "cut 1 at the beginning and 1 at the end of axis 2, 2",
    ),
    (
        "a part",
        Y,
        Y[:, :, 1:4, 2:5],
        "and it lacks 1 at the beginning and 1 at the end of axis 2, 2 at the beginning and 2",
    ),
    (
        "one channel",
        Y,
        np.where(np.arange(4).reshape(4, 1, 1) == 2, OTHER, Y),
        "Only index 2 of axis 1 (channels) is wrong.",
    ),
    (
        "every second",
        ROW,
        np.where(np.arange(7) % 2 == 1, -3 - ROW, ROW),
        "Every second index of axis 0 is wrong, from 1 on.",
    ),
    ("a term per map", Y, Y + OTHER[:, :, :1, :1], "What is wrong is one number for each sample and channel"),
    ("a factor per map", Y, Y * (2 + OTHER[:, :, :1, :1]), "There is a wrong factor for each sample and channel"),
    ("one minus", ROW, 1 - ROW, "1 minus the right one"),
    ("signs", Y, np.sign(Y), "the signs of the right ones"),
    ("a missing term", Y, Y + 0.3 * RNG.normal(size=Y.shape), "Most of it is there (cosine 0.9"),
]


@pytest.mark.parametrize(("want", "got", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_pattern_is_said(want, got, words):
    assert words in hint(got, want, TOL)


def test_verdicts_that_are_all_the_same_are_no_index_for_all():
    assert "index" not in hint(np.ones(40, bool), np.arange(40) % 3 == 0, 0.5)


@pytest.mark.parametrize("tol", [1e-12, 1e-6])
def test_values_without_a_pattern_get_no_sentence(tol):
    other = np.random.default_rng(5).normal(size=Y.shape)
    assert hint(other, Y, tol) == ""


@pytest.mark.parametrize("want", [np.array(3.0), np.array([3.0]), np.array([2.0, -1.0])])
def test_a_few_numbers_claim_no_pattern_that_they_cannot_show(want):
    said = hint(want + np.linspace(0.3, 0.7, want.size).reshape(want.shape), want, TOL)
    assert "each index" not in said
    assert "cosine" not in said


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (Y * ROW, "the right ones times `row`."),
        (Y / Y[0, :, 0, 0].reshape(4, 1, 1), "the right ones divided by `channel`."),
        (Y + Y[:, 0, 0, 0].reshape(3, 1, 1, 1), "the right ones plus `sample`."),
        (OTHER, "those of `other`."),
        (np.where(OTHER < 0, 0.5, Y), "wrong just where `other` is negative."),
    ],
)
def test_a_difference_that_follows_an_array_is_said_with_its_name(got, words):
    arrays = {"row": ROW, "channel": Y[0, :, 0, 0], "sample": Y[:, 0, 0, 0], "other": OTHER}
    assert related(got, Y, TOL, arrays) == f"Your values are {words}"
    assert related(got + 0.1 * RNG.normal(size=Y.shape), Y, TOL, arrays) == ""


def test_what_an_infinite_shift_hides_is_not_said():
    assert hint(Y + 1e100, Y, TOL) == ""


@pytest.mark.parametrize(
    ("got", "want", "said"),
    [
        ({"a": 2.0}, {"a": 4.0}, "Your number is 1/2 of the right one."),
        ({"a": 2.0}, {"a": 4.1}, ""),
        ({"a": 2.0, "b": 3.0}, {"a": 4.0, "b": 6.0}, "Each of your values is 0.5 times the right one, that is 1/2."),
        (
            {"a": 8.0, "b": 27.0},
            {"a": 2.0, "b": 3.0},
            "Your values are the cubes of the right ones: is a cube root missing?",
        ),
        ({"a": 8.0, "b": 27.0}, {"a": 2.0, "b": 3.5}, ""),
        ({"a": 2.25}, {"a": 1.5}, "Your number is the square of the right one: is a root missing?"),
        ({"a": -1.5}, {"a": 1.5}, "Your number is the right one with the sign turned."),
        ({"a": 0.4}, {"a": 2.5}, "Your number is one over the right one: is it divided where it should be multiplied?"),
        ({"a": 25.0}, {"a": 5.0}, ""),  # of a whole number it may be chance
        ({"a": 2.0}, {"a": 4.0, "b": 6.0}, ""),
        ({"a": np.ones(2)}, {"a": 2 * np.ones(2)}, ""),
    ],
)
def test_single_numbers_say_together_what_one_cannot(got, want, said):
    assert alone(got, want, TOL) == said
