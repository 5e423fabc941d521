"""A run small enough to repeat dozens of times: 26 random images, a small network with modes and dropout."""

import json

import numpy as np

from minidl import Conv2d, Dropout, GlobalAvgPool2d, Linear, MaxPool2d, ReLU, Sequential
from minidl.data import Dataset, Task
from minidl.train import Config, Trainer
from minidl.train.evaluation import TIME_FIELDS

BATCHES = 6  # an epoch: batches of 4, two images to spare
TOTAL = 14


def make_tiny(num_classes, in_channels, norm, rng, dtype):
    """Build what MODELS["tiny"] is in these tests."""
    return Sequential(
        MaxPool2d(4),
        Conv2d(in_channels, 5, 3, rng=rng, dtype=dtype),
        *([norm(5, rng)] if norm else []),
        ReLU(),
        GlobalAvgPool2d(),
        Dropout(0.25),
        Linear(5, num_classes, rng=rng, dtype=dtype),
    )


def tiny_config(**changes):
    """Evaluations after 5, 10, 14 updates; checkpoints after 4, 8, 12, 14; epochs end at 6 and 12; drops at 5 and 9.

    A line of losses.jsonl is of 3 updates, the last of 2.
    """
    settings = {
        "model": "tiny",
        "norm": "mn",
        "modes": 3,
        "batch_size": 4,
        "lr": 0.05,
        "weight_decay": 0.01,
        "length": f"{TOTAL}u",
        "lr_drops": ("20", "9u"),
        "drop_factor": 0.5,
        "augment": "flip-crop",
        "eval_every": 5,
        "checkpoint_every": 4,
        "log_every": 3,
        "threads": 1,
    }
    return Config(**{**settings, **changes})


def tiny_task(seed=0):
    """Return 26 training and 11 test images of two datasets, two classes each."""
    rng = np.random.default_rng(seed)

    def dataset(size):
        labels = rng.integers(0, 4, size)
        images = rng.integers(0, 256, (size, 3, 32, 32)).astype(np.uint8)
        return Dataset(images, labels, labels // 2, ("even", "odd"), 4)

    return Task("tiny", 4, ("a", "b", "c", "d"), dataset(26), dataset(11), ("tiny: 26 training images",))


def train(out, until=None, resume=False, task=None, **changes):
    """Run the tiny configuration, up to an update or to the end, and return the trainer."""
    trainer = Trainer(tiny_config(**changes), out, resume=resume, quiet=True, task=task or tiny_task())
    trainer.run(until)
    return trainer


def result(out):
    """Return all that must repeat: the last checkpoint's bytes, and the logs without times."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    log = [{name: value for name, value in line.items() if name not in TIME_FIELDS} for line in lines]
    losses = (out / "losses.jsonl").read_text("utf-8")
    return max((out / "checkpoints").iterdir()).read_bytes(), json.dumps([log, losses])
