"""Promise 5: a signal lets the update finish and the state be saved; before and after training it ends in one line."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_run import TOTAL, result, tiny_config, tiny_task, train
from train_command import run, start

import minidl
from minidl import starting
from minidl.__main__ import COMMANDS
from minidl.leaving import LeftError, leaving
from minidl.train import StoppedError, Trainer, checkpoint
from minidl.train.__main__ import main
from minidl.train.signals import StopSignal

pytestmark = pytest.mark.usefixtures("no_curves", "foreground")


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


@pytest.mark.parametrize("signum", starting.SIGNALS)
def test_a_signal_that_the_process_ignores_as_a_job_in_the_background_does_stops_nothing(
    tmp_path, uninterrupted, signum
):
    before = signal.signal(signum, signal.SIG_IGN)
    try:
        run_until_signal(tmp_path / "run", 3, signum)
        assert signal.getsignal(signum) is signal.SIG_IGN
    finally:
        signal.signal(signum, before)
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


SLOW = "import os, sys, time\nos.write(1, b'importing\\n')\ntime.sleep(60)\n"


@contextmanager
def python(folder, *arguments, path=""):
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*([path] if path else []), str(Path(minidl.__file__).parents[1])]),
    }
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()  # where it waits still


SCRIPT = "import sys\nfrom minidl.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
WAYS = {  # to start a command
    "its module": lambda name: ["-W", "error", "-m", f"minidl.{name}", "--list"],
    "the package": lambda name: ["-mminidl", name, "--list"],
    "the installed script": lambda name: ["bin/minidl", name, "--list"],
}


STARTS = [
    *(("train", way, signum) for way in WAYS for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)),
    *((command, "its module", signal.SIGTERM) for command in COMMANDS if command != "train"),
]


@pytest.mark.parametrize(("command", "way", "signum"), STARTS)
def test_a_signal_while_modules_are_imported(tmp_path, command, way, signum):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "minidl").write_text(SCRIPT)
    (tmp_path / "numpy.py").write_text(SLOW)
    with python(tmp_path, *WAYS[way](command), path=str(tmp_path)) as process:
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(signum)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + signum
    assert (out, err) == (b"", b"minidl: interrupted before anything had begun\n")


WHILE_PYTHON_ENDS = """
import atexit, os, signal, time
import minidl

def late():
    os.kill(os.getpid(), signal.{name})
    time.sleep(60)

class Net(minidl.Sequential):
    def __init__(self, num_classes, in_channels, norm, rng, dtype):
        super().__init__(minidl.MaxPool2d(16), minidl.Flatten(), minidl.Linear(12, num_classes, rng=rng, dtype=dtype))
        atexit.register(late)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_python_ends_after_the_work_is_one_line_and_its_status(tmp_path, signum):
    (tmp_path / "late_net.py").write_text(WHILE_PYTHON_ENDS.format(name=signum.name))
    words = ["late_net:Net", "mnist", "--sample", "--norm", "none", "--updates", "2", "--quiet", "--out", "R"]
    with python(tmp_path, "-m", "minidl.train", *words, "--backend", "numpy", path=str(tmp_path)) as process:
        _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (128 + signum, b"minidl: interrupted when the work was over already\n")
    assert (tmp_path / "R" / "summary.json").exists()


def test_every_command_is_known_while_it_starts():
    assert set(starting.COMMANDS) == set(COMMANDS)


NUMBA = """
import ctypes, os, signal, time

@ctypes.CFUNCTYPE(None)
def callback():
    os.kill(os.getpid(), signal.{name})
    for _ in range(1000):
        pass

callback()  # what the signal raises in there, Python prints and drops
time.sleep(600)  # longer than the test waits: the signal alone ends it
"""
WITH_NUMBA = {
    "train": ["lenet", "mnist", "--sample", "--backend", "numba", "--out", "R"],
    "reproduce": ["table1", "--sample", "--backend", "numba"],
    "bench": ["--backend", "numba", "--only", "steps"],
    "parity": ["--backend", "numba"],
}


@pytest.mark.parametrize(
    ("command", "name"), [*((each, "SIGINT") for each in WITH_NUMBA), ("train", "SIGTERM"), ("train", "SIGHUP")]
)
def test_a_signal_within_a_callback_of_a_library_that_is_loaded(tmp_path, command, name):
    (tmp_path / "numba.py").write_text(NUMBA.format(name=name))
    with python(tmp_path, "-m", f"minidl.{command}", *WITH_NUMBA[command], path=str(tmp_path)) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + getattr(signal, name)
    assert (out, err.count(b"\n")) == (b"", 1), err
    assert err.startswith(f"minidl.{command}: ".encode())
    assert not (tmp_path / "R").exists()


def lose(signum):
    """Let a signal come where its exception is dropped."""
    ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signum))()


@pytest.mark.parametrize(("signum", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, LeftError)])
def test_a_signal_whose_exception_was_lost_is_remembered(capsys, signum, error):
    before = signal.getsignal(signum), sys.unraisablehook
    reached = []
    with pytest.raises(error), leaving():
        reached.append(lose(signum))
    assert len(reached) == 1
    assert (signal.getsignal(signum), sys.unraisablehook) == before
    assert capsys.readouterr().err == ""
    with leaving():  # and the next command begins without
        pass


def test_a_signal_that_was_lost_before_training_stops_it_before_its_first_update(tmp_path, uninterrupted):
    trainer = Trainer(tiny_config(), tmp_path / "run", quiet=True, task=tiny_task())
    said = r"stopped after update 0 of 14, before .*run had a checkpoint; --resume starts it"
    with pytest.raises(StoppedError, match=said), leaving():
        trainer.run(until=lose(signal.SIGTERM))
    train(tmp_path / "run", resume=True)
    assert result(tmp_path / "run") == uninterrupted


def test_a_program_that_imports_minidl_keeps_its_interrupts(tmp_path):
    (tmp_path / "tool.py").write_text(
        "import signal, minidl\nassert signal.getsignal(signal.SIGINT) is signal.default_int_handler\nprint('kept')\n"
    )
    with python(tmp_path, "-m", "tool") as process:
        out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (0, b"kept\n", b"")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_while_the_data_is_read(tmp_path, monkeypatch, capsys, signum):
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signum)

    def slow(*args, **kwargs):
        signal.raise_signal(signum)
        raise AssertionError("the signal did not end it")

    monkeypatch.setattr("minidl.train.build.load_task", slow)
    assert main(["lenet", "mnist", "--sample", "--updates", "1", "--quiet", "--out", "R"]) == 128 + signum
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "at once; what was saved before is whole" in err
    assert not (tmp_path / "R").exists()
    assert signal.getsignal(signum) is before


def test_signals_that_somebody_handles_or_ignores_stay_with_them(monkeypatch):
    seen = []
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGTERM, lambda *args: seen.append("mine"))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with leaving():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
        assert seen == ["mine"]
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def test_outside_the_main_thread_nothing_is_changed():
    seen = []

    def inside():
        with leaving():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_what_ends_it_passes_by_those_who_catch_every_exception():
    assert not issubclass(LeftError, Exception)


LONGER = [
    *("lenet", "mnist", "--sample", "--updates", "150", "--batch-size", "8", "--eval-every", "60", "--norm", "bn"),
    *("--backend", "numpy"),  # the command is run by a fixture too, before a test has chosen the backend
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted command gives."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder, *LONGER, "--threads", "1", "--out", "run")[0] == 0
    return result(folder / "run")


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_resumed_gives_the_bytes_of_the_uninterrupted_one(tmp_path, whole, signum, status):
    process = start(tmp_path, *LONGER, "--threads", "1", "--out", "cut", "--checkpoint-every", "2")
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("cut/checkpoints/step*")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signum)
    _, err = process.communicate(timeout=300)
    assert process.returncode == status
    assert "saved in cut; --resume goes on from there" in err
    assert len(err.splitlines()) == 1
    code, out, err = run(tmp_path, "--out", "cut", "--resume", "--threads", "1")
    assert (code, err) == (0, "")
    assert "resuming cut after update" in out
    assert result(tmp_path / "cut") == whole
