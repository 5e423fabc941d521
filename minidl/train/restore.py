"""Whether what a checkpoint holds can be the state of a run: a file with the right checksum may hold anything."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .evaluation import TIME_FIELDS
from .running import READ_EVERY

# What is never negative in any state: variances, mean squares, second moments, counts, and gates summed over a window.
_NOT_NEGATIVE = re.compile(
    r"model\.(.*\.)?(running_var|running_mean_square)|optimiser\.(second\..*|steps)|auto\..*\.(usage|peak)"
)


# What a checkpoint has beside its arrays, and what of its run's config.json.
_NAMES = ("step", "identity_sha256", "run", "evaluated", "best", "running", "losses", "loader", "random", "auto")
_OF_RUN = ("config", "code", "input")


@dataclass(frozen=True)
class Known:
    """What the config.json, the data and the logs of a run say: its checkpoints must agree with that.

    Attributes
    ----------
    batches, batch_size : int
        Of an epoch, and of a batch.
    every : int
        Updates between two evaluations.
    ends : sequence of int
        The updates after which a stage of the run was finished, and so evaluated. The last is that of the run.
    evaluations : list of dict
        The lines of metrics.jsonl.
    losses : list of dict or None
        Those of losses.jsonl; None where there is none.
    largest : float
        The largest number of the run's dtype, and so the largest loss of a batch.
    """

    batches: int
    batch_size: int
    every: int
    ends: Sequence[int]
    evaluations: Sequence[Mapping[str, Any]]
    losses: Sequence[Mapping[str, Any]] | None
    largest: float

    def due(self, step: int) -> int:
        """Return the last update up to `step` after which there is an evaluation; 0 if there is none."""
        return max(step // self.every * self.every, *(end for end in self.ends if end <= step), 0)


def check_names(meta: Mapping[str, Any], own: Mapping[str, Any] | None = None) -> None:
    """Refuse what no version writes beside a checkpoint's arrays: nobody knows what it is to mean.

    Parameters
    ----------
    meta
        As `minidl.train.checkpoint.load` returned it.
    own : dict, optional
        What the run itself would write, to look into each of its parts as well.

    Raises
    ------
    ValueError
        With the first names that are unknown.
    """
    _refuse_others(meta, {**dict.fromkeys(_NAMES), "run": dict.fromkeys(_OF_RUN)})
    _refuse_others(meta, {**dict.fromkeys(_NAMES), **(own or {}), "best": None})  # which the log is held against


def _refuse_others(there: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    if unknown := there.keys() - own.keys():
        raise ValueError(f"no version writes {', '.join(map(repr, sorted(unknown))):.100}; did a later one write it?")
    for name, part in own.items():
        if isinstance(part, dict) and isinstance(there.get(name), dict):
            _refuse_others(there[name], part)


def check_arrays(tensors: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray], step: int) -> None:
    """Refuse arrays that no checkpoint of this run can hold, after `step` updates.

    Parameters
    ----------
    tensors
        As `minidl.train.checkpoint.load` returned them.
    own : dict
        The run's own arrays, for their names, shapes and dtypes.
    step : int

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
    if (steps := tensors.get("optimiser.steps")) is not None and steps.dtype.kind == "i" and steps.max() > step:
        raise ValueError(f"optimiser.steps must be at most {step}, the updates done, got {steps.max()}")


def check_values(tensors: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError unless every array is finite, and none negative that cannot be."""
    for name, array in tensors.items():
        if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite")
        if _NOT_NEGATIVE.fullmatch(name) and array.size and array.min() < 0:
            raise ValueError(f"{name} must not be negative, got {array.min()}")


def check_meta(meta: Mapping[str, Any], known: Known) -> None:
    """Refuse what a checkpoint holds beside its arrays where it does not agree with the rest of the run.

    Raises
    ------
    ValueError or KeyError
        With the first thing that is wrong, and what was expected.
    """
    step = _count(meta, "step", known.ends[-1])
    evaluated = _check_evaluated(meta, step, known)
    _check_best(meta["best"], evaluated, known)
    _check_running(_part(meta, "running"), step - evaluated, known)
    if "losses" in meta:  # which those of an earlier version have not
        _check_losses(_part(meta, "losses"), step, known)
    loader = _part(meta, "loader")
    if _count(loader, "batch", known.batches) != (given := (step - 1) % known.batches + 1 if step else 0):
        raise ValueError(f"batch must be {given}, where update {step} ends in its epoch, got {loader['batch']}")
    for generator in (loader["rng"], _part(meta, "random")["dropout"]):
        _plain(generator)
    for path, watched in (_part(meta, "auto") if "auto" in meta else {}).items():
        if not isinstance(watched, dict):
            raise ValueError(f"auto of {path:.60} must be an object, got {watched!r:.60}")
        _count(watched, "batches", step)


def _check_evaluated(meta: Mapping[str, Any], step: int, known: Known) -> int:
    """Return the update of the last evaluation; a signal may come between an update and its evaluation."""
    evaluated = _count(meta, "evaluated", step)
    if evaluated not in (last := known.due(step), known.due(step - 1) if last == step > 0 else last):
        raise ValueError(f"evaluated must be {last}, the last evaluation up to update {step}, got {evaluated}")
    if evaluated and (not known.evaluations or known.evaluations[-1]["step"] < evaluated):
        raise ValueError(f"metrics.jsonl lacks the evaluation after update {evaluated}; put that file back")
    return evaluated


def _check_best(best: Any, evaluated: int, known: Known) -> None:
    seen = [line for line in known.evaluations if line["step"] <= evaluated]
    if not seen:
        if best is not None:
            raise ValueError(f"best must be none before the first evaluation, got {best!r:.60}")
        return
    if not isinstance(best, dict):
        raise ValueError(f"best must be one of the evaluations to update {evaluated}, got {best!r:.60}")
    lowest = min(seen, key=lambda line: float(line["test_error"]))
    if _strict(best) != _strict(timeless(lowest)):
        raise ValueError(
            f"best must be the best evaluation of metrics.jsonl to update {evaluated}, that after update "
            f"{lowest['step']}, got {best!r:.60}"
        )


def _check_running(running: Mapping[str, Any], batches: int, known: Known) -> None:
    """Refuse sums of other than the batches since the last evaluation."""
    _sum(running, "batches", batches, known)
    seen = known.batch_size * -(-batches // READ_EVERY)
    if _count(running, "seen") != seen:
        raise ValueError(f"seen must be {seen} images of {batches} batches, got {running['seen']}")
    _count(running, "wrong", seen)


def _check_losses(losses: Mapping[str, Any], step: int, known: Known) -> None:
    """Refuse sums of other than the updates since the last line of losses.jsonl."""
    count = _count(losses, "updates", step)
    if known.losses is None:  # of an earlier version, or somebody removed it
        _sum(losses, "updates", count, known)
        return
    last = max((line["step"] for line in known.losses if line["step"] <= step), default=0)
    if count != step - last:
        raise ValueError(
            f"losses must be of {step - last} updates, as the last line of losses.jsonl to update {step} is of update "
            f"{last}, got {losses['updates']}; put that file back if it was changed"
        )
    _sum(losses, "updates", step - last, known)


def _sum(sums: Mapping[str, Any], name: str, count: int, known: Known) -> None:
    """Refuse what is no sum of so many losses, none of which is negative or not finite."""
    if _count(sums, name) != count:
        raise ValueError(f"{name} must be {count}, got {sums[name]}")
    loss = sums["loss"]
    if type(loss) not in (int, float) or not 0 <= loss <= sys.float_info.max or loss > count * known.largest:
        raise ValueError(f"loss must be a sum of {count} losses, got {loss!r:.60}")


def _strict(content: Mapping[str, Any]) -> str:
    """Return what tells 1, 1.0 and true apart."""
    return json.dumps(content, sort_keys=True)


def timeless(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return an evaluation without what differs between two runs of one command."""
    return {name: value for name, value in evaluation.items() if name not in TIME_FIELDS}


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


def _plain(generator: Any) -> None:
    """Refuse numbers in a generator's state that are none of its bits."""
    if isinstance(generator, dict):
        if type(inc := generator.get("inc")) is int and inc % 2 == 0:
            raise ValueError(f"the increment of a generator must be odd, got {inc}")
        if generator.get("has_uint32", 0) not in (0, 1):
            raise ValueError(f"has_uint32 of a generator must be 0 or 1, got {generator['has_uint32']!r:.60}")
        for value in generator.values():
            _plain(value)
    elif isinstance(generator, list):
        for value in generator:
            _plain(value)
    elif not isinstance(generator, str) and (type(generator) is not int or not 0 <= generator < 1 << 128):
        raise ValueError(f"a generator's state must be whole numbers of 128 bits, got {generator!r:.60}")
