"""A thread that sees a change rests until the other one lets the GIL go."""

import numpy as np
import pytest

from minidl import hand_over
from minidl.hand_over import Sign

SLEPT = 25_000  # ns that a thread waits when it is put to sleep


@pytest.mark.parametrize("needed", [600, 3000, 5500, 7000])
def test_a_rest_becomes_as_long_as_the_other_thread_keeps_the_gil_and_few_are_too_short(needed):
    sign, short = Sign(0, 4000), []
    for _ in range(3000):
        short.append(sign.rest < needed)
        sign.learn(int(sign.rest) + (SLEPT if short[-1] else 300))
    assert np.mean(short[1000:]) < 0.05
    assert needed / 1.3 < sign.rest < 1.3 * needed


def test_a_rest_has_a_bound_however_long_the_gil_is_kept():
    sign = Sign(0, 4000)
    for _ in range(100):
        sign.learn(int(sign.rest) + SLEPT)
    assert sign.rest == hand_over._MOST
