"""Promise 3: a checkpoint that is damaged, renamed or no file is named, and the one before it is used."""

import errno
import os
import random
import shutil

import numpy as np
import pytest
from stopped_run import copied, stopped
from tiny_run import result, tiny_config, tiny_task, train

import minidl
from minidl.train import Trainer, checkpoint
from minidl.train.checkpoint import CheckpointError

__all__ = ["stopped"]

TENSORS = {
    "model.b": np.arange(15, dtype=np.float32).reshape(3, 5).T,
    "model.a": np.linspace(0, 1, 7),
    "optimiser.v": np.array(3, np.int64),
}


META = {"evaluated": 4, "random": {"state": 2**127 + 1}, "best": None, "text": 'sha256:"é'}


def test_a_file_cut_at_any_place_is_named_as_damaged(tmp_path):
    path = checkpoint.save(tmp_path, 12, TENSORS, META)
    data = path.read_bytes()
    for length in [0, 1, 7, 8, 9, *np.linspace(10, len(data) - 1, 50).astype(int)]:
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=rf"step-000000012.safetensors is damaged: .* \({length} bytes\)"):
            checkpoint.load(path)


def test_any_flipped_bit_is_noticed(tmp_path):
    path = checkpoint.save(tmp_path, 12, TENSORS, META)
    data = path.read_bytes()
    draw = random.Random(0)
    for bit in [*range(64), *(draw.randrange(8 * len(data)) for _ in range(150))]:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="is damaged"):
            checkpoint.load(path)


def test_swapped_files_are_noticed(tmp_path):
    first = checkpoint.save(tmp_path, 1, TENSORS, META)
    second = checkpoint.save(tmp_path, 2, TENSORS, META)
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    with pytest.raises(CheckpointError, match="is the checkpoint of step 1: it was renamed or swapped"):
        checkpoint.load(second)


@pytest.mark.parametrize("change", ["swapped", "renamed", "copied"])
def test_renamed_checkpoints_are_used_by_the_step_within(tmp_path, stopped, uninterrupted, capsys, change):
    run, (older, newest) = copied(stopped, tmp_path)
    if change == "swapped":
        older.rename(tmp_path / "kept")
        newest.rename(older)
        (tmp_path / "kept").rename(newest)
    elif change == "renamed":
        newest.rename(newest.with_name("step-000000099.safetensors"))
    else:
        shutil.copy(older, newest.with_name("step-000000099.safetensors"))
    trainer = Trainer(tiny_config(), run, resume=True, quiet=True, task=tiny_task())
    assert trainer.step == 10
    said = capsys.readouterr().err
    assert ("is the checkpoint of step 10: it was renamed or swapped, and is used as that" in said) == (
        change != "copied"
    )
    trainer.run()
    paths = checkpoint.list_steps(run / "checkpoints")
    assert (paths[-1] if change == "swapped" else paths[-2]).read_bytes() == uninterrupted[0]


def test_what_was_just_written_stays_whatever_has_the_name_of_a_later_step(tmp_path):
    for step in (98, 99):
        (tmp_path / f"step-{step:09d}.safetensors").mkdir()
    for step in (1, 2, 3):
        assert checkpoint.save(tmp_path, step, TENSORS, META).exists()
    assert [path.name[-13:-12] for path in checkpoint.list_steps(tmp_path)] == ["2", "3", "8", "9"]


def test_a_folder_in_the_way_of_a_checkpoint_is_put_aside(tmp_path, stopped, uninterrupted, capsys):
    run, (_, newest) = copied(stopped, tmp_path)
    newest.unlink()
    newest.mkdir()
    (newest / "mine").write_text("precious")
    train(run, resume=True, checkpoint_every=2)  # comes to its step again
    assert f"{newest} is damaged: it is no file" in capsys.readouterr().err
    assert result_of_files(run)[0] == uninterrupted[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_the_way_of_a_checkpoint_is_put_aside(tmp_path, stopped, uninterrupted, capsys):
    run, (_, newest) = copied(stopped, tmp_path)
    newest.unlink()
    os.mkfifo(newest)
    train(run, resume=True, checkpoint_every=2)
    assert f"{newest} was no file, which is now {newest}." in capsys.readouterr().err
    (aside,) = (run / "checkpoints").glob("*.aside")
    assert aside.is_fifo()
    aside.unlink()
    assert result(run)[0] == uninterrupted[0]


def result_of_files(run):
    """Return the result of a run, with folders put aside left out."""
    for path in (run / "checkpoints").glob("*.aside"):
        assert (path / "mine").read_text("utf-8") == "precious"
        shutil.rmtree(path)
    return result(run)


def test_the_newest_whole_checkpoint_is_loaded_and_the_damaged_one_named(tmp_path):
    checkpoint.save(tmp_path, 1, TENSORS, META)
    newest = checkpoint.save(tmp_path, 2, TENSORS, META)
    newest.write_bytes(b"")
    warnings = []
    _, meta = checkpoint.load_latest(tmp_path, warnings.append)
    assert meta["step"] == 1
    assert len(warnings) == 1
    assert str(newest) in warnings[0]


def test_no_checkpoint_is_none_and_damaged_ones_alone_are_an_error(tmp_path):
    assert checkpoint.load_latest(tmp_path / "absent", print) is None
    checkpoint.save(tmp_path, 1, TENSORS, META).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"no whole checkpoint is left in .*; start again with another --out"):
        checkpoint.load_latest(tmp_path, lambda text: None)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, uninterrupted, capsys):
    train(tmp_path / "run", until=10)
    paths = checkpoint.list_steps(tmp_path / "run" / "checkpoints")
    assert [path.name for path in paths] == ["step-000000008.safetensors", "step-000000010.safetensors"]
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    train(tmp_path / "run", resume=True)
    assert f"{paths[1]} is damaged: its checksum differs" in capsys.readouterr().err
    assert result(tmp_path / "run") == uninterrupted


def close_to_us(monkeypatch, path):
    """Let a file be opened as one of another user is, to whom alone it is open."""
    opened = os.open

    def guarded(file, *how, **options):
        if os.fspath(file) == str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(file, *how, **options)

    monkeypatch.setattr(os, "open", guarded)


NO_CHECKPOINT = ["a folder", "a dangling link", "a pipe", "a sparse giant", "another's content", "another's own"]


@pytest.mark.parametrize("newest", NO_CHECKPOINT)
def test_a_newest_checkpoint_that_is_none_or_may_not_be_read_lets_the_older_one_be_used(
    tmp_path, monkeypatch, capsys, uninterrupted, newest
):
    train(tmp_path / "run", until=10)
    path = checkpoint.list_steps(tmp_path / "run" / "checkpoints")[-1]
    whole = path.read_bytes()
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
    elif newest == "another's own":
        path.write_bytes(whole)
        close_to_us(monkeypatch, path)
    else:
        path.write_bytes(os.urandom(1000))
    trainer = Trainer(tiny_config(), tmp_path / "run", resume=True, quiet=True, task=tiny_task())
    assert trainer.step == 8
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(("name", "warned"), [("step-000000099.safetensors", True), ("mine.safetensors", False)])
def test_a_renamed_checkpoint_that_is_asked_for_is_loaded_as_that_of_the_step_within(
    tmp_path, stopped, capsys, name, warned
):
    _, (_, newest) = copied(stopped, tmp_path)
    renamed = newest.rename(newest.with_name(name))
    assert minidl.load(renamed).step == 10
    said = capsys.readouterr().err
    assert (f"{renamed} is the checkpoint of step 10: it was renamed or swapped, and is used as that" in said) == warned
    assert said.count("\n") == warned
