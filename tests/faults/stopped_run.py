"""A tiny run that stopped within an epoch, to damage and to forge."""

import shutil

import pytest
from tiny_run import make_tiny, train

from minidl.models import MODELS
from minidl.train import checkpoint, restore
from minidl.train.record import read_metrics

EVALUATIONS = []  # of the stopped run


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that stopped within an epoch; its last checkpoint's tensors and meta."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "tiny", make_tiny)
        folder = tmp_path_factory.mktemp("crafted") / "run"
        train(folder, until=10)
    EVALUATIONS[:] = [restore.timeless(line) for line in read_metrics(folder / "metrics.jsonl")]
    return folder, *checkpoint.load(checkpoint.list_steps(folder / "checkpoints")[-1])


def copied(stopped, tmp_path):
    """Return a copy of the stopped run, and its checkpoints of the updates 8 and 10."""
    shutil.copytree(stopped[0], tmp_path / "run")
    return tmp_path / "run", checkpoint.list_steps(tmp_path / "run" / "checkpoints")
