"""Promise 24: what a killed command left half-written is removed by the next that writes there, and nothing else."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import minidl
from minidl import half_written
from minidl.export.__main__ import main as export
from minidl.half_written import beside, put_aside, sweep, token
from minidl.train.__main__ import main as train
from minidl.writing import complete, write_atomic, write_together

RUN = ["lenet", "mnist", "--sample", "--norm", "none", "--batch-size", "8", "--threads", "1", "--backend", "numpy"]
SHORT = [*RUN, "--updates", "2", "--eval-every", "2", "--quiet"]
COMMANDS = {
    "onnx": ("export", ["R", "--onnx", "E/net.onnx"]),
    "safetensors": ("export", ["R", "--safetensors", "E/net.safetensors"]),
    "torch": ("export", ["R", "--torch", "E/net.pt"]),
    "evaluate": ("evaluate", ["R", "--out", "E", "--quiet"]),
    "reproduce": ("reproduce", ["overhead", "--out", "E"]),
}

# Runs a command that is killed, or waits for a line, where it has written and renames first.
STOPPED = """
import importlib, os, signal, sys
from minidl.bench.timing import QUICK
from minidl.reproduce import overhead
overhead.measure = lambda plan: []
how, name, *words = sys.argv[1:]

calls = {"replace": os.replace, "link": os.link}

def at(name):
    def instead(*args, **keywords):
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        print("waits", flush=True)
        sys.stdin.readline()
        vars(os).update(calls)
        calls[name](*args, **keywords)
    return instead

for each in calls:
    setattr(os, each, at(each))
sys.exit(importlib.import_module(f"minidl.{name}.__main__").main(words))
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot tell whether a process is there")


def start(folder, how, name, words):
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1]), "MINIDL_BACKEND": "numpy"}
    code = [sys.executable, "-c", STOPPED, how, name, *words]
    return subprocess.Popen(code, cwd=folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert train([*SHORT, "--out", str(folder / "R")]) == 0
    return folder


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    (tmp_path / "E").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minidl.reproduce.overhead.measure", lambda plan: [])
    return tmp_path / "E"


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.mark.parametrize("what", COMMANDS)
def test_what_a_killed_command_left_goes_at_its_next_run_and_what_a_live_one_writes_stays(place, what):
    import importlib

    if what == "onnx":
        pytest.importorskip("onnx", reason="the file's format: pip install 'minidl[onnx]'")
    name, words = COMMANDS[what]
    again = importlib.import_module(f"minidl.{name}.__main__").main
    with start(place.parent, "killed", name, words) as killed:
        assert killed.wait() == -signal.SIGKILL
    left = hidden(place)
    assert left
    with start(place.parent, "waiting", name, words) as waiting:
        assert waiting.stdout.readline() == "waits\n"
        at_work = [each for each in hidden(place) if each not in left]
        assert at_work
        assert hidden(place) == at_work, "the second run removes what the first left"
        assert again(words) == 0
        assert hidden(place) == at_work
        waiting.communicate("\n")
    assert waiting.returncode == 0
    assert hidden(place) == []


def a_token(process, machine=None):
    return f"{machine or half_written._machine()}{process:08x}0123abcd"


def ended():
    """Return the number of a process that was there and is not any more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_what_is_of_no_such_process_stays(tmp_path):
    gone = a_token(ended())
    names = [".a.tmp", ".a.mine.tmp", f".b.{gone}.tmp", f"a.{gone}.tmp", f".a.{gone}", f".a.{gone}x.tmp"]
    names += [f".a.{gone[:-1]}.tmp", f".a.{gone.upper()}.tmp", f".a.{gone}.older.tmp", f".a.b.{gone}.tmp"]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / f".a.{gone}.tmp").mkdir()
    (tmp_path / f".a.{gone}.tmp" / "mine").touch()
    before = sorted(tmp_path.rglob("*"))
    write_atomic(tmp_path / "a", b"1")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "a"])


@pytest.mark.parametrize("write", [write_atomic, lambda path, data: write_together({path: data})])
def test_a_link_is_removed_and_not_followed(tmp_path, write):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    left = [beside(tmp_path / "a", a_token(ended())), put_aside(tmp_path / "a", a_token(ended()))]
    left[0].symlink_to("mine")
    left[1].symlink_to("folder")
    write(tmp_path / "a", b"1")
    assert hidden(tmp_path) == []
    assert (tmp_path / "mine").read_text("utf-8") == (tmp_path / "folder" / "mine").read_text("utf-8") == "mine"


@pytest.mark.parametrize("of", ["another machine", "an earlier version"])
def test_what_may_be_written_on_another_machine_stays_for_a_week(tmp_path, of):
    mark = a_token(ended(), "0" * 8) if of == "another machine" else "0123abcd"
    left = beside(tmp_path / "a", mark)
    left.write_text("half")
    write_atomic(tmp_path / "a", b"1")
    assert left.exists()
    for days, stays in ((6.9, True), (-1, True), (7.1, False)):
        then = time.time() - days * 86400
        os.utime(left, (then, then))
        write_atomic(tmp_path / "a", b"1")
        assert left.exists() == stays
    target = tmp_path / "target"  # whose age is not that of a link to it
    target.touch()
    os.utime(target, (0, 0))
    left.symlink_to("target")
    write_atomic(tmp_path / "a", b"1")
    assert left.is_symlink()


def test_what_this_process_writes_stays_and_what_another_of_its_number_left_goes(tmp_path):
    left = beside(tmp_path / "a", a_token(os.getpid()))  # as in a container, where each command is process 1
    left.write_text("half")
    with token() as mine:
        beside(tmp_path / "a", mine).write_text("half")
        sweep(tmp_path, ["a"])
        assert hidden(tmp_path) == [beside(tmp_path / "a", mine).name]
    sweep(tmp_path, ["a"])
    assert hidden(tmp_path) == []


def test_what_another_users_process_writes_stays(tmp_path, monkeypatch):
    def refused(process, signum):
        raise PermissionError(1, "Operation not permitted")

    left = beside(tmp_path / "a", a_token(ended()))
    left.write_text("half")
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", refused)
        sweep(tmp_path, ["a"])
    assert left.exists()
    sweep(tmp_path, ["a"])
    assert not left.exists()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_a_process_that_ended_and_that_nobody_asked_for_is_gone(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    process.stdout.read()
    while b") Z " not in Path(f"/proc/{process.pid}/stat").read_bytes():
        time.sleep(0.01)
    left = beside(tmp_path / "a", a_token(process.pid))
    left.write_text("half")
    sweep(tmp_path, ["a"])
    assert not left.exists()
    process.stdout.close()
    process.wait()


def test_a_file_that_may_not_be_removed_costs_no_output(tmp_path, monkeypatch):
    left = beside(tmp_path / "a", a_token(ended()))
    left.write_text("half")
    unlink = Path.unlink

    def refused(path, missing_ok=False):
        if path == left:
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    write_atomic(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_set_that_waits_to_be_completed_does_not_take_the_place_of_what_is_written_now(tmp_path, trained):
    code = "import os, signal, sys; from pathlib import Path; from minidl import writing\n"
    code += "writing.os.replace = lambda *given: os.kill(os.getpid(), signal.SIGKILL)\n"
    code += "writing.write_together({Path(sys.argv[1], name): b'1' for name in ('n.safetensors', 'b')})\n"
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=env, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert len(hidden(tmp_path)) == 2
    assert export([str(trained / "R"), "--safetensors", str(tmp_path / "n.safetensors")]) == 0
    assert hidden(tmp_path) == []
    complete(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "n.safetensors"]
    assert (tmp_path / "n.safetensors").read_bytes() != (tmp_path / "b").read_bytes() == b"1"


@pytest.mark.parametrize("proc", [True, False], ids=["as it is", "without /proc"])
def test_processes_of_one_machine_know_each_other_where_each_draws_a_network_address_by_lot(proc, monkeypatch):
    def refused(*arguments, **options):
        raise FileNotFoundError

    if not proc:
        monkeypatch.setattr(Path, "read_text", refused)
        monkeypatch.setattr(os, "readlink", refused)
    found = set()
    for address in (0x01_00_00_00_00_01, 0x8F_00_12_34_56_78):  # of the kind that no network card has
        monkeypatch.setattr(half_written.uuid, "getnode", lambda address=address: address)
        found.add(half_written._machine.__wrapped__())
    assert len(found) == 1
