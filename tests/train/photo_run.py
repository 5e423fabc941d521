"""Runs on a folder of images, and the images, for the tests of what is done with a trained network."""

import numpy as np
import pytest
from PIL import Image
from tiny_run import tiny_config

from minidl.train import Trainer

CLASSES = ("ant", "bee", "cat")


def put(folder, counts, start=0):
    """Make images of several sizes, colour and grey in turn; those of a class are brighter than those before it."""
    rng = np.random.default_rng(start)
    for k, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(60 * k, 60 * k + 120, (32 + i, 35, 3)[: 2 + i % 2], np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02d}.png")
    return folder


def train_on_photos():
    """Train the tiny network with modes on ./photos into ./run, and return its trainer."""
    config = tiny_config(task="folder", image_size=32, data_dir="photos", norm="mn", lr_drops=())
    trainer = Trainer(config, "run", quiet=True)
    trainer.run()
    return trainer


@pytest.fixture(name="folder", autouse=True)
def folder_of_photos(here):
    return put(here / "photos", dict.fromkeys(CLASSES, 12))


@pytest.fixture(name="run")
def run_on_photos(tmp_path, folder):
    """A finished run on the photos, and its trainer."""
    return tmp_path / "run", train_on_photos()


_noise = np.random.default_rng(3)


def put_noise(folder, counts):
    """Make images of noise, other ones at each call."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(_noise.integers(0, 256, (32, 35, 3), np.uint8)).save(folder / name / f"{i:02d}.png")


def train_on(task, data_dir, **changes):
    """Train the tiny network for two updates on data of one's own into ./run, and return its trainer."""
    changes = {"image_size": 32, "length": "2u", "eval_every": 2, "augment": "none", "lr_drops": (), **changes}
    trainer = Trainer(tiny_config(task=task, data_dir=data_dir, **changes), "run", quiet=True)
    trainer.run()
    return trainer
