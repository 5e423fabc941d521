"""Promise 2: a checkpoint's path always holds a whole file, whatever ends or stops its writer."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_run import train

import minidl
from minidl.train import checkpoint

TENSORS = {
    "model.b": np.arange(15, dtype=np.float32).reshape(3, 5).T,
    "model.a": np.linspace(0, 1, 7),
    "optimiser.v": np.array(3, np.int64),
}


META = {"evaluated": 4, "random": {"state": 2**127 + 1}, "best": None, "text": 'sha256:"é'}


class Limited:
    """A file that can take so many bytes and no more."""

    def __init__(self, file, limit):
        self.file, self.limit = file, limit

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.file.write(data[: self.limit])
        if len(data) > self.limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["first byte", "second byte", "half", "last byte"])
def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, monkeypatch, where):
    path = checkpoint.save(tmp_path, 12, TENSORS, META)
    before = path.read_bytes()
    size = len(before)
    limit = {"first byte": 0, "second byte": 1, "half": size // 2, "last byte": size - 1}[where]
    opened = type(path).open
    monkeypatch.setattr(type(path), "open", lambda self, mode: Limited(opened(self, mode), limit))
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path, 12, TENSORS, {**META, "evaluated": 9})
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_renamed_before_its_bytes_are_on_the_disk(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    checkpoint.save(tmp_path, 1, TENSORS, META)
    assert calls == ["fsync", "replace", "fsync"]


def test_without_permission_the_file_that_was_there_stays(tmp_path, monkeypatch):
    path = checkpoint.save(tmp_path, 12, TENSORS, META)
    before = path.read_bytes()

    def refuse(self, mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "open", refuse)
        with pytest.raises(OSError, match="Permission denied"):
            checkpoint.save(tmp_path, 12, TENSORS, {**META, "evaluated": 9})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Forks twenty writers, kills each at a random moment after its first file, and looks at what each has left.
KILLER = """
import itertools, os, pathlib, random, signal, sys, time
import numpy as np
from minidl.train import checkpoint
draw = random.Random(1)
for attempt in range(20):
    folder = pathlib.Path(sys.argv[1], str(attempt))
    checkpoint.save(folder, 0, {"a": np.zeros(300_000)}, {})
    if (child := os.fork()) == 0:
        for step in itertools.count(1):
            checkpoint.save(folder, step, {"a": np.full(300_000, step)}, {})
    time.sleep(draw.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    paths = checkpoint.list_steps(folder)
    assert paths
    for path in paths:
        tensors, meta = checkpoint.load(path)
        assert (tensors["a"] == meta["step"]).all()
    checkpoint.save(folder, 10**6, {"a": np.zeros(3)}, {})
    assert not list(folder.glob(".*")), "what the killed writer left is removed"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_twenty_killed_writers_leave_whole_checkpoints_alone(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", KILLER, str(tmp_path)], env=env, check=True, timeout=300)
    assert len(list(tmp_path.iterdir())) == 20


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_whose_folders_cannot_be_synced_is_no_obstacle(tmp_path, monkeypatch, number):
    fsync = os.fsync

    def picky(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", picky)
    checkpoint.write_atomic(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"


@pytest.mark.skipif(not hasattr(os, "O_DIRECTORY"), reason="the system cannot sync a folder")
@pytest.mark.usefixtures("_tiny_model", "no_curves")
def test_with_its_first_checkpoint_the_names_of_all_that_a_run_made_are_on_the_disk(tmp_path, monkeypatch):
    lasting, fsync = {}, os.fsync  # what each folder held when it was synced last

    def noted(descriptor):
        fsync(descriptor)
        if stat.S_ISDIR((of := os.fstat(descriptor)).st_mode):
            lasting[of.st_ino] = set(os.listdir(descriptor))

    monkeypatch.setattr(os, "fsync", noted)
    run = tmp_path / "new" / "run"
    train(run, until=4)  # a line of losses.jsonl came before
    for folder in (tmp_path, run.parent, run, run / "checkpoints"):
        there = {each.name for each in folder.iterdir()} - {".lock"}
        assert there
        assert there <= lasting.get(folder.stat().st_ino, set()), folder


@pytest.mark.usefixtures("_tiny_model", "no_curves")
@pytest.mark.parametrize("resume", [False, True], ids=["a start", "a resumed run"])
def test_what_a_killed_process_left_half_written_is_removed_and_what_is_somebody_elses_stays(tmp_path, resume):
    if resume:
        train(tmp_path, until=5)
    of_a_run = ["config.json", "metrics.jsonl", "losses.jsonl", "summary.json", "curves.png"]
    left = [tmp_path / f".{name}.0123abcd.tmp" for name in of_a_run]
    left.append(tmp_path / "checkpoints" / ".step-000000001.safetensors.0123abcd.tmp")
    names = (".mine.tmp", ".mine.0123abcd.tmp", ".config.json.tmp", ".config.json.mine.tmp", ".tmp")
    theirs = [tmp_path / place / name for place in (".", "checkpoints") for name in names]
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    for path in (*left, *theirs):
        path.write_text("half")
    theirs.append(tmp_path / ".config.json.89abcdef.tmp")
    theirs[-1].mkdir()
    train(tmp_path, resume=resume, until=10)
    assert [path for path in left if path.exists()] == []
    assert [path for path in theirs if not path.exists()] == []
