"""Promise 3: a checkpoint that somebody made, its checksum right, is refused in one line and the one before it used."""

import json
import shutil

import numpy as np
import pytest
from stopped_run import EVALUATIONS, copied, stopped
from tiny_run import result, tiny_config, tiny_task

import minidl
from minidl.train import RunError, Trainer, checkpoint, restore
from minidl.train.checkpoint import CheckpointError

__all__ = ["stopped"]


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
    lines = log.read_text("utf-8").splitlines()
    lines[0 if line == "best" else -1] = lines[-1].replace('"touches": 40', '"touches": NaN')
    log.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunError, match=r"metrics.jsonl is damaged in line"):
        Trainer(tiny_config(), run, resume=True, quiet=True, task=tiny_task())


def test_the_same_content_written_anew_is_taken(tmp_path, stopped, monkeypatch):
    assert resumed(stopped, tmp_path, monkeypatch, lambda tensors, meta: None).step == 10


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
