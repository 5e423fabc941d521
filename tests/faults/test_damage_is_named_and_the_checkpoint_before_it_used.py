"""Promise 3: damage is named and the checkpoint before it used; one that somebody made is refused in one line."""

import json
import os
import random
import shutil

import numpy as np
import pytest
from tiny_run import result, tiny_config, tiny_task, train

import minidl
from minidl.train import RunError, Trainer, checkpoint, restore
from minidl.train.checkpoint import CheckpointError
from minidl.train.record import read_metrics

EVALUATIONS = []  # of the stopped run


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that stopped within an epoch; its last checkpoint's tensors and meta."""
    from tiny_run import make_tiny

    from minidl.models import MODELS

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "tiny", make_tiny)
        folder = tmp_path_factory.mktemp("crafted") / "run"
        train(folder, until=10)
    EVALUATIONS[:] = [restore.timeless(line) for line in read_metrics(folder / "metrics.jsonl")]
    return folder, *checkpoint.load(checkpoint.list_steps(folder / "checkpoints")[-1])


def craft(monkeypatch, folder, stopped, change):
    """Write a checkpoint of the stopped run, its content changed and its checksum right, and return its path."""
    _, tensors, meta = stopped
    tensors = {name: array.copy() for name, array in tensors.items()}
    meta = json.loads(json.dumps(meta))
    change(tensors, meta)
    step = meta.pop("step")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.json, "dumps", lambda value, allow_nan: json.JSONEncoder().encode(value))
        return checkpoint.save(folder, 10, tensors, meta | {"step": step})


def copied(stopped, tmp_path):
    """Return a copy of the stopped run, and its checkpoints of the updates 8 and 10."""
    shutil.copytree(stopped[0], tmp_path / "run")
    return tmp_path / "run", checkpoint.list_steps(tmp_path / "run" / "checkpoints")


def resumed(stopped, tmp_path, monkeypatch, change):
    """Resume the run from its checkpoint alone, after a change."""
    run, paths = copied(stopped, tmp_path)
    for path in paths:
        path.unlink()
    craft(monkeypatch, run / "checkpoints", stopped, change)
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
    "a generator's even increment": set_meta("random", "dropout", "state", "inc", 2),
    "a generator that holds two halves": set_meta("random", "dropout", "has_uint32", 2),
    "a loader's generator of an even increment": set_meta("loader", "rng", "state", "inc", 2),
    "no random states": drop_meta("random"),
    "losses of text": set_meta("losses", "x"),
    "losses of more updates than were done": set_meta("losses", "updates", 11),
    "more wrong than were seen": set_meta("running", "wrong", 10**6),
    "a negative step": set_meta("step", -1),
    "a step of a float, and of text": set_meta("step", "10"),
    "another run": set_meta("identity_sha256", "0" * 64),
    "a run of nothing": set_meta("identity_sha256", None),
    "a run of a list": set_meta("identity_sha256", []),
    "a run of an object": set_meta("identity_sha256", {}),
    "no best after an evaluation": set_meta("best", None),
    "a best that is no evaluation of the log": set_meta("best", "test_error", 1.0),
    "a best of more": set_meta("best", "more", "x"),
    "a best of touches that are not a number": set_meta("best", "touches", float("nan")),
    "a best of a rate without end": set_meta("best", "lr", float("inf")),
    "a best of a negative error": set_meta("best", "test_error", -5),
    "a best of an error above 100": set_meta("best", "test_error", 101),
    "a best of errors of text": set_meta("best", "test_errors", {"even": "x"}),
    "a best of errors of a list": set_meta("best", "test_errors", []),
    "a best without errors": lambda tensors, meta: meta["best"].pop("test_errors"),
    "a best of gates of text": set_meta("best", "gates", {"2": "x"}),
    "a best of modes of text": set_meta("best", "modes", {"2": "x"}),
    "a best of a true step": set_meta("best", "step", True),
    "a best of a nested loss": set_meta("best", "train_loss", {"a": [1]}),
    "a negative variance": set_tensor("model.2.running_mean_square", lambda array: -array),
    "a best of a step that the log lacks": set_meta("best", "step", 3),
    "a best that is not the best": lambda tensors, meta: meta.update(best=other_evaluation(meta["best"])),
    "an evaluation that is not due": set_meta("evaluated", 7),
    "no evaluation yet": lambda tensors, meta: meta.update(evaluated=0, best=None),
    "an evaluation that the log lacks": lambda tensors, meta: meta.update(step=14, evaluated=14),
    "running sums of more batches": set_meta("running", "batches", 1),
    "running sums of more images": set_meta("running", "seen", 4),
    "running sums of nothing with a loss": set_meta("running", "loss", 0.5),
    "a loss that is not a number": set_meta("running", "loss", float("nan")),
    "a loss without end": set_meta("running", "loss", float("inf")),
    "a negative loss": set_meta("running", "loss", -1.0),
    "a loss of 400 digits": set_meta("losses", "loss", 10**400),
    "a loss that is true": set_meta("losses", "loss", True),
    "losses of fewer updates than since the last line": set_meta("losses", "updates", 0),
    "losses that are not a number": set_meta("losses", "loss", float("nan")),
    "losses without end": set_meta("losses", "loss", float("inf")),
    "losses beyond float32": set_meta("losses", "loss", 1e39),
    "negative losses": set_meta("losses", "loss", -1.0),
    "a batch that is not that of the step": set_meta("loader", "batch", 3),
    "the first batch of an epoch": set_meta("loader", "batch", 0),
    **(
        UNKNOWN := {
            "a name that no version writes": set_meta("more", 1),
            "a part of its run that no version writes": set_meta("run", "more", {}),
            "a sum that no version writes": set_meta("running", "more", 1),
            "losses that no version writes": set_meta("losses", "more", []),
            "a place in the data that no version writes": set_meta("loader", "more", None),
            "a random state that no version writes": set_meta("random", "more", {}),
            "a generator of more": set_meta("random", "dropout", "state", "more", 5),
        }
    ),
}


def other_evaluation(best):
    """Return the other one of the two evaluations of the stopped run."""
    (other,) = (line for line in EVALUATIONS if line["step"] != best["step"])
    return other


@pytest.mark.parametrize("what", CRAFTED)
def test_what_no_checkpoint_of_the_run_holds_is_refused_in_one_line(tmp_path, stopped, monkeypatch, what):
    why = r"does not fit the run|belongs to another run|no checkpoint of minidl"
    with pytest.raises(CheckpointError, match=why) as error:
        resumed(stopped, tmp_path, monkeypatch, CRAFTED[what])
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("start again with another --out")
    assert error.value.exit_status == 4


BEFORE = [
    *("another run", "a best of a negative error", "a negative variance", "no weights"),
    *("a best of a step that the log lacks", "an evaluation that is not due", "an evaluation that the log lacks"),
    *("a loss without end", "losses that are not a number", "a batch that is not that of the step"),
    *UNKNOWN,
]


@pytest.mark.parametrize("what", BEFORE)
def test_the_checkpoint_before_one_that_does_not_fit_is_used(
    tmp_path, stopped, monkeypatch, uninterrupted, capsys, what
):
    run, (_, newest) = copied(stopped, tmp_path)
    craft(monkeypatch, run / "checkpoints", stopped, CRAFTED[what])
    trainer = Trainer(tiny_config(), run, resume=True, quiet=True, task=tiny_task())
    assert trainer.step == 8
    assert capsys.readouterr().err.count(str(newest)) == 1
    trainer.run()
    assert result(run) == uninterrupted


@pytest.mark.parametrize("what", ["a name that no version writes", "a part of its run that no version writes"])
def test_a_network_beside_names_that_no_version_writes_is_not_loaded_but_the_one_before_it(
    tmp_path, stopped, monkeypatch, capsys, what
):
    run, (older, newest) = copied(stopped, tmp_path)
    craft(monkeypatch, run / "checkpoints", stopped, CRAFTED[what])
    assert minidl.load(run).step == 8
    assert f"{newest} cannot be used: no version writes 'more'; did a later one write it?" in capsys.readouterr().err
    older.unlink()
    shutil.copy(newest, alone := tmp_path / "alone.safetensors")
    for asked in (run, newest, alone):
        with pytest.raises(CheckpointError, match="cannot be used: no version writes 'more'"):
            minidl.load(asked)


@pytest.mark.parametrize("name", ["optimiser.second.1.weight", "optimiser.steps", "auto.2.usage", "model.running_var"])
def test_what_is_never_negative_is_refused_where_it_is(name):
    restore.check_values({name: np.ones(3)})
    with pytest.raises(ValueError, match=f"^{name} must not be negative, got -1"):
        restore.check_values({name: np.array([1, -1, 0])})


def test_a_network_of_a_negative_variance_is_not_loaded(tmp_path, stopped, monkeypatch):
    run, (older, _) = copied(stopped, tmp_path)
    older.unlink()
    craft(monkeypatch, run / "checkpoints", stopped, CRAFTED["a negative variance"])
    with pytest.raises(CheckpointError, match="running_mean_square must not be negative"):
        minidl.load(run)


@pytest.mark.parametrize("line", ["best", "last"])
def test_a_summary_is_written_whatever_the_log_of_a_run_held(tmp_path, stopped, line):
    run, _ = copied(stopped, tmp_path)
    log = run / "metrics.jsonl"
    lines = log.read_text().splitlines()
    lines[0 if line == "best" else -1] = lines[-1].replace('"touches": 40', '"touches": NaN')
    log.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunError, match=r"metrics.jsonl is damaged in line"):
        Trainer(tiny_config(), run, resume=True, quiet=True, task=tiny_task())


def test_the_same_content_written_anew_is_taken(tmp_path, stopped, monkeypatch):
    assert resumed(stopped, tmp_path, monkeypatch, lambda tensors, meta: None).step == 10


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
        assert (path / "mine").read_text() == "precious"
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


@pytest.mark.parametrize("asked", ["the run", "the file"])
def test_a_checkpoint_of_another_run_is_not_loaded_with_this_ones_record(tmp_path, stopped, monkeypatch, capsys, asked):
    run, (older, newest) = copied(stopped, tmp_path)
    craft(monkeypatch, run / "checkpoints", stopped, CRAFTED["another run"])
    if asked == "the run":
        assert minidl.load(run).step == 8
        assert capsys.readouterr().err.count("belongs to another run than") == 1
        older.unlink()
    with pytest.raises(CheckpointError, match="belongs to another run than"):
        minidl.load(run if asked == "the run" else newest)
