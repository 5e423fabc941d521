"""From a configuration to the things a run needs: loaders, model, the plan in updates, and what identifies the run."""

import hashlib
import os
import platform
from functools import partial
from typing import Any

import numpy as np

from .. import device
from ..backend import on_gpu
from ..data import (
    Compose,
    DataError,
    Dataset,
    DeviceLoader,
    Loader,
    PadCrop,
    RandomFlip,
    Task,
    channel_statistics,
    rarer,
)
from ..layers.base import Layer
from ..layers.dropout import Dropout
from ..models import MODELS
from ..norm import norm_factory
from .recipes import FREE_FIELDS, NEWER_FIELDS, Config, ConfigError, Span, parse_rarer

EVAL_BATCH = 128  # at least; a small training batch would make the evaluation slow for nothing
EVAL_BATCH_GPU = 512  # likewise: launching kernels takes a GPU longer than computing them for a small batch
NOTE = (
    "Drops given as shares scale with the run: "
    "the paper's, after 2.5 M and 3.0 M of its 3.5 M touches, are 5/7 and 6/7 of it."
)


def make_loaders(config: Config, task: Task, rng: np.random.Generator) -> tuple[Loader, Loader]:
    """Return the loaders of the training and the test set for the default backend; only the first draws from `rng`.

    Raises
    ------
    ConfigError
        If the training set is smaller than a batch.
    DataError
        If there are no test images.
    """
    if len(task.train) < config.batch_size:
        raise ConfigError(
            f"--batch-size must be at most {len(task.train)}, the training images found, got {config.batch_size}; "
            "lower it"
        )
    if len(task.test) == 0:
        raise DataError(f"{task.name}: no test images were found to measure the error on; add the test files")
    train_set = task.train if config.rarer is None else rarer(task.train, *parse_rarer(config.rarer))
    mean, std = channel_statistics(train_set)
    on_host = not on_gpu()
    make = partial(Loader if on_host else DeviceLoader, mean=mean, std=std, dtype=config.dtype)
    augment = Compose(RandomFlip(), PadCrop(4)) if config.augment == "flip-crop" else None
    train = make(train_set, config.batch_size, augment=augment, drop_last=True, rng=rng)
    return train, make(task.test, max(config.batch_size, EVAL_BATCH if on_host else EVAL_BATCH_GPU), shuffle=False)


def make_model(config: Config, task: Task, init: np.random.Generator, dropout: np.random.Generator) -> Layer:
    """Return the network with its weights drawn from `init`, its masks to be drawn from `dropout`.

    Raises
    ------
    ConfigError
        If a layer refuses its arguments, such as groups that do not divide the channels.
    """
    try:
        norm = norm_factory(
            config.norm,
            modes=config.modes,
            groups=config.groups,
            momentum=config.norm_momentum,
            per_mode_affine=config.per_mode_affine,
            dtype=config.dtype,
        )
        model: Layer = MODELS[config.model](
            num_classes=task.num_classes, in_channels=3, norm=norm, rng=init, dtype=config.dtype
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    norms = sum(hasattr(layer, "num_modes") for _, layer in model.named_layers())
    if not isinstance(config.modes, int) and norms != len(config.modes):
        raise ConfigError(
            f"--modes must be one K or {norms}, one for each norm with modes, got {len(config.modes)}; give as many"
        )
    for _, layer in model.named_layers():
        if isinstance(layer, Dropout):
            layer.rng = dropout
    return model


def make_plan(config: Config, batches: int) -> dict[str, Any]:
    """Return the run's length and its drops in every unit; `batches` are an epoch."""
    total = Span.parse(config.length).updates(batches, config.batch_size)
    drops = sorted(Span.parse(drop).updates(batches, config.batch_size, total) for drop in config.lr_drops)
    return {
        "updates": total,
        "updates_per_epoch": batches,
        "epochs": total / batches,
        "touches": total * config.batch_size,
        "lr_drops_after_updates": drops,
        "lr_drops_after_touches": [drop * config.batch_size for drop in drops],
    }


def describe_data(task: Task) -> dict[str, Any]:
    """Return the number of images of each source, and a sha256 over all labels and a few hundred images of each set."""
    sha = hashlib.sha256()
    for dataset in (task.train, task.test):
        sha.update(dataset.labels.astype("<i8").tobytes())
        sha.update(np.ascontiguousarray(dataset.images[:: max(1, len(dataset) // 256)]).tobytes())
    return {"train_images": _count(task.train), "test_images": _count(task.test), "data_sha256": sha.hexdigest()}


def describe_run(config: Config, plan: dict[str, Any], model: Layer) -> str:
    """Return the line that says what is about to be trained."""
    drops = ", ".join(map(str, plan["lr_drops_after_updates"])) or "none"
    return (
        f"{config.name()}: {model.num_params()} parameters, {plan['updates']} updates of {config.batch_size} images "
        f"({plan['epochs']:.4g} epochs, {plan['touches']} touches), lr {config.lr:g} x{config.drop_factor:g} after "
        f"updates {drops}; {device.describe()}" + (f", threads: {config.threads}" if not on_gpu(config.backend) else "")
    )


def describe_machine(config: Config) -> dict[str, Any]:
    """Return what the run's time depends on."""
    gpu = {} if not on_gpu(config.backend) else {"device": device.name(), **device.versions()}
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "backend": config.backend,
        "threads": config.threads,
        **gpu,
    }


def settings(content: dict[str, Any]) -> dict[str, Any]:
    """Return those settings of a config.json that decide the numbers and the log."""
    return {
        name: value
        for name, value in content["config"].items()
        if name not in FREE_FIELDS and not (name in NEWER_FIELDS and value == getattr(Config, name))
    }


def identity(content: dict[str, Any]) -> dict[str, Any]:
    """Return all parts of a config.json that decide the numbers and the log."""
    return {**settings(content), **content["data"], **content["plan"]}


def _count(dataset: Dataset) -> dict[str, int]:
    counts = np.bincount(dataset.source, minlength=len(dataset.sources))
    return {name: int(count) for name, count in zip(dataset.sources, counts, strict=True)}
