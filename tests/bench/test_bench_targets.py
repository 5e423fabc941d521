"""The targets of a CPU: each measured beside what it should be, and the Markdown that documentation takes."""

import contextlib
import queue
import threading
import types
import weakref

import numpy as np
import pytest

from minidl.bench import __main__ as command
from minidl.bench import cores, record, table, targets


def test_a_goal_is_a_least_or_a_most():
    least, most = targets.Goal(2.0, 3.0), targets.Goal(1.05, 1.02, most=True)
    assert [least.verdict(ratio)["met"] for ratio in (1.9, 2.0, 2.1)] == [False, True, True]
    assert [most.verdict(ratio)["met"] for ratio in (1.0, 1.05, 1.1)] == [True, True, False]
    assert (least.verdict(2.0)["target"], most.verdict(1.0)["target"]) == ("at least 2", "at most 1.05")


def test_targets_are_measured_for_the_norms_and_batches_asked_for(tmp_path, capsys):
    file = tmp_path / "bench.json"
    choice = ["--only", "targets", "--norms", "bn,mn16", "--batch", "4,16", "--quick", "--threads", "1"]
    assert command.main([*choice, "--json", str(file)]) == 0
    rows = record.load(file)[1:]
    assert [(row["what"], row["norm"], row["batch"]) for row in rows] == [
        ("lenet step", "bn", 4),
        ("lenet step", "bn", 16),
    ]
    assert all("met" not in row for row in rows)  # without PyTorch there is no ratio to judge


def test_on_several_threads_each_target_says_how_near_the_cores_were_before_and_after(tmp_path, capsys, monkeypatch):
    times = iter([57.0, 262.0, None])
    monkeypatch.setattr(cores, "exchange_ns", lambda: next(times))
    file = tmp_path / "bench.json"
    choice = ["--only", "targets", "--norms", "bn", "--batch", "4,16", "--quick", "--threads", "2"]
    assert command.main([*choice, "--json", str(file)]) == 0
    assert [row["core_to_core_ns"] for row in record.load(file)[1:]] == [[57.0, 262.0], [262.0, None]]
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("lenet step")]
    assert [line.partition("core to core ")[2] for line in shown] == ["57 and 262 ns", "262 ns"]
    assert not any(";" in line for line in shown)  # no ratio, nothing before it to part it from


@pytest.mark.parametrize(
    ("ahead", "seen", "met", "wrote"), [(True, 2, True, 2), (True, 1, False, 2), (False, 1, False, 1)]
)
def test_a_thread_writes_in_turn_what_it_saw_of_the_other_and_gives_up_where_nothing_comes(ahead, seen, met, wrote):
    pytest.importorskip("numba", reason="numbers are exchanged in compiled code: pip install 'minidl[fast]'")
    board = np.zeros(64, np.int64)
    board[16] = seen
    assert cores._compiled()(board.ctypes.data, 0, 16, ahead, 2) is met
    assert board[0] == wrote


def test_one_processor_exchanges_nothing_and_a_thread_that_nobody_answers_gives_up(monkeypatch):
    monkeypatch.setattr(cores, "available_threads", lambda: 1)
    assert cores.exchange_ns() is None
    monkeypatch.setattr(cores, "available_threads", lambda: 2)
    monkeypatch.setattr(cores, "_compiled", lambda: lambda *arguments: False)
    assert cores.exchange_ns() is None


def test_after_an_interrupt_the_other_thread_still_has_the_memory_it_writes_to(monkeypatch):
    made, interrupted, found = [], threading.Event(), queue.SimpleQueue()

    def zeros(shape, dtype):
        made.append(weakref.ref(array := np.zeros(shape, dtype)))
        return array

    def take_turns(address, own, other, ahead, times):
        if ahead:
            raise KeyboardInterrupt
        interrupted.wait(300)
        found.put(made[0]() is not None)

    monkeypatch.setattr(cores, "np", types.SimpleNamespace(zeros=zeros, int64=np.int64))
    with contextlib.suppress(KeyboardInterrupt):
        cores._once(take_turns)
    interrupted.set()
    assert [found.get(timeout=300), found.get(timeout=300)] == [True, True]


def test_a_run_without_a_choice_leaves_the_targets_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "MEASURE", {name: lambda settings: iter(()) for name in command.MEASURE})
    monkeypatch.setitem(command.MEASURE, "targets", lambda settings: iter([record.record("targets", "x")]))
    for choice, found in (([], 0), (["--only", "targets"], 1)):
        file = tmp_path / "bench.json"
        assert command.main([*choice, "--quick", "--json", str(file)]) == 0
        assert len(record.load(file)) == 1 + found


def test_markdown_has_a_table_a_section_with_the_target_and_its_verdict():
    about = record.header(["--markdown"], False, threads=2, rounds=7)
    row = record.record("targets", "lenet step", record.Norm("mn", 2), 128, 2)
    row |= {"minidl_ms": 1.5, "torch_ms": 6.0, "ratio": 4.0, "ratio_low": 3.9, "ratio_high": 4.2}
    row |= {"ratio_is": record.OURS_TO_TORCH} | targets.Goal(3.5, 5.0).verdict(4.0)
    lines = "\n".join(table.markdown([about, row])).splitlines()
    assert "`python -m minidl.bench --markdown`, 2 threads" in lines[2]
    ratio = "**4.00** (3.90–4.20) | PyTorch / minidl"
    assert lines[-1] == f"| lenet step | MN K=2 | 128 | 1.500 | 6.000 | {ratio} | at least 3.5 | 5 | met |"
    assert {line.count("|") for line in lines[-3:]} == {11}
