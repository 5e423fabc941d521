"""Whether what a checkpoint holds can be the state of a run: a file with the right checksum may hold anything."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def check(
    tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any], own: Mapping[str, np.ndarray], batches: int, total: int
) -> None:
    """Refuse what no checkpoint of this run can hold.

    Parameters
    ----------
    tensors, meta
        As `minidl.train.checkpoint.load` returned them.
    own : dict
        The run's own arrays, for their names, shapes and dtypes.
    batches : int
        Of an epoch.
    total : int
        The updates of the run.

    Raises
    ------
    ValueError
        With the first thing that is wrong, and what was expected.
    """
    if strangers := own.keys() ^ tensors.keys():
        raise ValueError(f"expected the run's own arrays, got more or fewer: {', '.join(sorted(strangers))[:200]}")
    for name, array in own.items():
        kind, got = (array.shape, array.dtype), (tensors[name].shape, tensors[name].dtype)
        if got != kind:
            raise ValueError(f"{name} must be of {kind[0]}, {kind[1]}, got {got[0]}, {got[1]}")
        if not np.isfinite(tensors[name]).all():
            raise ValueError(f"{name} must be finite")
    step = _count(meta, "step", total)
    _count(meta, "evaluated", step)
    running = _part(meta, "running")
    for name in ("batches", "wrong", "seen"):
        _count(running, name)
    _number(running, "loss")
    if "losses" in meta:
        _count(_part(meta, "losses"), "updates")
        _number(meta["losses"], "loss")
    if meta["best"] is not None:
        _number(_part(meta, "best"), "test_error")
        _count(meta["best"], "step", step)
    loader = _part(meta, "loader")
    _count(loader, "batch", batches)
    for generator in (loader["rng"], _part(meta, "random")["dropout"]):
        _plain(generator)


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = content[name]
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object, got {type(value).__name__}")
    return value


def _count(content: Mapping[str, Any], name: str, most: int = 1 << 62) -> int:
    value = content[name]
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 0 to {most}, got {value!r:.60}")
    return value


def _number(content: Mapping[str, Any], name: str) -> None:
    value = content[name]
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r:.60}")


def _plain(generator: Any) -> None:
    """Refuse numbers in a generator's state that are none of its bits."""
    if isinstance(generator, dict):
        for value in generator.values():
            _plain(value)
    elif isinstance(generator, list):
        for value in generator:
            _plain(value)
    elif not isinstance(generator, str) and (type(generator) is not int or not 0 <= generator < 1 << 128):
        raise ValueError(f"a generator's state must be whole numbers of 128 bits, got {generator!r:.60}")
