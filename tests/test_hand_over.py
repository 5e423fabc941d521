"""A thread rests until the other one lets the GIL go, and a job is shared where that is faster than to keep it."""

import threading

import numpy as np
import pytest
from test_parallel import NORMS, lenet_step

from minidl import hand_over, parallel, threads
from minidl.hand_over import Gain, Sign

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


def take(gain, seconds, times):
    """Return the share of jobs that were shared, where a job takes seconds[alone or shared]."""
    shared = []
    for _ in range(times):
        shared.append(gain.pays())
        gain.saw(shared[-1], seconds[shared[-1]])
    return np.mean(shared)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_what_is_faster_on_one_thread_stays_there_and_comes_back_when_that_has_changed(noise):
    rng, gain = np.random.default_rng(3), Gain()

    class Seconds:
        def __init__(self, alone, shared):
            self.of = alone, shared

        def __getitem__(self, shared):
            return self.of[shared] * (1 + noise * rng.exponential())

    take(gain, Seconds(80e-6, 60e-6), 200)
    assert take(gain, Seconds(80e-6, 60e-6), 2000) > 0.9
    take(gain, Seconds(80e-6, 130e-6), 200)
    assert take(gain, Seconds(80e-6, 130e-6), 2000) < 0.1
    take(gain, Seconds(80e-6, 50e-6), 200)
    assert take(gain, Seconds(80e-6, 50e-6), 2000) > 0.9


def test_one_slow_job_turns_nothing():
    gain = Gain()
    take(gain, (80e-6, 60e-6), 500)
    gain.saw(True, 1.0)
    assert take(gain, (80e-6, 60e-6), 60) > 0.95


def test_the_first_call_which_compiles_does_not_count_for_long():
    gain = Gain()
    gain.saw(gain.pays(), 2.0)
    assert take(gain, (80e-6, 60e-6), 300) > 0.9


def test_a_long_job_is_shared_without_a_trial_alone():
    assert take(Gain(), (2e-3, 1e-3), 500) == 1


class Always(Gain):
    """Says what it is told, and remembers what was seen."""

    def __init__(self, *answers):
        super().__init__()
        self.answers, self.seen = list(answers), []

    def pays(self):
        return self.answers.pop(0)

    def saw(self, shared, seconds):
        self.seen.append(shared)
        assert seconds >= 0


def test_a_job_that_does_not_pay_runs_on_this_thread_and_one_that_does_on_two():
    gain, barrier = Always(False, True), threading.Barrier(2, timeout=300)
    here = []
    with threads(2):
        parallel.run(lambda i: here.append(threading.get_ident()), 2, gain=gain)
        parallel.run(lambda i: barrier.wait(), 2, gain=gain)  # returns only if two are under way together
    assert here == [threading.get_ident()] * 2
    assert gain.seen == [False, True]


def test_on_one_thread_nothing_is_asked():
    gain = Always()
    with threads(1):
        parallel.run(lambda i: None, 3, gain=gain)
    assert gain.seen == []


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_gives_the_same_bits_whether_its_jobs_are_shared_or_not(norm, monkeypatch):
    pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")
    from minidl import use_backend

    steps = {}
    for answer in (True, False):
        monkeypatch.setattr(Gain, "pays", lambda self, answer=answer: answer)
        with use_backend("numba"), threads(2):
            steps[answer] = lenet_step(norm, batch=128, steps=2)
    for name, want in steps[True].items():
        np.testing.assert_array_equal(steps[False][name], want, err_msg=name)
