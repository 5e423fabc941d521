"""A run that starts from another's weights: what is taken, what stays as drawn, and what is recorded of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..layers.base import Layer
from .record import RunError
from .rules import used
from .stored import find, under

NETWORK = (
    *("model", "norm", "norm_at", "modes", "groups", "per_mode_affine", "image_size"),
    *("gate_input", "gate_temperature"),
)


def start_from(
    model: Layer,
    where: str | os.PathLike[str],
    record: dict[str, Any],
    num_classes: int,
    fit_modes: Callable[[dict[str, np.ndarray]], None],
) -> dict[str, Any]:
    """Give a network the parameters and running statistics of another run, and return what to record of it.

    The arrays of the two networks must be the same but for the number of classes: one whose shape differs in that
    number alone stays as drawn, with the other arrays of its layer. Settings that make another network of the same
    arrays, such as another norm, are named.

    Parameters
    ----------
    model : Layer
        As it was drawn.
    where : path
        The other run's folder, or a checkpoint.
    record : dict
        The "config" of the new run, to name what differs.
    num_classes : int
        Of the new run.
    fit_modes : callable
        Called with the other network's state, to give this one as many modes where their number is found in training.

    Raises
    ------
    RunError
        There is no such run, or its network is another one.
    CheckpointError
        Its checkpoint is damaged.
    """
    found = find(Path(where))
    theirs = under(found.tensors, "model.")
    try:
        fit_modes(theirs)
    except ValueError as error:
        raise RunError(f"{where} cannot be started from: {error}; give another --max-modes") from error
    own = model.state()
    classes = len(found.record["input"]["class_names"])
    fresh = set()
    for path, layer in model.named_layers():
        names = [f"{path}.{name}" if path else name for name in (*layer.params, *layer.buffers)]
        shapes = [(own[name].shape, theirs[name].shape) for name in names if name in theirs]
        if any(mine != other and _differ_in_classes(mine, other, num_classes, classes) for mine, other in shapes):
            fresh.update(names)
    unlike = [
        name
        for name in {**own, **theirs}
        if name not in fresh and (name not in own or name not in theirs or own[name].shape != theirs[name].shape)
    ]
    if unlike:
        raise RunError(f"{where} cannot be started from: {_difference(unlike, own, theirs, found.record, record)}")
    model.load_state({name: array if name in fresh else theirs[name] for name, array in own.items()})
    return {
        "run": str(found.run or found.file.absolute()),
        "checkpoint": found.file.name,
        "checkpoint_sha256": hashlib.sha256(found.file.read_bytes()).hexdigest(),
        "step": found.step,
        "name": _name(found.record),
        "class_names": list(found.record["input"]["class_names"]),
        "as_drawn": sorted(fresh),
    } | ({"differs": differs} if (differs := _told(found.record, record)) else {})


def describe(origin: dict[str, Any], arrays: int) -> str:
    """Return what was taken, in one line."""
    fresh = origin["as_drawn"]
    rest = f"; {', '.join(fresh)} as drawn, for another number of classes" if fresh else ""
    if differs := origin.get("differs"):
        rest += f"; the arrays fit, but the network is another one: {', '.join(differs)}"
    return (
        f"starting from {origin['run']} after update {origin['step']}: {arrays - len(fresh)} of {arrays} arrays{rest}"
    )


def _differ_in_classes(mine: tuple[int, ...], other: tuple[int, ...], classes: int, their_classes: int) -> bool:
    return len(mine) == len(other) and all(
        a == b or (a, b) == (classes, their_classes) for a, b in zip(mine, other, strict=True)
    )


def _difference(
    unlike: list[str],
    own: dict[str, np.ndarray],
    theirs: dict[str, np.ndarray],
    record: dict[str, Any],
    asked: dict[str, Any],
) -> str:
    """Return how two networks differ: by their settings, else by the first array."""
    settings = [_both(name, record, asked) for name in _unlike(record, asked)]
    name = unlike[0]
    shapes = [f"{array[name].shape}" if name in array else "none" for array in (theirs, own)]
    array = f"{name} is {shapes[0]} there, {shapes[1]} here"
    return f"{'; '.join([*settings, array])}; start with the same network"


def _unlike(record: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """Return the settings of a network that are not the same."""
    return [name for name in NETWORK if name in record["config"] and record["config"][name] != asked[name]]


def _both(name: str, record: dict[str, Any], asked: dict[str, Any]) -> str:
    return f"{name} {record['config'][name]!r} there, {asked[name]!r} asked"


def _told(record: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """Return the settings that make another network of the same arrays, of those that its norm makes use of."""
    unlike = [name for name in _unlike(record, asked) if name != "image_size"]
    if "norm" in unlike:
        return [_both(name, record, asked) for name in unlike if name in ("model", "norm", "norm_at")]
    return [_both(name, record, asked) for name in unlike if used(name, asked["norm"])]


def _name(record: dict[str, Any]) -> str:
    return f"{record['config']['model']} {record['config']['task']}"
