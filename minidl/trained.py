"""A trained network, ready to use: `minidl.load` finds it by its run or its checkpoint, and makes it."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minidl.arguments import arithmetic, shown
from minidl.backend import on_gpu, resolve, to_device, use_backend
from minidl.classifier import BATCH, Classifier, Prediction, softmax
from minidl.extras import require
from minidl.image_arguments import Images
from minidl.layers.base import Layer
from minidl.layers.show import expect

if TYPE_CHECKING:
    from minidl.train import Config
    from minidl.train.stored import Stored

__all__ = ["BATCH", "Classifier", "Images", "Prediction", "load", "softmax"]


def load(
    path: str | os.PathLike[str],
    *,
    model: Layer | Callable[..., Layer] | None = None,
    backend: str | None = None,
    check_code: bool = True,
) -> Classifier:
    """Return the network of a run or of a checkpoint, ready to predict.

    Parameters
    ----------
    path : path
        A run's folder, of which the newest whole checkpoint is taken, or a checkpoint's file.
    model : Layer, or what makes one, optional
        For a run that was given its network from Python: the same again.
    backend : str, optional
        "numpy", "numba", "cupy" or "auto"; by default what ``MINIDL_BACKEND`` says, else numpy.
    check_code : bool
        Whether a norm or a network of one's own must come from the very file that it was trained with. Its module is
        imported: load runs whose code you trust.

    Raises
    ------
    RunError
        There is no run and no checkpoint there, or its code has changed or is not found.
    CheckpointError
        The checkpoint is damaged.
    LateError
        A layer of one's own raises, or gives what it must not.
    TypeError
        `path` is no path.

    Examples
    --------
    >>> import tempfile
    >>> from dataclasses import replace
    >>> from minidl.train import Trainer, recipe
    >>> config = replace(recipe("lenet", "mnist"), sample=True, length="2u", batch_size=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Trainer(config, out=folder, quiet=True).run()
    ...     net = load(folder)
    >>> len(net.class_names), net.network.training
    (10, False)
    """
    from minidl.data import Dataset, Task
    from minidl.norm.select import fit_modes
    from minidl.train import build
    from minidl.train.config import Config
    from minidl.train.record import RunError
    from minidl.train.span import ConfigError
    from minidl.train.stored import find, under

    require("loading a trained network", "safetensors")
    found = find(_as_path(path))
    record = found.record
    try:
        config = Config.from_json(record["config"])
    except (ConfigError, TypeError) as error:
        raise RunError(
            f"{path}: its configuration cannot be used ({error}); was it written by another version?"
        ) from error
    config = replace(config, backend=resolve(backend), device=None)
    about = record["input"]
    if model is not None and ":" not in config.model:
        raise RunError(f"{path} was trained with minidl's own network {config.model}; leave out model=")
    maker = model if model is not None else _own_network(found.where, record, config)
    if check_code:
        _check_code(found.where, record, config, model)
    shape = tuple(about["shape"])
    nothing = np.zeros(0, np.int64)
    empty = Dataset(np.zeros((0, *shape), np.uint8), nothing, nothing, (config.task,), len(about["class_names"]))
    task = Task(config.task, len(about["class_names"]), tuple(about["class_names"]), empty, empty, ())
    rng = np.random.default_rng(0)
    try:
        with use_backend(str(config.backend)):
            network = build.make_model(config, task, rng, rng, maker)
            state = under(found.tensors, "model.")
            if config.modes == "auto":
                fit_modes(network, state, config.max_modes)
            network.load_state(state)
    except (ConfigError, ValueError) as error:
        raise RunError(
            f"{found.where}: the network cannot be built as it was trained ({error})"
            + ("; give it: minidl.load(path, model=...)" if _given_model(record) else "")
        ) from error
    _check_shape(found, network.eval(), config, model, shape, len(about["class_names"]))
    expect(network, shape)
    return Classifier(network, config, record, found.step, found.tensors)


def _as_path(path: Any) -> Path:
    """Return what is to be loaded as a path; TypeError where it is none."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"load: path must be a path, got {shown(path)}; give a run's folder or a file in its checkpoints"
        )
    return Path(path)


def _given_model(record: dict[str, Any]) -> bool:
    return bool(record.get("code", {}).get("model", {}).get("given"))


def _own_network(where: Path, record: dict[str, Any], config: Config) -> Any:
    """Return what makes a network that a run was given from Python, found by its name; None where it was not given."""
    if not _given_model(record):
        return None
    from minidl.train.named import load_named
    from minidl.train.record import RunError
    from minidl.train.span import ConfigError

    try:
        return load_named("model", config.model)
    except ConfigError as error:
        raise RunError(
            f"{where} was trained from Python with the network {config.model}, which is not found by that name; "
            "give it: minidl.load(path, model=...)"
        ) from error


def _check_code(where: Path, record: dict[str, Any], config: Config, model: Any) -> None:
    """Refuse to go on with other code than the run was trained with."""
    from minidl.train.named import load_named, source_hash, why_not_found
    from minidl.train.record import RunError
    from minidl.train.span import ConfigError

    for part, facts in record.get("code", {}).items():
        if part not in ("model", "norm"):
            continue
        try:
            thing = model if part == "model" and model is not None else load_named(part, facts["name"])
        except ConfigError as error:
            raise RunError(f"{where}: {why_not_found(error, facts['name'], facts['sha256'])}") from error
        if source_hash(thing) != facts["sha256"]:
            raise RunError(
                f"{where}: the file of {facts['name']} has changed since the run was trained, so the network may "
                "compute something else; put the old file back, or take the new one with --changed-code (from Python: "
                "check_code=False)"
            )


def _check_shape(
    found: Stored, network: Layer, config: Config, model: Any, shape: tuple[int, ...], classes: int
) -> None:
    """Raise RunError where the network, in evaluation mode, does not take what its record says; it stays as it is.

    No sample at all goes through layers of minidl's own, as a file may claim any size; two on a GPU, and through layers
    of somebody's. LateError where one of these gives what it must not.
    """
    from minidl.train.late import LateError, try_loaded
    from minidl.train.named import own_settings
    from minidl.train.record import RunError

    own = own_settings(config) or (["model"] if model is not None else [])
    samples = 2 if own or on_gpu(config.backend) else 0
    try:
        twin = copy.deepcopy(network)
    except Exception:  # one of somebody's own that cannot be copied is not looked at
        return
    try:
        with use_backend(str(config.backend)), arithmetic():
            x = to_device(np.zeros((samples, *shape), config.dtype))
            if own:
                try_loaded(twin, x, classes, own)
            else:
                twin.forward(x)
    except LateError:
        raise
    except ValueError as error:
        cure = (
            f"put back the {found.run / 'config.json'} that the run wrote" if found.run else "take it from its run anew"
        )
        raise RunError(
            f"{found.where}: its record is damaged: its weights do not fit the inputs {shape} that it names ({error}); "
            f"{cure}, or train it anew"
        ) from error
