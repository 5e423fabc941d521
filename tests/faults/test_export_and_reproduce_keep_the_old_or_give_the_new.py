"""Promise 20: a disk that fails at any write, sync or rename leaves `export` and `reproduce` the old files or the new.

Whatever fails is one line with a cure and exit status 1, and the same command then works.
"""

import errno
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from failing_disk import failing

from minidl.bench.timing import QUICK
from minidl.export.__main__ import main as export
from minidl.reproduce import overhead, plan, run_process
from minidl.reproduce.__main__ import main as reproduce
from minidl.train.__main__ import main as train

sys.path.insert(0, str(Path(__file__).parents[1] / "reproduce"))

from tiny_table import SHORT, TINY

RUN = ["lenet", "mnist", "--sample", "--norm", "none", "--batch-size", "8", "--threads", "1", "--backend", "numpy"]
FULL = (errno.ENOSPC, "No space left on device")
BROKEN = (errno.EIO, "Input/output error")
DISKS = [(FULL, True), (BROKEN, False), (BROKEN, True)]
IDS = ["full", "fails once", "fails for good"]
TABLE = ["table1", *SHORT, "--seeds", "1", "--jobs", "1"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows renames no file that is open")


def there(folder):
    """Return the files of a folder, those that are hidden and records of unfinished ones included."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The checkpoints of a run, to be exported."""
    folder = tmp_path_factory.mktemp("trained") / "R"
    lengths = ["--updates", "4", "--eval-every", "2", "--checkpoint-every", "2", "--quiet"]
    assert train([*RUN, *lengths, "--out", str(folder)]) == 0
    return sorted((folder / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A results folder with the runs of a tiny table."""
    out = tmp_path_factory.mktemp("reproduced") / "F"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plan.TABLES, "table1", TINY)
        assert reproduce([*TABLE, "--out", str(out)]) == 0
    return out


def try_all(command, folder, disk, lasting, capsys, fresh):
    """Let the disk fail at each turn and check the outcomes, until the command succeeds; return the turns.

    Parameters
    ----------
    command : function that returns a status
    folder : path
        Of the outputs.
    fresh : function
        Puts the old files there and returns them.
    """
    fresh()
    assert command() == 0
    new = there(folder)
    for turn in range(200):
        before = fresh()
        assert all(before[name] != content for name, content in new.items())
        capsys.readouterr()
        with failing(*disk, after=turn, lasting=lasting, within=folder) as asked:
            status = command()
        err, after = capsys.readouterr().err, there(folder)
        if len(asked) <= turn:
            assert (status, err, after) == (0, "", new)
            return turn
        if status == 0:  # it does without, as without a link
            assert (err, after) == ("", new)
            continue
        assert (status, err.count("\n")) == (1, 1), (asked[turn], err)
        cure = "free some space" if disk is FULL else "see that the disk can be written"
        assert err.endswith(f": {disk[1]}; {cure}, then run it again\n")
        left = {name for name in after if name.startswith(".") or name.endswith(".unfinished")}
        shown = {name: content for name, content in after.items() if name not in left}
        if not lasting:
            assert left == set()
        if shown not in (before, new):  # neither to go on nor back
            assert lasting
            assert any(name.endswith(".unfinished") for name in left)
            assert shown.items() <= before.items() or shown.items() <= new.items()
            assert command() == 0
            assert there(folder) == new
    pytest.fail("it asks without end")


FORMATS = {
    "safetensors": ["--safetensors", "E/net.safetensors"],
    "torch": ["--torch", "E/net.pt"],
    "both": ["--safetensors", "E/net.safetensors", "--torch", "E/net.pt"],
    "ONNX": ["--onnx", "E/net.onnx"],
}


@pytest.mark.parametrize(("disk", "lasting"), DISKS, ids=IDS)
@pytest.mark.parametrize("what", FORMATS)
def test_an_export_is_all_old_or_all_new(trained, tmp_path, monkeypatch, capsys, what, disk, lasting):
    if "ONNX" in what:
        pytest.importorskip("onnx", reason="the file's format: pip install 'minidl[onnx]'")
    monkeypatch.chdir(tmp_path)
    Path("E").mkdir()
    old, new = ([str(step), *FORMATS[what]] for step in trained)
    assert export(old) == 0
    files = there(Path("E"))

    def fresh():
        for name in there(Path("E")):
            Path("E", name).unlink()
        for name, content in files.items():
            Path("E", name).write_bytes(content)
        return files

    assert try_all(lambda: export(new), Path("E"), disk, lasting, capsys, fresh) >= 6 * len(files)


@pytest.mark.parametrize(("disk", "lasting"), DISKS, ids=IDS)
def test_a_table_is_all_old_or_all_new(reproduced, tmp_path, monkeypatch, capsys, disk, lasting):
    monkeypatch.setitem(plan.TABLES, "table1", TINY)
    out = tmp_path / "F"
    shutil.copytree(reproduced, out)
    pages = there(out)
    picture = pages["table1-sample-scale0.1.png"]
    monkeypatch.setattr("minidl.reproduce.report.draw_table", lambda *args: picture)  # the same each time

    def fresh():
        for name in there(out):
            (out / name).unlink()
        for name, content in pages.items():
            (out / name).write_bytes(content + b"\n")
        return there(out)

    report = ["table1", "--scale", "0.1", "--seeds", "1", "--report-only", "--out", str(out)]  # it loads no data
    monkeypatch.setattr("minidl.reproduce.provenance.git_commit", lambda: None)  # a process each time
    assert try_all(lambda: reproduce(report), out, disk, lasting, capsys, fresh) >= 6 * len(pages)


@pytest.mark.parametrize(("disk", "lasting"), DISKS, ids=IDS)
def test_the_cost_of_modes_is_all_old_or_all_new(tmp_path, monkeypatch, capsys, disk, lasting):
    rows = overhead.measure(QUICK)
    monkeypatch.setattr(overhead, "measure", lambda plan: [dict(row) for row in rows])
    monkeypatch.setattr(overhead.provenance, "duration", lambda seconds: "1 s")  # the same each time
    monkeypatch.setattr(overhead.os, "getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)
    out = tmp_path / "F"
    command = ["overhead", "--out", str(out)]
    assert reproduce(command) == 0
    pages = there(out)

    def fresh():
        for name in there(out):
            (out / name).unlink()
        for name, content in pages.items():
            (out / name).write_bytes(content + b"\n")
        return there(out)

    assert try_all(lambda: reproduce(command), out, disk, lasting, capsys, fresh) >= 6 * len(pages)


@pytest.mark.parametrize(("disk", "lasting"), DISKS, ids=IDS)
def test_a_run_that_cannot_be_started_is_named_with_its_file_and_the_cure(tmp_path, monkeypatch, capsys, disk, lasting):
    monkeypatch.setitem(plan.TABLES, "table1", TINY)
    started = []

    class Process:
        """A child that is counted and does nothing: what is asked of the disk before it is looked at here."""

        def __init__(self, command, **options):
            started.append(command)

        def poll(self):
            return 0 if started else None

    monkeypatch.setattr(run_process, "git_commit", lambda: None)  # which would be a child too
    monkeypatch.setattr(run_process.subprocess, "Popen", Process)
    monkeypatch.setattr("minidl.reproduce.runs._Pool._finished", lambda self, job: self.unfinished.remove(job))
    words, seen = [*TABLE, "--only", "BN", "--out", str(tmp_path / "F")], set()
    for turn in range(50):
        shutil.rmtree(tmp_path / "F", ignore_errors=True)
        with failing(*disk, after=turn, lasting=lasting, within=tmp_path) as asked:
            status = reproduce(words)
        err = capsys.readouterr().err
        assert (status, err.count("\n")) == (1, 1), err
        if started:
            break
        assert len(asked) > turn
        cure = "free some space" if disk is FULL else "see that the disk can be written"
        path = re.search(
            rf"[:] ({re.escape(str(tmp_path))}/F[^:]*): {disk[1]}; {cure}, then run (it|the same command)", err
        )
        assert path, err
        seen.add(Path(path[1]).name)
    assert started
    assert {"F", "runs", ".lock", "starts.jsonl", "log.txt"} <= seen


DISK_OF_A_RUN = """
import errno, os
turn, fsync = [{turn}], os.fsync

def full(descriptor):
    if not turn[0]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    turn[0] -= 1
    fsync(descriptor)

os.fsync = full
"""


@pytest.mark.parametrize("turn", [0, 3, 8])
def test_a_run_whose_disk_is_full_is_named_with_a_cure_of_this_command_and_goes_on(tmp_path, monkeypatch, capsys, turn):
    monkeypatch.setitem(plan.TABLES, "table1", TINY)
    words = [*TABLE, "--only", "BN", "--out", str(tmp_path / "F")]
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DISK_OF_A_RUN.format(turn=turn))
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path / "site"))  # the run's process, and no other, has it
        assert reproduce(words) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith(f"minidl.reproduce: N = 128, BN, seed 0 failed: {tmp_path}/F/runs/")
    assert ": No space left on device; free some space, then run the same command again (" in err
    assert err.endswith("log.txt)\n")
    assert reproduce(words) == 0
    assert capsys.readouterr().err == ""
    assert (tmp_path / "F" / "table1-sample-scale0.1.md").exists()


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (
            "epoch 1: test error 3 %",
            "exit status 7, and its log does not say why, as on a full disk; free some space, then run the same "
            "command again",
        ),
        ("", "exit status 7, and its log does not say why, as on a full disk; free some space, then run the same"),
        ("minidl.train: no GPU; buy one", "no GPU; buy one"),
        (
            "minidl.train: x: Input/output error; see that the disk can be written, then --resume",
            "x: Input/output error; see that the disk can be written, then run the same command again",
        ),
        ("Traceback (most recent call last):\nKeyError: 3", "KeyError: 3"),
    ],
)
def test_a_line_of_progress_is_not_taken_for_why_a_run_failed(tmp_path, monkeypatch, says, why):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncat <<'EOF'\n{says}\nEOF\nexit 7\n")
    python.chmod(0o755)
    if not os.access(python, os.X_OK):
        pytest.skip("nothing in the folder of temporary files may be run here")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.txt").write_text("minidl.train: what an earlier start said\n")
    monkeypatch.setattr(run_process.sys, "executable", str(python))
    process = run_process.RunProcess(TINY.config, tmp_path / "run")
    assert process._process.wait() == 7
    assert process.last_words().startswith(why)
