"""A thread that sees a change rests until the other one lets the GIL go."""

import errno
import os

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


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no thread to a processor")
def test_a_thread_stays_where_it_is_where_the_system_forbids_to_choose_a_processor(monkeypatch):
    def forbid(process, processors):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setattr(os, "sched_setaffinity", forbid)
    hand_over.go_elsewhere(0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no thread to a processor")
@pytest.mark.parametrize(("chosen", "left"), [(None, {0, 1, 2}), ({2}, {2})], ids=["by nobody", "by somebody"])
def test_what_processors_are_chosen_for_a_thread_while_it_goes_elsewhere_are_left_to_it(monkeypatch, chosen, left):
    now, sets = {0, 1, 2}, []

    def choose(process, processors):
        nonlocal now
        sets.append(processors)
        now = chosen if chosen and len(sets) == 1 else processors  # as taskset does just then

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: now)
    monkeypatch.setattr(os, "sched_setaffinity", choose)
    hand_over.go_elsewhere(1)
    assert sets[0] == {0, 2}
    assert now == left
