"""From a configuration to the things a run needs: the data, its loaders, the model, and the plan in updates."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from .. import log
from ..backend import device_count, on_gpu, resolve, to_device, use_backend
from ..data import (
    Compose,
    DataError,
    DeviceLoader,
    Loader,
    PadCrop,
    RandomFlip,
    Task,
    channel_statistics,
    load_task,
    rarer,
)
from ..data.image_files import ImageFiles, ImageLoader
from ..data.multitask import OWN
from ..distributed import Communicator
from ..distributed.together import Together
from ..layers.base import Layer
from ..layers.dropout import Dropout
from ..models import ANY_SIZE, MODELS, ONE_SIZE
from ..models.parts import first_alone
from ..norm import NormFactory, norm_factory
from ..parallel import available_threads
from .config import Config
from .config_checks import parse_rarer
from .named import check_made, is_named, is_own_norm, load_named, norm_takes, own_model, own_norm
from .rules import MODAL
from .span import ConfigError, Span
from .trial import try_out

EVAL_BATCH = 128  # at least; a small training batch would make the evaluation slow for nothing
EVAL_BATCH_GPU = 512  # likewise: launching kernels takes a GPU longer than computing them for a small batch


def for_this_machine(config: Config, across: Communicator) -> Config:
    """Return a configuration with all that is left open chosen: the backend, the threads and the GPU of this rank."""
    backend = across.of_first(lambda: resolve(config.backend))
    threads = config.threads or max(1, available_threads() // across.local_size)
    device = config.device
    if device is None and across.size > 1 and on_gpu(resolve(backend)):
        with use_backend(backend):
            device = across.local_rank % device_count()
    return replace(config, backend=backend, threads=threads, device=device)


def find_task(config: Config, progress: bool = False) -> Task:
    """Return the data that a configuration names."""
    return load_task(
        config.task,
        data_dir=config.data_dir,
        sample=config.sample,
        progress=progress,
        image_size=config.image_size,
        corrupt=config.corrupt,
        workers=config.threads,
        seed=config.seed,
        test_share=config.test_share,
    )


def make_loaders(config: Config, task: Task, rng: np.random.Generator, rank: int = 0) -> tuple[Loader, Loader]:
    """Return the loaders of the training and the test set for the default backend; only the first draws from `rng`.

    They give the part of each batch that is this `rank`'s.

    Raises
    ------
    ConfigError
        If the training set is smaller than a batch.
    DataError
        If there are no test images.
    """
    if len(task.test) == 0:
        raise DataError(f"{task.name}: no test images were found to measure the error on; add the test files")
    try:
        train_set = task.train if config.rarer is None else rarer(task.train, *parse_rarer(config.rarer))
    except DataError as error:
        raise ConfigError(str(error)) from error
    if len(train_set) < config.batch_size:
        if config.test_share > 0.5 and str(task.facts.get("split", "")).startswith("drawn"):
            raise ConfigError(
                f"--test-share {config.test_share:g} leaves {len(train_set)} images to train on, fewer than a batch of "
                f"{config.batch_size}; lower it, such as to 0.2"
            )
        left = "found" if config.rarer is None else f"left by --rarer {config.rarer}"
        raise ConfigError(
            f"--batch-size must be at most {len(train_set)}, the training images {left}, got {config.batch_size}; "
            "lower it"
        )
    mean, std = channel_statistics(train_set)
    if not all(std > 0):
        same = [name for name, value in zip(("red", "green", "blue"), std, strict=True) if not value > 0]
        names = " and ".join(filter(None, (", ".join(same[:-1]), same[-1]))) + (" are" if len(same) > 1 else " is")
        raise DataError(f"{task.name}: {names} the same in every pixel of the training images; check the images")
    on_host = not on_gpu()
    ranks, part = config.ranks, (rank, config.ranks)
    if len(task.test) < ranks:
        raise ConfigError(f"{ranks} processes share {len(task.test)} test images, too few; start fewer processes")
    if isinstance(task.train.images, ImageFiles):
        stream = partial(ImageLoader, mean=mean, std=std, dtype=config.dtype, part=part)
        crop = config.augment == "resized-crop"
        return (
            stream(train_set, config.batch_size, random_crop=crop, drop_last=True, rng=rng),
            stream(task.test, max(config.batch_size, ranks * EVAL_BATCH), shuffle=False),
        )
    make = partial(Loader if on_host else DeviceLoader, mean=mean, std=std, dtype=config.dtype, part=part)
    augment = Compose(RandomFlip(), PadCrop(4)) if config.augment == "flip-crop" else None
    train = make(train_set, config.batch_size, augment=augment, drop_last=True, rng=rng)
    least = ranks * (EVAL_BATCH if on_host else EVAL_BATCH_GPU)
    return train, make(task.test, max(config.batch_size, least), shuffle=False)


def make_model(
    config: Config,
    task: Task,
    init: np.random.Generator,
    dropout: np.random.Generator,
    given: Layer | Callable[..., Layer] | None = None,
) -> Layer:
    """Return the network with its weights drawn from `init`, its masks to be drawn from `dropout`.

    `given`, a network or what makes one, takes the place of the one that the configuration names.

    Raises
    ------
    ConfigError
        If a layer refuses its arguments, such as groups that do not divide the channels.
    """
    try:
        if is_named(config.norm):
            norm: NormFactory | None = own_norm(config.norm, load_named("--norm", config.norm), config)
        else:
            norm = norm_factory(
                config.norm,
                modes=config.first_modes,
                groups=config.groups,
                momentum=config.norm_momentum,
                per_mode_affine=config.per_mode_affine,
                dtype=config.dtype,
                gate_input=config.gate_input,
                gate_temperature=config.gate_temperature,
            )
        if config.norm_at == "first":
            norm = first_alone(norm, norm_factory("bn", momentum=config.norm_momentum, dtype=config.dtype))
        if isinstance(given, Layer):
            check_made("model", given)
            model = given
        elif given is not None:
            model = own_model(config.model, given, config, task.num_classes, norm, init)
        elif is_named(config.model):
            maker = load_named("model", config.model)
            model = own_model(config.model, maker, config, task.num_classes, norm, init)
        else:
            model = MODELS[config.model](
                num_classes=task.num_classes, in_channels=3, norm=norm, rng=init, dtype=config.dtype
            )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
    own = is_named(config.norm)
    if isinstance(config.modes, tuple) and (norm_takes(config.norm, "num_modes") if own else config.norm in MODAL):
        norms = sum(is_own_norm(layer) if own else hasattr(layer, "num_modes") for _, layer in model.named_layers())
        if norms != len(config.modes):
            raise ConfigError(
                f"--modes must be one K or {norms}, one for each norm with modes, got {len(config.modes)}; give as many"
            )
    draw_dropout_from(model, dropout)
    return model


def check_model(
    model: Layer, config: Config, task: Task, test_batch: int, given: Layer | Callable[..., Layer] | None = None
) -> None:
    """Refuse a network that does not fit the data, or whose parts of one's own fail, before anything is written.

    The test set comes in batches of `test_batch` images; `given` is that of `make_model`.

    Raises
    ------
    ConfigError
        With what is wrong and where.
    """
    shape = task.train.images.shape[1:]
    if (isinstance(task.train.images, ImageFiles) or task.name in OWN) and not (
        is_named(config.norm) or is_named(config.model)
    ):
        _check_size(model, config, task)

    def again() -> Layer:
        rng = np.random.default_rng(0)  # as `minidl.load` makes it
        return make_model(config, task, rng, rng, given)

    last = len(task.test) % test_batch or test_batch
    try_out(model, config, shape, task.num_classes, last, None if isinstance(given, Layer) else again)


def make_together(config: Config, across: Communicator, model: Layer, optimiser: Any) -> Together:
    """Return this process's share in the updates; ConfigError if a norm cannot be synchronised."""
    try:
        return Together(across, model, optimiser, config.batch_size, config.sync_norm)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def draw_dropout_from(model: Layer, rng: np.random.Generator) -> None:
    """Let every dropout layer of a network draw its masks from `rng`."""
    for _, layer in model.named_layers():
        if isinstance(layer, Dropout):
            layer.rng = rng


def _check_size(model: Layer, config: Config, task: Task) -> None:
    """Refuse images of a size that the network does not take, and a network that does not tell all classes apart."""
    shape = task.train.images.shape[1:]
    try:
        logits = model.eval().forward(to_device(np.zeros((1, *shape), config.dtype)))
    except ValueError as error:
        raise ConfigError(
            f"--image-size {shape[-1]} does not fit {config.model}: {_cure_size(config, shape[-1], error)}"
        ) from error
    finally:
        model.train()
    if logits.shape != (1, task.num_classes):
        raise ConfigError(
            f"{config.model} must give {task.num_classes} logits per image, one per class, got {logits.shape[1:]}; "
            "make it for num_classes"
        )


def _cure_size(config: Config, side: int, error: ValueError) -> str:
    """Return which size a network takes, where it takes one alone; else the error."""
    size = ONE_SIZE.get(config.model)
    if size is None:
        return str(error)
    any_size = ", ".join(name for name in MODELS if name in ANY_SIZE)
    cure = "leave --image-size out" if config.image_size == side else f"give arrays_task(..., size={size})"
    return f"it takes {size}; {cure}, or take a network that takes any size: {any_size}"


def make_plan(config: Config, batches: int) -> dict[str, Any]:
    """Return the run's length and its drops in every unit; `batches` are an epoch."""
    total = Span.parse(config.length).updates(batches, config.batch_size)
    given = config.lr_drops if config.schedule == "step" else ()
    drops = sorted(Span.parse(drop).updates(batches, config.batch_size, total) for drop in given)
    warmup = Span.parse(config.warmup or "0u").updates(batches, config.batch_size, total)
    if warmup > total:
        raise ConfigError(f"--warmup must be at most the run's {total} updates, got {warmup}; shorten it, such as 1/20")
    return {
        "updates": total,
        "updates_per_epoch": batches,
        "epochs": total / batches,
        "touches": total * config.batch_size,
        "lr_drops_after_updates": drops,
        "lr_drops_after_touches": [drop * config.batch_size for drop in drops],
        **({"warmup_updates": warmup} if warmup else {}),
    }


def warn_of_late_drops(plan: dict[str, Any]) -> None:
    """Warn of drops of the learning rate that lie beyond the end of a run, where they change nothing."""
    late = [drop for drop in plan["lr_drops_after_updates"] if drop > plan["updates"]]
    if late:
        log.warn(
            "minidl",
            f"--lr-drops: the drop after update {late[0]} lies beyond the end of the run, {plan['updates']} updates, "
            "and does nothing; shorten it, or give shares of the run, such as 5/7",
        )
