"""What a run or a checkpoint holds of its network: found by a folder's or a file's name."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import log
from ..data.fit import FITS
from ..files import NoHomeError, expanded, is_kind
from ..outputs import is_exported
from . import checkpoint, restore, stages
from .parts import check_parts
from .record import RunError, read_config

_WIDEST = 4096  # pixels of a side of what a network takes
_LARGEST = 1e30  # of a mean, a deviation and what divides by it: float32 holds the pixels that come of them


@dataclass(frozen=True)
class Stored:
    """A checkpoint and the record that belongs to it.

    Attributes
    ----------
    where : Path
        As it was asked for.
    run : Path or None
        The run's folder; None for a checkpoint that is alone.
    file : Path
        The checkpoint.
    record : dict
        The run's config.json, or the part of it that a checkpoint has.
    tensors : dict
        The arrays of the checkpoint.
    step : int
    """

    where: Path
    run: Path | None
    file: Path
    record: dict[str, Any]
    tensors: dict[str, np.ndarray]
    step: int


def find(where: Path) -> Stored:
    """Return the newest whole checkpoint of a run's folder, or the checkpoint that is named, with its record.

    Raises
    ------
    RunError
        There is nothing of the kind there, or it was written by a version that did not record what is needed.
    CheckpointError
        The checkpoint is damaged.
    """
    try:
        return _find(expanded(where))
    except NoHomeError as error:
        raise RunError(str(error)) from error
    except OSError as error:
        closed = error.filename or where
        raise RunError(
            f"{closed}: cannot be looked into ({error.strerror or error}); check the path and its rights"
        ) from error


def _find(where: Path) -> Stored:
    if is_kind(stat.S_ISDIR, where):
        if not (where / "config.json").exists():
            kept = sorted((where / "checkpoints").glob("step-*.safetensors"))
            cure = f"{kept[-1]}, which can be used alone" if kept else "the folder that --out named"
            raise RunError(f"{where} holds no run: it has no config.json; give {cure}")
        of_run = read_config(where)
        digests = stages.digests(of_run)

        def use(path: Path, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> Stored:
            _check_is_of(path, meta, digests, of_run, where)
            return _stored(where, where, path, of_run, tensors, meta)

        found = checkpoint.use_latest(
            where / "checkpoints",
            lambda line: log.warn("minidl", line),
            use,
        )
        if found is not None:
            return found
        if (where / "summary.json").exists():
            raise RunError(f"{where} was trained to its end, and its checkpoints are gone; put them back")
        raise RunError(f"{where} has no checkpoint yet; train it: python -m minidl.train --out {where} --resume")
    if not where.exists():
        raise RunError(f"{where}: no such run or checkpoint; give a run's folder or a file in its checkpoints")
    if where.suffix != ".safetensors" and (where.parent / "config.json").exists():
        raise RunError(f"{where} is no checkpoint, it is a file of a run; give the run's folder, {where.parent}")
    if is_exported(where):
        raise RunError(
            f"{where} is no checkpoint of minidl but an exported network; give the run's folder or a file in its "
            "checkpoints"
        )
    try:
        tensors, meta = checkpoint.load(where, lambda line: log.warn("minidl", line))
    except checkpoint.CheckpointError as error:
        cure = "give a run's folder or a file in its checkpoints"
        if where.suffix != ".safetensors":
            raise checkpoint.CheckpointError(f"{where} is no checkpoint of minidl; {cure}") from error
        raise checkpoint.CheckpointError(f"{error}; {cure}") from error
    run = where.absolute().parent.parent
    beside = where.parent.name == "checkpoints" and (run / "config.json").exists()
    record = read_config(run) if beside else meta.get("run")
    if record is None:
        raise RunError(f"{where}: its run is not known; give a file in the checkpoints of a run's folder")
    if beside:
        _check_is_of(where, meta, stages.digests(record), record, run)
    return _stored(where, run if beside else None, where, record, tensors, meta)


def _check_is_of(file: Path, meta: dict[str, Any], digests: set[str], record: dict[str, Any], run: Path) -> None:
    """Refuse a checkpoint of another run than the config.json beside it, unless an earlier version wrote that."""
    if not restore.is_of(meta, digests) and not stages.lacking(record, meta):
        raise checkpoint.CheckpointError(f"{file} belongs to another run than {run / 'config.json'}")


def _stored(
    where: Path, run: Path | None, file: Path, record: dict[str, Any], tensors: dict[str, np.ndarray], meta: Any
) -> Stored:
    try:
        restore.check_names(meta)
        restore.check_values(tensors)
    except ValueError as error:
        raise checkpoint.CheckpointError(f"{file} cannot be used: {error}") from error
    try:
        check_parts(record, ("config",))
    except ValueError as error:
        raise RunError(f"{where}: its record is damaged: {error}; train it anew") from error
    if "input" not in record:
        record = {**record, "input": _input_of_older_run(where, record)}
    if not _is_record(record):
        raise RunError(f"{where}: its record is damaged: it does not say what the network takes; train it anew")
    return Stored(where, run, file, record, tensors, int(meta["step"]))


def _input_of_older_run(where: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return what an earlier version did not record of a run's inputs, from its data."""
    from ..data import DataError
    from . import build, describe
    from .config import Config
    from .span import ConfigError

    try:
        config = Config.from_json(record["config"])
        task = build.find_task(config)
        return describe.describe_input(task, build.make_loaders(config, task, np.random.default_rng(0))[0])
    except (DataError, ConfigError) as error:
        raise RunError(f"{where}: an earlier version trained it, and its data is needed once more ({error})") from error


def _is_record(record: Any) -> bool:
    """Whether all that `minidl.load` uses of a record is there."""
    try:
        named = [facts["name"] + (facts["sha256"] or "") for facts in record.get("code", {}).values()]
        config = record["config"]
        of_network = all(isinstance(config[name], str) for name in ("model", "task", "norm"))
        return of_network and _is_input(record["input"]) and all(map(str, named))
    except (TypeError, KeyError, AttributeError):
        return False


def _is_input(about: Any) -> bool:
    """Whether this is what `describe.describe_input` returns."""
    try:
        numbers = [number for name in ("mean", "std") for number in about[name]]
        return bool(
            all(isinstance(name, str) for name in about["class_names"])
            and len(about["class_names"]) > 0
            and len(about["shape"]) == 3
            and all(type(side) is int and 0 < side <= _WIDEST for side in about["shape"])
            and about["shape"][0] == 3
            and [len(about[name]) for name in ("mean", "std")] == [3, 3]
            and all(type(number) in (int, float) and abs(number) < _LARGEST for number in numbers)
            and min(numbers[3:]) > 1 / _LARGEST
            and about["fit"] in FITS
        )
    except (TypeError, ValueError, KeyError, OverflowError):
        return False


def under(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
