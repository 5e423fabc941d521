"""Promise: whatever ends a run, going on with it gives what never ending gives, with the settings it had."""

import errno
import json
import os

import pytest
from tiny_run import TOTAL, result, tiny_config, tiny_task, train

from minidl.optim import SGD
from minidl.train import RunError, StoppedError, Trainer, checkpoint
from minidl.train.__main__ import main
from minidl.train.record import RunFolder


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch):
    monkeypatch.setattr("minidl.train.plots.draw_run", lambda *args: None)


@pytest.fixture
def uninterrupted(tmp_path):
    train(tmp_path / "whole")
    return result(tmp_path / "whole")


def test_an_interrupt_within_an_update_is_not_gone_on_with_but_resumed(tmp_path, monkeypatch, uninterrupted):
    step = SGD.step

    def interrupted(self):
        step(self)
        if trainer.step == 6:
            raise KeyboardInterrupt

    trainer = Trainer(tiny_config(), tmp_path / "run", quiet=True, task=tiny_task())
    with monkeypatch.context() as patch:
        patch.setattr(SGD, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    with pytest.raises(RunError, match="the last run ended within update 7; make a new Trainer with resume=True"):
        trainer.run()
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


def test_a_resume_keeps_checkpoint_every_and_threads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = ["lenet", "mnist", "--sample", "--updates", "7", "--batch-size", "8", "--out", "R", "--norm", "bn"]
    run, seen = Trainer.run, []

    def stopping(self):
        seen.append(self.config)
        summary = run(self, until=3 if len(seen) == 1 else None)
        if len(seen) == 1:
            raise StoppedError(15, "stopped")
        return summary

    monkeypatch.setattr(Trainer, "run", stopping)
    assert main([*args, "--checkpoint-every", "2", "--threads", "1"]) == 143
    assert main(["--resume", "--out", "R", "--quiet"]) == 0
    assert [(config.checkpoint_every, config.threads) for config in seen] == [(2, 1), (2, 1)]
    steps = [path.name for path in checkpoint.list_steps(tmp_path / "R" / "checkpoints")]
    assert steps == ["step-000000006.safetensors", "step-000000007.safetensors"]


def test_threads_that_were_not_given_are_those_of_the_machine_again(tmp_path):
    train(tmp_path / "run", until=2, threads=None)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["threads"] is None


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_whose_folders_cannot_be_synced_is_no_obstacle(tmp_path, monkeypatch, number):
    import stat

    fsync = os.fsync

    def picky(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", picky)
    checkpoint.write_atomic(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"


@pytest.mark.parametrize("newest", ["a folder", "a dangling link", "a pipe", "a sparse giant", "another's content"])
def test_a_newest_checkpoint_that_is_no_file_lets_the_older_one_be_used(tmp_path, capsys, uninterrupted, newest):
    train(tmp_path / "run", until=10)
    path = checkpoint.list_steps(tmp_path / "run" / "checkpoints")[-1]
    path.unlink()
    if newest == "a folder":
        path.mkdir()
    elif newest == "a dangling link":
        path.symlink_to("nowhere")
    elif newest == "a pipe":
        os.mkfifo(path)
    elif newest == "a sparse giant":
        with path.open("wb") as file:
            file.write((2).to_bytes(8, "little") + b"{}")
            file.truncate(40 << 30)
    else:
        path.write_bytes(os.urandom(1000))
    trainer = Trainer(tiny_config(), tmp_path / "run", resume=True, quiet=True, task=tiny_task())
    assert trainer.step == 8
    assert str(path) in capsys.readouterr().err
