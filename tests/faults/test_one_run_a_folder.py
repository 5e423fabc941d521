"""Promise: a folder holds one run, by one process at a time, and the default name tells any two settings apart."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from tiny_run import result, tiny_config, tiny_task, train

import minidl
from minidl.train import Config, RunError, Trainer
from minidl.train.lock import BusyError, FolderLock
from minidl.train.recipes import FREE_FIELDS

HOLD = """
import sys, pathlib
from minidl.train.lock import FolderLock
with FolderLock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock on a folder."""
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_the_lock_dies_with_the_first(tmp_path, holder):
    with pytest.raises(BusyError, match=r"another process is training in .*; run the same command again when it is"):
        FolderLock(tmp_path).__enter__()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with FolderLock(tmp_path):
        pass


@pytest.mark.usefixtures("holder")
def test_a_run_is_neither_started_nor_resumed_where_another_process_trains(tmp_path):
    with pytest.raises(RunError, match="another process is training"):
        train(tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_a_trainer_whose_run_another_went_on_with_does_not_write_any_more(tmp_path, monkeypatch):
    monkeypatch.setattr("minidl.train.plots.draw_run", lambda *args: None)
    first = train(tmp_path / "run", until=3)
    train(tmp_path / "run", resume=True)
    finished = result(tmp_path / "run")
    with pytest.raises(RunError, match=r"another Trainer went on with the run in .*; make a new one with resume=True"):
        first.run()
    assert result(tmp_path / "run") == finished


def test_two_that_start_at_once_do_not_share_a_folder(tmp_path):
    inner = []

    class Slow(type(tiny_task())):
        def describe(self):  # called when the data is there and nothing is written yet
            if not inner:
                inner.append(Trainer(tiny_config(lr=0.01), tmp_path / "run", quiet=True, task=tiny_task()))
            return []

    task = tiny_task()
    slow = Slow(task.name, task.num_classes, task.class_names, task.train, task.test, ())
    with pytest.raises(RunError, match="already holds a run"):
        Trainer(tiny_config(lr=0.02), tmp_path / "run", quiet=True, task=slow)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["lr"] == 0.01


OTHER = {
    "model": "lenet1989", "task": "svhn", "norm": "bn", "modes": 3, "groups": 3, "per_mode_affine": True,
    "norm_momentum": 0.2, "batch_size": 64, "lr": 0.01, "momentum": 0.8, "weight_decay": 1e-4, "length": "40u",
    "lr_drops": ("1/2",), "drop_factor": 0.5, "augment": "flip-crop", "seed": 1, "dtype": "float64",
    "backend": "cupy", "eval_every": 3, "sample": True, "rarer": "svhn/10", "norm_at": "first",
    "image_size": 64, "corrupt": "skip", "optimiser": "adam", "nesterov": True, "betas": (0.8, 0.9), "eps": 1e-4,
    "schedule": "cosine", "warmup": "5u", "label_smoothing": 0.1, "log_every": 7, "test_share": 0.25,
    "start_from": "runs/other",
}  # fmt: skip


def test_the_default_name_tells_any_two_settings_apart():
    decide = {field.name for field in fields(Config)} - set(FREE_FIELDS) | {"sample"}
    assert decide <= OTHER.keys(), "give a new field another value here"
    names = [Config().folder_name(), *(replace(Config(), **{name: OTHER[name]}).folder_name() for name in decide)]
    assert len(set(names)) == len(names)
    assert replace(Config(), lr=0.001).folder_name() != replace(Config(), lr=0.0010000000000000002).folder_name()
    assert all(len(name) < 200 and "/" not in name for name in names)


def test_a_temporary_file_of_another_process_is_not_touched(tmp_path):
    from minidl.train.checkpoint import write_atomic

    planted = tmp_path / "target"
    planted.write_text("precious")
    (tmp_path / ".config.json.tmp").symlink_to(planted)
    write_atomic(tmp_path / "config.json", b"{}")
    assert planted.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"target", ".config.json.tmp", "config.json"}
