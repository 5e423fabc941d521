"""Promise 5: a signal before training, or after it, ends a command with one line and the signal's status."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import minidl
from minidl.train.__main__ import main
from minidl.train.signals import LeftError, leaving

# Stands in for NumPy, so that a signal can come while minidl is being imported.
SLOW = "import os, sys, time\nos.write(1, b'importing\\n')\ntime.sleep(60)\n"


def start(folder, *arguments, path=""):
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*([path] if path else []), str(Path(minidl.__file__).parents[1])]),
    }
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("command", ["minidl.train", "minidl.reproduce", "minidl.parity", "minidl.bench"])
def test_an_interrupt_while_modules_are_imported(tmp_path, command):
    (tmp_path / "numpy.py").write_text(SLOW)
    with start(tmp_path, "-m", command, "--list", path=str(tmp_path)) as process:
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err) == (b"", b"minidl: interrupted before anything had begun\n")


def test_a_program_that_imports_minidl_keeps_its_interrupts(tmp_path):
    (tmp_path / "tool.py").write_text(
        "import signal, minidl\nassert signal.getsignal(signal.SIGINT) is signal.default_int_handler\nprint('kept')\n"
    )
    with start(tmp_path, "-m", "tool") as process:
        out, err = process.communicate(timeout=60)
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
