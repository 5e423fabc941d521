"""The network of a run, with what its inputs are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minidl.layers.base import Layer


class Trained(NamedTuple):
    """A network in evaluation mode, the shape of an input, and notes: the channels' means and deviations, in JSON."""

    network: Layer
    shape: tuple[int, ...]
    notes: dict[str, str]


def network_of(run: Path, warn: Callable[[str], None]) -> Trained:
    """Return the network of a run's newest whole checkpoint.

    Raises
    ------
    RunError, CheckpointError, DataError
        If the run, its checkpoints or its data cannot be used.
    """
    from minidl.data import channel_statistics, load_task
    from minidl.train import build
    from minidl.train.checkpoint import load_latest
    from minidl.train.recipes import Config
    from minidl.train.record import RunError, read_config
    from minidl.train.span import ConfigError

    if not (run / "config.json").exists():
        raise RunError(f"{run} holds no run; give the folder that minidl.train wrote")
    config = Config.from_json(read_config(run)["config"])
    found = load_latest(run / "checkpoints", warn)
    if found is None:
        raise RunError(f"{run} has no checkpoint yet; train it longer")
    task = load_task(config.task, config.data_dir, config.sample, image_size=config.image_size, corrupt=config.corrupt)
    rng = np.random.default_rng(0)
    try:
        network = build.make_model(config, task, rng, rng)
        network.load_state({name[6:]: value for name, value in found[0].items() if name.startswith("model.")})
    except (ConfigError, ValueError) as error:
        raise RunError(f"{run}: the network cannot be built as it was trained ({error})") from error
    mean, std = channel_statistics(task.train)
    notes = {"mean": json.dumps(mean.tolist()), "std": json.dumps(std.tolist())}
    return Trained(network.eval(), tuple(task.train.images.shape[1:]), notes)
