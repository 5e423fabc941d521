"""Schedules: values worked out by hand, and what they refuse."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import assert_close, terms

from minidl.schedule import CosineSchedule, StepSchedule, Warmup


def test_step_schedule_divides_by_ten_after_each_drop_of_table_1():
    schedule = StepSchedule(0.1, drops=[2.5e6, 3.0e6])
    touches = [0, 2.5e6 - 128, 2.5e6, 3.0e6 - 128, 3.0e6, 3.5e6]
    want = [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    # one rounding of lr, two of the factor squared, two of the C library's power, those of the product and of `want`
    assert_close([schedule(t) for t in touches], want, terms(7, want))


def test_step_schedule_without_drops_is_constant():
    schedule = StepSchedule(0.3)
    assert {schedule(t) for t in (0, 1, 1e9)} == {0.3}


@settings(max_examples=30)
@given(drops=st.lists(st.integers(1, 100), max_size=4), t=st.integers(0, 110), unit=st.integers(1, 128))
def test_step_schedule_counts_alike_in_every_unit(drops, t, unit):
    drops = sorted(drops)
    in_updates = StepSchedule(0.2, drops, factor=0.5)
    in_touches = StepSchedule(0.2, [drop * unit for drop in drops], factor=0.5)
    assert in_updates(t) == in_touches(t * unit) == 0.2 * 0.5 ** sum(drop <= t for drop in drops)


def test_cosine_schedule_falls_from_lr_to_end_along_half_a_cosine():
    schedule = CosineSchedule(0.4, total=12, end=0.1)
    assert_close([schedule(t) for t in (0, 4, 6, 8, 12, 50)], [0.4, 0.325, 0.25, 0.175, 0.1, 0.1], terms(8, 0.4))


def test_warmup_climbs_along_a_line_to_the_schedule_it_warms_up_to():
    inner = CosineSchedule(0.4, total=20)
    schedule = Warmup(inner, length=8, start=0.2)
    assert_close(schedule(0), 0.2 * 0.4, terms(8, 0.4))
    assert_close(schedule(2), 0.4 * inner(2), terms(8, 0.4))
    assert [schedule(t) for t in (8, 13)] == [inner(8), inner(13)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepSchedule(0.0), "StepSchedule: lr must be positive and finite, got 0.0"),
        (lambda: StepSchedule(0.1, factor=-1), "StepSchedule: factor must be positive and finite, got -1"),
        (lambda: StepSchedule(0.1, [5, 3]), r"StepSchedule: drops must ascend, got \[5, 3\]"),
        (lambda: CosineSchedule(math.inf, 3), "CosineSchedule: lr must be positive and finite, got inf"),
        (lambda: CosineSchedule(0.1, 0), "CosineSchedule: total must be positive and finite, got 0"),
        (lambda: CosineSchedule(0.1, 3, end=-1), "CosineSchedule: end must be at least 0 and finite, got -1"),
        (lambda: Warmup(StepSchedule(0.1), 0), "Warmup: length must be positive and finite, got 0"),
        (lambda: Warmup(StepSchedule(0.1), 3, start=2), r"Warmup: start must lie in \[0, 1\], got 2"),
    ],
)
def test_schedules_refuse_what_they_cannot_follow(make, message):
    with pytest.raises(ValueError, match=message):
        make()
