"""What a comparison says."""

import numpy as np
import pytest
from tolerance import assert_close, terms

from minidl.check import compare

WANT = np.array([[[1.0, -2.0], [3.0, 4.5]], [[0.5, 7.0], [-6.0, 2.5]], [[1.5, 3.5], [2.0, 9.0]]])


def said(got, tol=1e-6, **more):
    return "\n".join(compare("y", got, WANT, tol, **more).lines())


def test_within_the_tolerance_passes_and_the_worst_error_is_in_its_units():
    result = compare("y", WANT + 0.5e-6, WANT, 1e-6)
    assert result.passed
    assert_close(result.worst, 0.5, terms(4, np.abs(WANT).max()) / 1e-6)


def test_the_worst_element_is_named():
    got = WANT.copy()
    got[2, 0, 1] += 0.25
    got[0, 1, 0] += 0.125
    text = said(got)
    assert "y[2, 0, 1]: got 3.75, want 3.5" in text
    assert "2 of 12 elements are out" in text
    assert "all in" not in text


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (WANT.transpose(2, 1, 0), "shape is (2, 2, 3), want (3, 2, 2) (transposed)"),
        (WANT * 0.9375, "got / want is 0.9375 everywhere"),
        (WANT + 3.0, "got − want is 3 everywhere"),
        (-WANT, "the sign is turned"),
        (WANT[::-1], "the right values in the wrong places"),
        (0 * WANT, "got is zero everywhere"),
        (np.where(np.arange(2)[:, None] == 1, WANT + WANT**2, WANT), "all in channel 1"),
        (np.where(WANT == 3.0, np.nan, WANT), "1 NaN"),
        (np.where(WANT == 3.0, np.inf, WANT), "1 Inf"),
        ("a string", "is str, want a NumPy array"),
    ],
)
def test_patterns_are_recognised(got, words):
    assert words in said(got)


def test_a_wrong_dtype_is_named_before_any_value_and_values_are_compared():
    lines = said(WANT.astype(np.float32) + 1, dtype="float64").splitlines()
    assert lines[0] == "WRONG y: dtype is float32, want float64"
    assert lines[1].startswith("WRONG y[0, 0, 0]: got 2, want 1")
    assert said(WANT.astype(np.float32), dtype="float64") == "WRONG y: dtype is float32, want float64"


def test_errors_of_rounding_have_no_pattern():
    grown = WANT * (1 + 1.5e-6)
    assert "everywhere" not in said(grown)
    assert "wrong places" not in said(WANT + 1e-5 * np.sin(np.arange(WANT.size)).reshape(WANT.shape))


def test_nan_is_right_where_nan_is_wanted_and_wrong_elsewhere():
    want = np.array([np.nan, 1.0, np.inf])
    assert compare("y", want, want, 1e-9).passed
    assert "1 finite where NaN is right" in "\n".join(compare("y", np.array([0.0, 1.0, np.inf]), want, 1e-9).lines())
    assert not compare("y", np.array([np.nan, 1.0, -np.inf]), want, 1e-9).passed
