"""The results folder: each run in a folder of its own, found again by the hash of all that decides its numbers."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minidl.files import read_file
from minidl.reproduce.plan import Run
from minidl.train.config import Config, digest
from minidl.train.describe import settings
from minidl.train.record import read_metrics
from minidl.train.span import ConfigError

SCHEMA = 1  # to be raised when the same settings come to give other numbers

Data = dict[str, Any]  # the "data" of a run's config.json: images found, and a hash of them


class ReproduceError(RuntimeError):
    """Something that cannot be reproduced or reported; its message is one line that names the cure."""

    exit_status = 1


def run_hash(config: Config, data: Data) -> str:
    """Return the sha256 of all that decides a run's numbers: every setting that does, the data, and SCHEMA."""
    return digest({"schema": SCHEMA, "settings": settings({"config": config.to_json()}), "data": data})


def folder_name(config: Config, data: Data) -> str:
    """Return the name of a run's folder: readable, then the hash.

    Examples
    --------
    >>> folder_name(Config(norm="bn"), {})[:-12]
    'lenet-multitask-bn-n128-seed0'
    """
    return f"{replace(config, sample=False).name()}-{run_hash(config, data)[:11]}"


@dataclass(frozen=True)
class StoredRun:
    """A run of the folder, as its config.json and summary.json tell."""

    path: Path
    config: Config
    data: Data
    minidl: str
    summary: dict[str, Any] | None  # None until it is finished

    @property
    def hash(self) -> str:
        """The `run_hash`, computed anew: it stays the same when Config gains a field."""
        return run_hash(self.config, self.data)

    def history(self) -> list[dict[str, Any]]:
        """Return its evaluations so far."""
        return read_metrics(self.path / "metrics.jsonl")

    def result(self) -> dict[str, Any]:
        """Return the summary of a finished run."""
        if self.summary is None:
            raise ReproduceError(f"{self.path} is not finished; run it to its end first")
        return self.summary


class Store:
    """The runs below `folder`/runs.

    Parameters
    ----------
    folder : path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"

    def read(self) -> dict[str, StoredRun]:
        """Return the runs by hash, a finished one before an unfinished one of the same hash.

        Raises
        ------
        ReproduceError
            If a config.json or summary.json is damaged.
        """
        found: dict[str, StoredRun] = {}
        for file in sorted(self.runs.glob("*/config.json")):
            run = _read(file)
            if run.summary is not None or run.hash not in found:
                found[run.hash] = run
        return found

    def path_of(self, config: Config, data: Data) -> Path:
        """Return the folder of a run that is not there yet."""
        return self.runs / folder_name(config, data)

    def example(self, planned: Iterable[Run]) -> StoredRun:
        """Return a stored run with the settings of a planned one: its data is that of all such runs.

        Raises
        ------
        ReproduceError
            If there is no such run, or they were trained on different data.
        """
        wanted = {run_hash(run.config, {}) for run in planned}
        found = {digest(run.data): run for run in self.read().values() if run_hash(run.config, {}) in wanted}
        if not found:
            raise ReproduceError(f"{self.runs} has no run of this table and --scale; leave out --report-only to train")
        if len(found) > 1:
            raise ReproduceError(f"{self.runs} has runs on different data; say which with --data-dir or --sample")
        return next(iter(found.values()))


def _read(file: Path) -> StoredRun:
    try:
        content = json.loads(read_file(file))
        config = Config.from_json(content["config"])
        if content.get("went_on"):
            raise ReproduceError(f"{file.parent} was trained with two backends; move it away to train the run anew")
        if content.get("stages"):
            raise ReproduceError(f"{file.parent} was extended while it went on; move it away to train the run anew")
        summary_file = file.with_name("summary.json")
        summary = json.loads(read_file(summary_file)) if summary_file.exists() else None
        finished = summary is not None and summary["status"] == "finished" and summary["best"] and summary["last"]
        return StoredRun(file.parent, config, content["data"], content["minidl"], summary if finished else None)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError, ConfigError) as error:
        raise ReproduceError(f"{file.parent} is damaged ({error!r}); remove that folder") from error
