"""SIGINT and SIGTERM: the update is finished, the state saved, and the resumed run is the uninterrupted one."""

import os
import signal
import threading

import pytest
from tiny_run import TOTAL, result, tiny_config, tiny_task, train

from minidl.train import StoppedError, Trainer, checkpoint
from minidl.train.signals import StopSignal

pytestmark = pytest.mark.usefixtures("no_curves")


def run_until_signal(out, forward_calls, *signums):
    """Run the tiny configuration and send signals from within the model's n-th forward."""
    trainer = Trainer(tiny_config(), out, quiet=True, task=tiny_task())
    forward, calls = trainer.model.forward, []

    def interrupting(x):
        calls.append(trainer.model.training)
        if len(calls) == forward_calls:
            for signum in signums:
                signal.raise_signal(signum)
        return forward(x)

    trainer.model.forward = interrupting
    trainer.run()


# 14 updates and, after updates 5, 10 and 14, one forward each of the evaluation: the 6th, 12th and 17th
@pytest.mark.parametrize(("forward_calls", "step"), [(1, 1), (4, 4), (5, 5), (6, 5), (7, 6), (11, 10), (16, 14)])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_resumed_is_the_uninterrupted_run(tmp_path, uninterrupted, signum, forward_calls, step):
    before = signal.getsignal(signum)
    with pytest.raises(StoppedError, match=f"stopped after update {step} of {TOTAL}, saved in .*; --resume goes on"):
        run_until_signal(tmp_path / "run", forward_calls, signum)
    assert signal.getsignal(signum) is before
    _, meta = checkpoint.load_latest(tmp_path / "run" / "checkpoints", print)
    assert meta["step"] == step
    train(tmp_path / "run", resume=True)
    assert result(tmp_path / "run") == uninterrupted


def test_the_error_carries_the_signal(tmp_path):
    with pytest.raises(StoppedError) as stopped:
        run_until_signal(tmp_path / "run", 3, signal.SIGTERM)
    assert stopped.value.signum == signal.SIGTERM


def test_a_signal_after_the_last_evaluation_lets_the_run_finish(tmp_path, uninterrupted):
    trainer = Trainer(tiny_config(), tmp_path / "run", quiet=True, task=tiny_task())
    last = {TOTAL: lambda: signal.raise_signal(signal.SIGINT)}
    summary = trainer.run(on_evaluation=lambda line: last.get(line["step"], lambda: None)())
    assert summary["status"] == "finished"
    assert result(tmp_path / "run") == uninterrupted


def test_a_second_sigint_leaves_at_once_and_what_was_saved_stays_whole(tmp_path, uninterrupted):
    with pytest.raises(KeyboardInterrupt):
        run_until_signal(tmp_path / "run", 8, signal.SIGINT, signal.SIGINT)
    _, meta = checkpoint.load_latest(tmp_path / "run" / "checkpoints", print)
    assert meta["step"] == 4
    train(tmp_path / "run", resume=True)
    assert result(tmp_path / "run") == uninterrupted


def test_a_signal_during_a_save_does_not_hurt_the_checkpoint(tmp_path, uninterrupted, monkeypatch):
    replace = os.replace

    def interrupting(source, target):
        if "000000004" in str(target):
            signal.raise_signal(signal.SIGINT)
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupting)
    with pytest.raises(StoppedError, match="stopped after update 4"):
        train(tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setattr("minidl.train.plots.draw_run", lambda *args: None)
    train(tmp_path / "run", resume=True)
    assert result(tmp_path / "run") == uninterrupted


def test_outside_the_main_thread_training_runs_without_handlers(tmp_path, uninterrupted):
    thread = threading.Thread(target=train, args=(tmp_path / "run",))
    thread.start()
    thread.join()
    assert result(tmp_path / "run") == uninterrupted


def test_handlers_from_before_are_restored():
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    with StopSignal() as stop:
        assert signal.getsignal(signal.SIGTERM) not in before
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before
