"""Means, paired differences and Student's quantiles: by hand, and against SciPy."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tolerance import assert_close, terms

from minidl.reproduce.statistics import paired_difference, sample, student_cdf, student_quantile


def quantile_rounding(t, df):
    """Return what rounding of the distribution's sum of df / 2 terms does to its quantile t."""
    return terms(4 * df + 32, 1) / scipy.stats.t.pdf(t, df) + terms(8, t)


@examples(max_examples=40)
@given(df=st.integers(1, 60), p=st.floats(0.51, 0.9999))
def test_student_quantiles_are_those_of_scipy(df, p):
    want = scipy.stats.t.ppf(p, df)
    assert_close(student_quantile(p, df), want, quantile_rounding(want, df))


@examples(max_examples=40)
@given(df=st.integers(1, 60), t=st.floats(-30, 30))
def test_student_distribution_is_that_of_scipy(df, t):
    assert_close(student_cdf(t, df), scipy.stats.t.cdf(t, df), terms(4 * df + 32, 1))


@pytest.mark.parametrize(("p", "df"), [(0.5, 3), (1.0, 3), (0.975, 0)])
def test_a_quantile_outside_its_range_is_refused(p, df):
    with pytest.raises(ValueError, match=r"p must be within \(0.5, 1\) and df at least 1, got"):
        student_quantile(p, df)


def test_sample_divides_by_n_minus_1_and_has_no_deviation_of_one_value():
    n, mean, deviation = sample([2.0, 4.0, 9.0])
    assert (n, mean) == (3, 5.0)
    assert_close(deviation, math.sqrt(13), terms(8, math.sqrt(13)))
    assert sample([7.0]) == (1, 7.0, None)
    assert sample([]) is None


def test_paired_difference_is_that_worked_by_hand():
    ours = {0: 24.0, 1: 23.0, 2: 25.0, 7: 99.0}
    baseline = {0: 26.0, 1: 27.0, 2: 28.0, 3: 11.0}
    n, mean, (low, high) = paired_difference(ours, baseline)  # differences -2, -4, -3: mean -3, deviation 1
    assert (n, mean) == (3, -3.0)
    half = 4.302653 / math.sqrt(3)  # t of 0.975 at 2 degrees of freedom, from a printed table
    assert (low, high) == pytest.approx((-3 - half, -3 + half), abs=1e-6)


@examples(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=9))
def test_paired_interval_is_that_of_scipys_paired_test(pairs):
    ours, baseline = np.array(pairs).T
    found = paired_difference(dict(enumerate(ours)), dict(enumerate(baseline)))
    assume(np.ptp(ours - baseline) >= 1e-6)  # of a constant, SciPy warns that it cannot say
    with np.errstate(all="ignore"):
        interval = scipy.stats.ttest_rel(ours, baseline).confidence_interval(0.95)
    n, differences = len(ours), ours - baseline
    t, off = student_quantile(0.975, n - 1), terms(4 * n + 32, np.abs(differences).max())
    half = quantile_rounding(t, n - 1) * differences.std(ddof=1) / math.sqrt(n)
    assert_close(found.interval, (interval.low, interval.high), half + (1 + t) * off)


def test_one_pair_has_a_difference_and_no_interval():
    assert paired_difference({4: 3.0}, {4: 5.0, 5: 1.0}) == (1, -2.0, None)
    assert paired_difference({4: 3.0}, {5: 1.0}) is None
