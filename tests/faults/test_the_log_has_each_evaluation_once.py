"""Promise 11: the log has each evaluation once, and a folder holds one run, by one process at a time."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from tiny_run import TOTAL, result, tiny_config, tiny_task, train

import minidl
from minidl.train import Config, RunError, Trainer, checkpoint
from minidl.train.config import FREE_FIELDS
from minidl.train.lock import BusyError, FolderLock
from minidl.train.recipes import folder_name
from minidl.train.run_folder import RunFolder

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


@pytest.mark.parametrize("text", ["99999999999999999999", "9" * 5000, "-1", "rubbish", "²", "0"])
def test_a_descriptor_that_no_parent_handed_down_is_passed_over(tmp_path, monkeypatch, text):
    monkeypatch.setenv("MINIDL_RUN_LOCK", text)
    with FolderLock(tmp_path):
        assert len((tmp_path / ".lock").read_bytes()) == 16


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
    assert json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["config"]["lr"] == 0.01


OTHER = {
    "model": "lenet1989", "task": "svhn", "norm": "bn", "modes": 3, "groups": 3, "per_mode_affine": True,
    "norm_momentum": 0.2, "batch_size": 64, "lr": 0.01, "momentum": 0.8, "weight_decay": 1e-4, "length": "40u",
    "lr_drops": ("1/2",), "drop_factor": 0.5, "augment": "flip-crop", "seed": 1, "dtype": "float64",
    "backend": "cupy", "eval_every": 3, "sample": True, "rarer": "svhn/10", "norm_at": "first",
    "image_size": 64, "corrupt": "skip", "optimiser": "adam", "nesterov": True, "betas": (0.8, 0.9), "eps": 1e-4,
    "schedule": "cosine", "warmup": "5u", "label_smoothing": 0.1, "log_every": 7, "test_share": 0.25,
    "start_from": "runs/other", "max_modes": 9, "auto_by": "split", "auto_strength": 0.02, "auto_threshold": 0.1,
    "auto_window": "3u", "auto_until": "1/2", "gate_input": "normalised", "gate_lr": 0.5, "gate_weight_decay": 0.1,
    "gate_temperature": 2.0, "ranks": 2, "sync_norm": True,
}  # fmt: skip


def test_the_default_name_tells_any_two_settings_apart():
    decide = {field.name for field in fields(Config)} - set(FREE_FIELDS) | {"sample"}
    assert decide <= OTHER.keys(), "give a new field another value here"
    names = [folder_name(Config()), *(folder_name(replace(Config(), **{name: OTHER[name]})) for name in decide)]
    assert len(set(names)) == len(names)
    assert folder_name(replace(Config(), lr=0.001)) != folder_name(replace(Config(), lr=0.0010000000000000002))
    assert all(len(name) < 200 and "/" not in name for name in names)


def test_a_temporary_file_of_another_process_is_not_touched(tmp_path):
    from minidl.train.checkpoint import write_atomic

    planted = tmp_path / "target"
    planted.write_text("precious")
    (tmp_path / ".config.json.tmp").symlink_to(planted)
    write_atomic(tmp_path / "config.json", b"{}")
    assert planted.read_text("utf-8") == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"target", ".config.json.tmp", "config.json"}


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]


def test_the_log_has_each_step_once_although_the_process_died_between_log_and_checkpoint(
    tmp_path, uninterrupted, monkeypatch
):
    def die(*args):
        raise KeyboardInterrupt

    train(tmp_path / "run", until=8)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", die)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", resume=True)
    assert [line["step"] for line in lines(tmp_path / "run")] == [5, 10]
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 14, "ep')  # and while it wrote a line
    train(tmp_path / "run", resume=True)
    assert [line["step"] for line in lines(tmp_path / "run")] == [5, 10, 14]
    assert result(tmp_path / "run") == uninterrupted


def test_lines_of_the_loss_log_after_the_checkpoint_are_written_again(tmp_path, uninterrupted):
    train(tmp_path / "run", until=8)
    path = tmp_path / "run" / "losses.jsonl"
    with path.open("a") as file:  # the process trained on, and was killed before the next checkpoint
        file.write('{"step": 9, "epoch": 1.5, "touches": 36, "lr": 0.025, "train_loss": 7.0}\n{"step": 12, "ep')
    train(tmp_path / "run", resume=True)
    assert result(tmp_path / "run") == uninterrupted


def test_a_full_disk_in_the_log_loses_no_line(tmp_path, monkeypatch, uninterrupted):
    trainer = Trainer(tiny_config(), tmp_path / "run", quiet=True, task=tiny_task())
    fsync = os.fsync
    full = [True]

    def failing(descriptor):
        if full and (tmp_path / "run" / "metrics.jsonl").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(OSError, match="No space left"):
            trainer.run()
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == b"", "no half line stays"
    full.clear()
    assert trainer.run()["step"] == TOTAL
    assert result(tmp_path / "run") == uninterrupted


def test_a_line_is_whole_or_absent(tmp_path):
    folder = RunFolder(tmp_path / "run", resume=False)
    folder.make()
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.append({"step": 1, "test_loss": float("nan")})
    assert not folder.metrics_file.exists()


RACE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tiny_run import make_tiny, tiny_config, tiny_task
from minidl.models import MODELS
from minidl.train import RunError, Trainer, plots
MODELS["tiny"] = make_tiny
plots.draw_run = lambda *args: None
task = tiny_task()
for line in sys.stdin:
    command, out = line.split()
    try:
        if command != "run":
            trainer = Trainer(tiny_config(), out, resume=command == "resume", quiet=True, task=task)
        if command in ("train", "run"):
            trainer.run()
        print("done", flush=True)
    except RunError as error:
        print(error, flush=True)
"""


@pytest.fixture
def two(tmp_path):
    """Two processes that open, resume, run or train what they are told, once both have started."""
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1]), "MINIDL_BACKEND": "numpy"}
    command = [sys.executable, "-c", RACE, str(Path(__file__).parents[1] / "train")]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd=tmp_path, text=True)
        for _ in range(2)
    ]
    for process in started:
        assert answer(process, "open", tmp_path / f"warm{process.pid}") == "done"
    yield started
    for process in started:
        process.communicate(timeout=300)
        assert process.returncode == 0


def tell(process, command, out):
    process.stdin.write(f"{command} {out}\n")
    process.stdin.flush()


def answer(process, command=None, out=None):
    if command:
        tell(process, command, out)
    return process.stdout.readline().rstrip("\n")


def test_of_two_that_start_at_once_one_trains_and_the_other_is_refused(tmp_path, two, uninterrupted):
    for round_ in range(5):
        out = tmp_path / f"run{round_}"
        for process in two:
            tell(process, "train", out)
        said = sorted(map(answer, two), key=lambda text: text == "done")
        assert said[1] == "done", said
        assert "another process is training in" in said[0] or "already holds a run" in said[0]
        assert result(out) == uninterrupted


def test_no_other_process_comes_between_a_start_and_its_training(tmp_path, two, uninterrupted):
    first, second = two
    assert answer(first, "open", tmp_path / "run") == "done"
    assert "already holds a run" in answer(second, "open", tmp_path / "run")
    assert "another process is training in" in answer(second, "resume", tmp_path / "run")
    assert answer(first, "run", tmp_path / "run") == "done"
    assert result(tmp_path / "run") == uninterrupted
    assert answer(second, "resume", tmp_path / "run") == "done"


def test_a_lock_that_is_kept_gives_way_to_the_same_process_alone_and_goes_with_its_holder(tmp_path):
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    with first:
        first.keep()
        with pytest.raises(BusyError, match="another process"), second:
            pass
    with second:
        pass
    with pytest.raises(BusyError, match="another Trainer went on"), first:
        pass
    third = FolderLock(tmp_path)
    with third:
        third.keep()
    with third:  # it has been held on all the while
        pass
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=300, check=True)
    assert done.stdout == b"held\n"


def replaced(run):
    run.rename(run.with_name("moved"))
    train(run, seed=1)


def moved(run):
    run.rename(run.with_name("moved"))


def unlocked(run):
    (run / ".lock").unlink()
    train(run, resume=True)
    shutil.copytree(run, run.with_name("moved"))


@pytest.mark.parametrize("mischief", [replaced, moved, unlocked])
def test_a_folder_that_was_moved_or_unlocked_while_its_run_trained_is_written_to_no_more(
    tmp_path, monkeypatch, uninterrupted, mischief
):
    monkeypatch.setattr("minidl.train.plots.draw_run", lambda *args: None)
    append, after = RunFolder.append, {}

    def append_then_move(folder, evaluation):
        append(folder, evaluation)
        if not after:
            after["begun"] = True
            mischief(tmp_path / "run")
            after["there"] = contents(tmp_path / "run")

    monkeypatch.setattr(RunFolder, "append", append_then_move)
    with pytest.raises(RunError, match=r"run was moved or replaced, or its \.lock removed, .*; --resume goes on with"):
        train(tmp_path / "run")
    assert contents(tmp_path / "run") == after["there"]
    train(tmp_path / "moved", resume=True)
    assert result(tmp_path / "moved") == uninterrupted


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
