"""The tolerances grow with what rounding does, and the comparison fails beyond them."""

import numpy as np
import pytest
from tolerance import FACTOR, assert_close, rounding, sums, terms, unit

A, B = np.array([1.0, 2.0]), np.array([0.99, 2.01])


def test_rounding_is_that_of_the_terms_that_cancel():
    allowed = rounding(lambda a, b: a - b, {"a": A, "b": B})["y"]
    assert FACTOR * unit("float64") <= allowed <= FACTOR * 8 * unit("float64")  # of 2, not of 0.01
    assert rounding(lambda a, b: a - b, {"a": A.astype("f"), "b": B.astype("f")})["y"] > 1e8 * allowed


def test_an_array_that_the_function_uses_again_is_compared_as_it_was():
    kept = np.empty(2)
    again = rounding(lambda a, b: np.subtract(a, b, out=kept), {"a": A, "b": B})["y"]
    assert again == rounding(lambda a, b: a - b, {"a": A, "b": B})["y"]


def test_whole_numbers_stay_as_they_are():
    assert rounding(lambda n, a: a[n], {"n": np.array([1, 0]), "a": A})["y"] > 0
    assert rounding(lambda n: n, {"n": np.array([3.0])})["y"] <= FACTOR * 3 * 2 * unit("float64") * 3


def test_a_sum_in_any_order_errs_by_less_than_sums_allows_and_more_than_a_few_units():
    x = np.random.default_rng(0).normal(size=10000).astype("float32")
    off = abs(float(np.cumsum(x)[-1]) - x.sum(dtype="float64"))
    assert terms(2, abs(x.sum()), "float32") < off < sums(x.size, np.abs(x).sum(), "float32")


@pytest.mark.parametrize("got", [[1.0, 2.1], [1.0, np.nan], [1.0]])
def test_what_is_off_or_nan_or_of_another_shape_fails(got):
    assert_close([1.0, 2.0], [1.0, 2.0], 0.0)
    with pytest.raises(AssertionError, match=r"^y "):
        assert_close(np.array(got), np.array([1.0, 2.0]), 0.05, "y")
