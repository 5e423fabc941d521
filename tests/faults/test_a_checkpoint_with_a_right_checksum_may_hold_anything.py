"""Promises 3 and 4: a checkpoint that somebody made, its checksum right, is refused in one line, or taken as it is."""

import json

import numpy as np
import pytest
from tiny_run import tiny_config, tiny_task, train

from minidl.train import RunError, Trainer, checkpoint


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
