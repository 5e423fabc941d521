"""Promise 3: damage is named and the checkpoint before it used; one that somebody made is refused in one line."""

import json
import os
import random

import numpy as np
import pytest
from tiny_run import result, tiny_config, tiny_task, train

from minidl.train import RunError, Trainer, checkpoint
from minidl.train.checkpoint import CheckpointError


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that stopped within an epoch; its last checkpoint's tensors and meta."""
    from tiny_run import make_tiny

    from minidl.models import MODELS

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "tiny", make_tiny)
        folder = tmp_path_factory.mktemp("crafted") / "run"
        train(folder, until=10)
    return folder, *checkpoint.load(checkpoint.list_steps(folder / "checkpoints")[-1])


def resumed(stopped, tmp_path, change):
    """Resume the run from its checkpoint after a change, with a right checksum."""
    import shutil

    folder, tensors, meta = stopped
    tensors = {name: array.copy() for name, array in tensors.items()}
    meta = json.loads(json.dumps(meta))
    change(tensors, meta)
    shutil.copytree(folder, tmp_path / "run")
    step = meta.pop("step")
    for path in checkpoint.list_steps(tmp_path / "run" / "checkpoints"):
        path.unlink()
    checkpoint.save(tmp_path / "run" / "checkpoints", 10, tensors, meta | {"step": step})
    return Trainer(tiny_config(), tmp_path / "run", resume=True, quiet=True, task=tiny_task())


def set_meta(*path):
    *parts, name, value = path

    def change(tensors, meta):
        for part in parts:
            meta = meta[part]
        meta[name] = value

    return change


def drop_meta(name):
    return lambda tensors, meta: meta.pop(name)


def set_tensor(name, make):
    def change(tensors, meta):
        if make is None:
            del tensors[name]
        else:
            tensors[name] = make(tensors.get(name, np.zeros(3, np.float32)))

    return change


WEIGHT = "model.1.weight"
CRAFTED = {
    "weights of integers": set_tensor(WEIGHT, lambda array: array.astype(np.int32)),
    "weights of float64": set_tensor(WEIGHT, lambda array: array.astype(np.float64)),
    "weights of another shape": set_tensor(WEIGHT, lambda array: array[:1]),
    "a weight that is not a number": set_tensor(WEIGHT, lambda array: array * np.float32(np.nan)),
    "no weights": set_tensor(WEIGHT, None),
    "more weights": set_tensor("model.99.weight", lambda array: array),
    "a velocity of integers": set_tensor("optimiser.velocity.1.weight", lambda array: array.astype(np.int32)),
    "a step of text": set_meta("evaluated", "5"),
    "a step of a float": set_meta("evaluated", 5.0),
    "a step that is true": set_meta("evaluated", True),
    "an evaluation after the step": set_meta("evaluated", 11),
    "a negative evaluation": set_meta("evaluated", -1),
    "no running sums": drop_meta("running"),
    "running sums of a list": set_meta("running", []),
    "a loss of text": set_meta("running", "loss", "x"),
    "a negative count": set_meta("running", "seen", -3),
    "no best": drop_meta("best"),
    "a best of text": set_meta("best", "x"),
    "a best of an error of text": set_meta("best", "test_error", "x"),
    "a best of later": set_meta("best", "step", 99),
    "no loader": drop_meta("loader"),
    "a loader of nothing": set_meta("loader", None),
    "a batch beyond the epoch": set_meta("loader", "batch", 10**9),
    "a batch of text": set_meta("loader", "batch", "2"),
    "other images": set_meta("loader", "images", 3),
    "no generator": set_meta("loader", "rng", None),
    "a generator of another kind": set_meta("loader", "rng", "bit_generator", "MT19937"),
    "a generator's state of text": set_meta("random", "dropout", "state", "x"),
    "a generator's state below 0": set_meta("random", "dropout", "state", "state", -1),
    "a generator's state of 2^200": set_meta("random", "dropout", "state", "inc", 2**200),
    "a generator's state without end": set_meta("random", "dropout", "state", "state", 0.5),
    "no random states": drop_meta("random"),
    "losses of text": set_meta("losses", "x"),
    "another run": set_meta("identity_sha256", "0" * 64),
}


@pytest.mark.parametrize("what", CRAFTED)
def test_what_no_checkpoint_of_the_run_holds_is_refused_in_one_line(tmp_path, stopped, what):
    with pytest.raises(RunError, match=r"does not fit the run|belongs to another run") as error:
        resumed(stopped, tmp_path, CRAFTED[what])
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("give another --out")


def test_the_same_content_written_anew_is_taken(tmp_path, stopped):
    assert resumed(stopped, tmp_path, lambda tensors, meta: None).step == 10


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
