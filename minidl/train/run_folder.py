"""The folder of a run: one process at a time in it, when it may be continued, and each evaluation once in its log."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import shown
from ..files import NoHomeError, expanded, make_folder, no_folder
from ..half_written import remove_half_written
from ..writing import write_atomic
from . import checkpoint
from .lock import BusyError, FolderLock
from .record import RunError, append_lines, as_lines, going_on, pretty, read_config, read_losses, read_metrics

_WRITTEN_WHOLE = re.compile(r"(config|summary)\.json|(metrics|losses)\.jsonl|curves\.png")


class RunFolder:
    """One run's folder: config.json, metrics.jsonl, losses.jsonl, summary.json, curves.png and checkpoints/.

    Parameters
    ----------
    path : Path
    resume : bool
        Continue the run that is there; otherwise there must be none.

    Raises
    ------
    RunError
        If there is a run and `resume` is not asked for, or the other way round.
    """

    def __init__(self, path: str | os.PathLike[str], resume: bool) -> None:
        self.path = own_path(path)
        self.config_file = self.path / "config.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.losses_file = self.path / "losses.jsonl"
        self.summary_file = self.path / "summary.json"
        self.curves_file = self.path / "curves.png"
        self.checkpoints = self.path / "checkpoints"
        self._lock = FolderLock(self.path)
        if not resume:
            self._refuse_a_run()
        elif not self.config_file.exists():
            raise RunError(self._without_record())

    def _without_record(self) -> str:
        """Return what to do where config.json is missing."""
        kept = sorted(self.checkpoints.glob("step-*.safetensors"))
        if not kept and not self.metrics_file.exists():
            return f"{self.path} holds no run to resume; leave out --resume to start one, or correct --out"
        weights = f" (--from {kept[-1]} starts it with the weights that were saved)" if kept else ""
        return (
            f"{self.path} holds no run to resume: its config.json is gone; put it back, or start a new run with "
            f"another --out{weights}"
        )

    def __enter__(self) -> "RunFolder":
        """Hold the folder: RunError if another process does, or did since this object held it last."""
        try:
            self._lock.__enter__()
        except BusyError as error:
            raise RunError(str(error)) from error
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(*error)

    def keep(self) -> None:
        """Hold the folder on after this ``with`` block, until the end of the next."""
        self._lock.keep()

    def check(self) -> None:
        """Raise RunError where the folder that this object holds no longer has its name."""
        try:
            self._lock.check()
        except BusyError as error:
            raise RunError(str(error)) from error

    def make(self) -> None:
        """Make the folder, if it is not there; RunError if a run was started in it meanwhile."""
        self._refuse_a_run()
        make_folder(self.path)

    def start(self, content: dict[str, Any]) -> None:
        """Write config.json, unless another process has meanwhile: RunError then."""
        self._refuse_a_run()
        self.refuse_a_link()
        remove_half_written(self.path, _WRITTEN_WHOLE)
        for file in (self.metrics_file, self.losses_file, self.summary_file, self.curves_file):
            if os.path.lexists(file):
                raise RunError(
                    f"{file} is there without the config.json of its run; remove it, or give another --out; or put "
                    "config.json back, and --resume goes on"
                )
        self.write_config(content)

    def _refuse_a_run(self) -> None:
        if (what := no_folder(self.path)) is not None:
            raise RunError(f"{self.path} {what}; give another --out")
        if self.config_file.exists():
            raise RunError(f"{self.path} already holds a run; --resume continues it, another --out starts a new one")

    def refuse_a_link(self) -> None:
        """Raise RunError where the checkpoints would be written through a link: what it leads to is somebody else's."""
        if self.checkpoints.is_symlink():
            raise RunError(
                f"{self.checkpoints} is a link; put the folder that it leads to in its place, or give another --out"
            )

    def save(self, step: int, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Write a checkpoint, as `minidl.train.checkpoint.save` does."""
        self.refuse_a_link()
        with self:
            self.check()
            checkpoint.save(self.checkpoints, step, tensors, meta)

    def read_config(self) -> dict[str, Any]:
        """Return what `write_config` wrote."""
        return read_config(self.path)

    def write_config(self, content: dict[str, Any]) -> None:
        """Write config.json."""
        self.check()
        write_atomic(self.config_file, pretty(content))

    def extend(self, content: dict[str, Any]) -> None:
        """Write the config.json of a run that is longer now; the summary of the shorter one goes."""
        self.check()
        self.summary_file.unlink(missing_ok=True)
        self.write_config(content)

    def go_on(self, now: dict[str, Any], step: int, warn: Callable[[str], None]) -> None:
        """Note in config.json, and say, if the run goes on after `step` updates by other means than before.

        Parameters
        ----------
        now : dict
            "backend" and "ranks": settings that may change within a run, and change its numbers.
        """
        remove_half_written(self.path, _WRITTEN_WHOLE)  # the folder is ours now
        content = self.read_config()
        changes = content.get("went_on", [])
        before = going_on(content)
        changed = {name: value for name, value in now.items() if value != before[name]}
        if changed:
            self.write_config({**content, "went_on": [*changes, {"after_update": step, **changed}]})
            with_, without = (_means({name: means[name] for name in changed}) for means in (now, before))
            warn(
                f"{self.path} goes on with {with_} after update {step}, {without} before: "
                "its numbers are those of neither alone"
            )

    def write_summary(self, content: dict[str, Any]) -> None:
        """Write summary.json."""
        self.check()
        write_atomic(self.summary_file, pretty(content))

    def append(self, evaluation: dict[str, Any]) -> None:
        """Add one line to metrics.jsonl; it is on the disk when this returns, and not there at all if it raises."""
        self.check()
        append_lines(self.metrics_file, [evaluation], lasting=True)

    def append_losses(self, lines: list[dict[str, Any]], lasting: bool) -> None:
        """Add lines to losses.jsonl, none of them if it raises; `lasting` ones are on the disk when this returns."""
        self.check()
        append_lines(self.losses_file, lines, lasting)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl; one cut off by a crash is left out."""
        return read_metrics(self.metrics_file)

    def read_losses(self) -> list[dict[str, Any]]:
        """Return the lines of losses.jsonl, as `read_metrics` does."""
        return read_losses(self.losses_file)

    def forget_after(self, evaluated: int, step: int) -> list[dict[str, Any]]:
        """Drop what training from a checkpoint will write again; return the evaluations that are left.

        Parameters
        ----------
        evaluated, step : int
            The update of the checkpoint's last evaluation, and that of the checkpoint.
        """
        self.check()
        kept = [line for line in self.read_metrics() if line["step"] <= evaluated]
        write_atomic(self.metrics_file, as_lines(kept))
        if self.losses_file.exists():
            losses = read_losses(self.losses_file)
            write_atomic(self.losses_file, as_lines([line for line in losses if line["step"] <= step]))
        return kept


def own_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a run's folder, its ``~`` replaced; RunError where no folder can have that name."""
    if not isinstance(path, str | os.PathLike):
        raise RunError(f"Trainer: out must be a path, got {shown(path)}; give the folder of the run")
    if "\0" in os.fspath(path):
        raise RunError("the name of a run's folder must have no null character; give another --out")
    try:
        return expanded(path)
    except NoHomeError as error:
        raise RunError(f"{error}, or give another --out") from error


def _means(means: dict[str, Any]) -> str:
    return " and ".join(
        f"{value} process{'es' * (value > 1)}" if name == "ranks" else str(value) for name, value in means.items()
    )


def check_same_run(there: dict[str, Any], asked: dict[str, Any], path: Path) -> None:
    """Refuse to continue a run with other settings.

    Parameters
    ----------
    there, asked : dict
        Identities: of the run in the folder, and of the one asked for.
    path : Path
        The folder, to be named.

    Raises
    ------
    RunError
        With every difference.
    """
    names = [name for name in {**there, **asked} if there.get(name) != asked.get(name)]
    if names == ["started_from_sha256"]:
        raise RunError(
            f"{path} has no checkpoint yet, and what it was started --from has changed since; put that back as it was, "
            "or give another --out"
        )
    hashes = [name for name in names if name.endswith("sha256")]  # which say nothing to a reader
    told = {f"{name}_name" for name in ("norm", "model") if name in names}  # by the setting itself
    names = [name for name in names if name not in told]
    differences = [
        f"{name} {there.get(name)!r} there, {asked.get(name)!r} asked" for name in names if name not in hashes
    ]
    differences = differences or [f"another {name}" for name in hashes]
    if differences:
        raise RunError(
            f"{path} holds another run: {'; '.join(differences)}. Leave those settings out, or give another --out"
        )
