"""A compiled pass that gives itself out: each piece once, nobody waited for in vain, the same bits as on one thread."""

import os
import threading

import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")

from engines.helped import helpers
from engines.test_engines import PROGRAMS, computing
from minidl import hand_over, parallel, threads
from minidl.engines.numba import jobs, share, waiting
from minidl.engines.numba.atomic import load, rest, store
from minidl.engines.numba.jobs import BOARD, shared

WORD, DONE, TAKEN = jobs._WORD, jobs._DONE, jobs._TAKEN


@shared
def count(times, by, start, stop, thread):
    """Count what is done, and note who did it."""
    for i in range(start, stop):
        times[i] += 1
        by[i] = thread


@shared
def meet(flags, by, start, stop, thread):
    """Do piece `start`; the first waits until the last has begun, which another thread has to do."""
    by[start] = thread
    if start == 0:
        while load(flags.ctypes.data, 0) == 0:
            rest()
    elif stop == len(by):
        store(flags.ctypes.data, 0, 1)


@shared
def greedy(flags, bad, start, stop, thread):
    """Ask for more memory than there is, in one piece."""
    meet_first = start == 0 and bad != 0
    while meet_first and load(flags.ctypes.data, 0) == 0:
        rest()
    if stop == 4:
        store(flags.ctypes.data, 0, 1)
    if start == bad:
        flags[1] = np.empty(1 << 58)[0]


def new_board() -> np.ndarray:
    """Return a board of this test's own."""
    memory = np.zeros(128, np.int64)
    board = memory[-memory.ctypes.data % 64 // 8 :][:64]
    jobs.write_code(board)
    return board


@pytest.mark.parametrize("n", [1, 2, 3])
def test_each_piece_is_done_once_by_one_of_the_threads(n):
    with helpers(n):
        for length in (1, 2, 3, 7, 40, 1001):
            for pieces in (1, 2, 3, 4, 7, 40):
                times, by = np.zeros(length, np.int64), np.full(length, -1)
                for _ in range(25):
                    count(times, by, pieces, length, hand_over.BOARD | n)
                assert (times == 25).all()
                assert set(by) <= set(range(n + 1))


def test_the_giver_and_a_helper_work_at_the_same_time_the_first_piece_is_the_givers_and_the_last_a_helpers():
    with helpers(1):
        for _ in range(50):
            by = np.full(3, -1)
            meet(np.zeros(1, np.int64), by, 3, 3, hand_over.BOARD | 1)  # returns only if two are under way together
            assert by[0] == 0
            assert by[2] == 1


def test_where_nobody_helps_the_giver_does_it_all():
    board, times, by = new_board(), np.zeros(7, np.int64), np.full(7, -1)
    count(times, by, 3, 7, board.ctypes.data | 5)
    assert (times == 1).all()
    assert (by == 0).all()


def test_a_helper_takes_no_piece_of_a_job_for_fewer_helpers():
    board, over = new_board(), threading.Event()

    def wait():
        while not over.is_set():
            waiting.until_changed(board.ctypes.data, 0, 0, 0, 3)

    thread = threading.Thread(target=wait)
    thread.start()
    for _ in range(200):
        times, by = np.zeros(40, np.int64), np.full(40, -1)
        count(times, by, 40, 40, board.ctypes.data | 2)
        assert (by == 0).all()
    over.set()
    thread.join(300)


def test_a_number_is_one_threads_the_second_of_the_same_number_helps_nobody():
    board, over = new_board(), threading.Event()

    def wait():
        while not over.is_set():
            waiting.until_changed(board.ctypes.data, 0, 0, 0, 1)

    those = [threading.Thread(target=wait) for _ in range(2)]
    board[hand_over.AWAKE] = 2  # a first one, which never leaves
    for one in those:
        one.start()
    for _ in range(200):
        times, by = np.zeros(40, np.int64), np.full(40, -1)
        count(times, by, 40, 40, board.ctypes.data | 1)
        assert (by == 0).all()
    over.set()
    for one in those:
        one.join(300)
    assert board[hand_over.AWAKE] == 2


def test_a_second_giver_does_its_pieces_itself():
    board = new_board()
    board[TAKEN] = 1
    before = board.copy()
    times, by = np.zeros(7, np.int64), np.full(7, -1)
    count(times, by, 3, 7, board.ctypes.data | 1)
    assert (times == 1).all()
    np.testing.assert_array_equal(board, before)


def test_many_givers_at_once_get_their_own_results():
    wrong = []

    def give():
        for length in (1, 3, 40, 1001) * 50:
            times, by = np.zeros(length, np.int64), np.full(length, -1)
            count(times, by, 5, length, hand_over.BOARD | 2)
            if not (times == 1).all():
                wrong.append(length)

    with helpers(2):
        givers = [threading.Thread(target=give) for _ in range(4)]
        for one in givers:
            one.start()
        for one in givers:
            one.join(300)
    assert not wrong


@pytest.mark.parametrize("bad", [0, 3])
def test_memory_that_a_piece_lacks_is_an_error_of_the_giver_whoever_did_the_piece_and_the_next_job_runs(bad):
    with helpers(1):
        for _ in range(20):
            with pytest.raises(MemoryError, match="no memory for what a compiled pass works with"):
                greedy(np.zeros(2, np.int64), bad, 4, 4, hand_over.BOARD | 1)
            assert hand_over.board[TAKEN] == 0
            times, by = np.zeros(7, np.int64), np.full(7, -1)
            count(times, by, 3, 7, hand_over.BOARD | 1)
            assert (times == 1).all()


def test_memory_that_a_pass_on_one_thread_lacks_is_an_error():
    with pytest.raises(MemoryError):
        greedy(np.zeros(2, np.int64), 1, 1, 2, 0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no thread to a processor")
def test_a_helper_that_worked_on_the_givers_processor_is_told():
    board, told, allowed = new_board(), threading.Event(), os.sched_getaffinity(0)
    one = {min(allowed)}

    def wait():
        os.sched_setaffinity(0, one)
        while not told.is_set():
            if waiting.until_changed(board.ctypes.data, 0, 0, 0, 1):
                told.set()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        os.sched_setaffinity(0, one)
        times, by = np.zeros(4000, np.int64), np.zeros(4000, np.int64)
        while not told.is_set():
            count(times, by, 4000, 4000, board.ctypes.data | 1)
    finally:
        os.sched_setaffinity(0, allowed)
        told.set()  # where an exception came
        thread.join(300)
    assert (times == times[0]).all()


def test_a_forked_child_begins_with_an_empty_board(monkeypatch):
    board = np.arange(64)
    monkeypatch.setattr(hand_over, "board", board)
    monkeypatch.setattr(parallel, "_started", parallel._started)
    monkeypatch.setattr(parallel, "_jobs", parallel._jobs)
    parallel._after_fork()
    assert not board[: hand_over.CODE].any()
    assert (board[hand_over.CODE :] == np.arange(hand_over.CODE, 64)).all()  # code is where it was


def test_llvm_is_asked_for_the_code_under_the_lock_that_a_fork_waits_for(monkeypatch):
    from numba.core.codegen import JITCodeLibrary
    from numba.core.compiler_lock import global_compiler_lock

    locked, ask = [], JITCodeLibrary.get_pointer_to_function

    def asked(self, name):
        locked.append(global_compiler_lock.is_locked())
        return ask(self, name)

    monkeypatch.setattr(JITCodeLibrary, "get_pointer_to_function", asked)
    new_board()
    assert locked
    assert all(locked)


# -- whether to share --------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch):
    """How the kernel `note` was called, and how often threads were woken, where there are two threads."""
    seen = []
    monkeypatch.setattr(parallel, "wake", lambda helpers: seen.append(("wake", helpers)))
    with threads(2):
        yield seen


def note(seen, start, stop, thread):
    seen.append((start, stop, thread))


@pytest.mark.parametrize(
    ("work", "awake", "expected"),
    [
        (share._WORTH - 1, True, [(0, 9, 0)]),
        (share._WORTH, True, [(2, 9, hand_over.BOARD | 1)]),
        (share._WORTH, False, [("wake", 1), (0, 4, 0), (4, 9, 0)]),
        (share._WORTH_WAKING, True, [(2, 9, hand_over.BOARD | 1)]),
        (share._WORTH_WAKING, False, [(0, 4, 0), (4, 9, 0)]),
    ],
)
def test_a_pass_is_given_out_where_that_is_worth_it(work, awake, expected, calls, monkeypatch):
    monkeypatch.setattr(hand_over, "helps", lambda helpers: awake)
    share.share(9, work, note, calls)
    assert sorted(calls, key=str) == sorted(expected, key=str)


def test_on_one_thread_a_pass_is_never_given_out(calls, monkeypatch):
    monkeypatch.setattr(hand_over, "helps", lambda helpers: True)
    with threads(1):
        share.share(9, share._WORTH_WAKING, note, calls)
    assert calls == [(0, 9, 0)]


def test_more_pieces_than_the_word_counts_are_done_all_the_same(monkeypatch):
    seen = []
    monkeypatch.setattr(hand_over, "helps", lambda helpers: True)
    with threads(2):
        share.share_pieces(jobs.MOST_PIECES + 1, jobs.MOST_PIECES + 1, True, None, note, seen)
    assert sorted(seen) == [(i, i + 1, 0) for i in range(jobs.MOST_PIECES + 1)]


def test_threads_have_lesser_numbers_than_the_board_an_address():
    assert jobs.MOST_HELPERS < 64 <= BOARD <= hand_over.BOARD
    assert hand_over.BOARD % 64 == 0


# -- the passes themselves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gives_the_same_bits_whoever_does_the_pieces(name, dtype):
    with computing("numba"):
        with threads(1):
            want = PROGRAMS[name](dtype, dtype)
        for n in (1, 2):
            with helpers(n):
                got = PROGRAMS[name](dtype, dtype)
            for key in want:
                np.testing.assert_array_equal(got[key], want[key], err_msg=key)
