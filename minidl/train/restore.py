"""Whether what a checkpoint holds can be the state of a run: a file with the right checksum may hold anything."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from .evaluation import check_evaluation

# What is never negative in any state: variances, mean squares, second moments, counts, and gates summed over a window.
_NOT_NEGATIVE = re.compile(
    r"model\.(.*\.)?(running_var|running_mean_square)|optimiser\.(second\..*|steps)|auto\..*\.(usage|peak)"
)


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
    check_values(tensors)
    step = check_meta(meta, batches, total)
    if (steps := tensors.get("optimiser.steps")) is not None and steps.dtype.kind == "i" and steps.max() > step:
        raise ValueError(f"optimiser.steps must be at most {step}, the updates done, got {steps.max()}")


def check_values(tensors: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError unless every array is finite, and none negative that cannot be."""
    for name, array in tensors.items():
        if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite")
        if _NOT_NEGATIVE.fullmatch(name) and array.size and array.min() < 0:
            raise ValueError(f"{name} must not be negative, got {array.min()}")


def check_meta(meta: Mapping[str, Any], batches: int, total: int) -> int:
    """Return the step of what a checkpoint holds beside its arrays; ValueError or KeyError if it cannot be a run's."""
    step = _count(meta, "step", total)
    evaluated = _count(meta, "evaluated", step)
    running = _part(meta, "running")
    _count(running, "batches", step)
    _count(running, "wrong", _count(running, "seen"))
    _number(running, "loss")
    if "losses" in meta:
        _count(_part(meta, "losses"), "updates", step)
        _number(meta["losses"], "loss")
    if meta["best"] is not None:
        if not check_evaluation(_part(meta, "best"))["step"] <= evaluated:
            raise ValueError(f"best must be one of the evaluations to update {evaluated}, got {meta['best']['step']}")
    elif evaluated:
        raise ValueError(f"best must be one of the evaluations to update {evaluated}, got none")
    loader = _part(meta, "loader")
    _count(loader, "batch", batches)
    for generator in (loader["rng"], _part(meta, "random")["dropout"]):
        _plain(generator)
    return step


def is_of(meta: Mapping[str, Any], digests: set[str]) -> bool:
    """Whether a checkpoint names one of these identities as that of its run."""
    named = meta.get("identity_sha256")
    return isinstance(named, str) and named in digests


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
