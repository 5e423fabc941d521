"""What a run's record says of it, and which parts of the record identify the run.

`recorded` and the `describe_` functions write the parts of config.json; `identity` and its kin take from a config.json
what decides the numbers.
"""

import hashlib
import os
from typing import Any

import numpy as np

from .. import device
from ..backend import on_gpu
from ..data import Dataset, Loader, Task, data_sha256
from ..data.image_files import ImageFiles
from ..layers.base import Layer
from .config import FREE_FIELDS, NEWER_FIELDS, Config
from .named import is_named, load_named, name_of, source_hash
from .rules import describe_schedule

NOTE = (
    "Drops given as shares scale with the run: "
    "the paper's, after 2.5 M and 3.0 M of its 3.5 M touches, are 5/7 and 6/7 of it."
)


def describe_code(config: Config, given: dict[str, Any]) -> dict[str, Any]:
    """Return the name and the source's sha256 of each part that is not minidl's own.

    Parameters
    ----------
    config : Config
        Its model and norm may be `module:Name`.
    given : dict
        What `Trainer` was given from Python in place of what the configuration names: "model", "optimiser".
    """
    code = {
        part: {"name": text, "sha256": source_hash(load_named("--norm" if part == "norm" else "model", text))}
        for part, text in (("model", config.model), ("norm", config.norm))
        if is_named(text) and part not in given
    }
    return code | {
        part: {"name": name_of(thing), "sha256": source_hash(thing), "given": True} for part, thing in given.items()
    }


def describe_data(task: Task) -> dict[str, Any]:
    """Return the number of images of each source, and a sha256 over all labels and a few hundred images of each set."""
    sha = hashlib.sha256()
    for dataset in (task.train, task.test):
        sha.update(dataset.labels.astype("<i8").tobytes())
        sha.update(np.ascontiguousarray(dataset.images[:: max(1, len(dataset) // 256)]).tobytes())
    return {"train_images": _count(task.train), "test_images": _count(task.test), "data_sha256": sha.hexdigest()}


def describe_dataset(task: Task) -> dict[str, Any]:
    """Return what tells the very data: a sha256 of each set as a whole, how it was split, images by class.

    Image files that stay on the disk have no such hash: reading all of them would take as long as an epoch.
    """
    sums = {
        f"{name}_sha256": data_sha256(dataset)
        for name, dataset in (("train", task.train), ("test", task.test))
        if not isinstance(dataset.images, ImageFiles)
    }
    return {**sums, **task.facts}


def describe_input(task: Task, loader: Loader) -> dict[str, Any]:
    """Return what `minidl.load` needs: what an image becomes before the network sees it, the names of the classes."""
    return {
        "fit": task.fit,
        "shape": list(task.train.images.shape[1:]),
        "mean": loader.mean.tolist(),
        "std": loader.std.tolist(),
        "class_names": list(task.class_names),
    }


def describe_run(config: Config, plan: dict[str, Any], model: Layer) -> str:
    """Return the line that says what is about to be trained."""
    epochs = f"{plan['epochs']:.4g} epoch{'s' * (plan['epochs'] != 1)}"
    return (
        f"{config.name()}: {model.num_params()} parameters, {plan['updates']} updates of {config.batch_size} images "
        f"({epochs}, {plan['touches']} touches), {describe_schedule(config, plan)}; "
        f"{device.describe()}"
        + (f", threads: {config.threads}" if not on_gpu(config.backend) else "")
        + (f", {config.ranks} processes" if config.ranks > 1 else "")
    )


def describe_machine(config: Config) -> dict[str, Any]:
    """Return what the run's time depends on."""
    gpu = {"device": device.name()} if on_gpu(config.backend) else {}
    return {
        **device.machine(),
        "backend": config.backend,
        "threads": config.threads,
        **({"ranks": config.ranks} if config.ranks > 1 else {}),
        **gpu,
        **device.versions(),
    }


def recorded(config: Config, backend: str | None) -> dict[str, Any]:
    """Return a configuration as config.json holds it: its paths are found again from any other folder."""
    paths = {name: getattr(config, name) for name in ("data_dir", "start_from", "tensorboard")}
    found = {name: path and os.path.abspath(path) for name, path in paths.items()}
    return config.to_json() | {"backend": backend, **found}


def settings(content: dict[str, Any]) -> dict[str, Any]:
    """Return those settings of a config.json that decide the numbers and the log."""
    return {
        name: value
        for name, value in content["config"].items()
        if name not in FREE_FIELDS and not (name in NEWER_FIELDS and _plain(value) == _plain(getattr(Config, name)))
    }


def identity(content: dict[str, Any]) -> dict[str, Any]:
    """Return all parts of a config.json that decide the numbers and the log."""
    return {
        **settings(content),
        **code_identity(content),
        **data_identity(content),
        **content["plan"],
        **({"stages": content["stages"]} if content.get("stages") else {}),
        **({"started_from_sha256": content["from"]["checkpoint_sha256"]} if "from" in content else {}),
    }


def data_identity(content: dict[str, Any]) -> dict[str, Any]:
    """Return what a config.json says of the data; nothing in a checkpoint that is alone."""
    return {**content.get("data", {}), **content.get("dataset", {})}


def about(content: dict[str, Any]) -> dict[str, Any]:
    """Return those parts of a config.json that are needed to use the network, for a checkpoint that stands alone."""
    return {"config": settings(content), **{part: content[part] for part in ("code", "input") if part in content}}


def code_identity(content: dict[str, Any]) -> dict[str, Any]:
    """Return what identifies the parts that are not minidl's own; nothing where there are none."""
    return {
        f"{part}_{key}": value
        for part, facts in content.get("code", {}).items()
        for key, value in facts.items()
        if key in ("name", "sha256")
    }


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _count(dataset: Dataset) -> dict[str, int]:
    counts = np.bincount(dataset.source, minlength=len(dataset.sources))
    return {name: int(count) for name, count in zip(dataset.sources, counts, strict=True)}
