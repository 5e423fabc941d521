"""The folder of a run: what is in it, when it may be continued, and each evaluation once in its log."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import NoFileError, open_own, read_file
from .checkpoint import save, sync_folder, write_atomic
from .config import Config
from .evaluation import check_evaluation, check_line
from .lock import BusyError, FolderLock
from .parts import check_parts


class RunError(RuntimeError):
    """A run that cannot be started or continued; its message is one line that names the cure."""

    exit_status = 1


class DataChangedError(RunError):
    """The data of a run is not what it was; the message says what changed."""

    exit_status = 4


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
        if "\0" in os.fspath(path):
            raise RunError("the name of a run's folder must have no null character; give another --out")
        self.path = Path(path)
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
            raise RunError(f"{self.path} holds no run to resume; leave out --resume to start one, or correct --out")

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

    def make(self) -> None:
        """Make the folder, if it is not there; RunError if a run was started in it meanwhile."""
        self._refuse_a_run()
        self.path.mkdir(parents=True, exist_ok=True)

    def start(self, content: dict[str, Any]) -> None:
        """Write config.json, unless another process has meanwhile: RunError then."""
        self._refuse_a_run()
        self.refuse_a_link()
        for file in (self.metrics_file, self.losses_file):
            if os.path.lexists(file):
                raise RunError(f"{file} is there without the config.json of its run; remove it, or give another --out")
        self.write_config(content)

    def _refuse_a_run(self) -> None:
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
            save(self.checkpoints, step, tensors, meta)

    def read_config(self) -> dict[str, Any]:
        """Return what `write_config` wrote."""
        return read_config(self.path)

    def write_config(self, content: dict[str, Any]) -> None:
        """Write config.json."""
        write_atomic(self.config_file, _pretty(content))

    def extend(self, content: dict[str, Any]) -> None:
        """Write the config.json of a run that is longer now; the summary of the shorter one goes."""
        self.summary_file.unlink(missing_ok=True)
        self.write_config(content)

    def go_on(self, now: dict[str, Any], step: int, warn: Callable[[str], None]) -> None:
        """Note in config.json, and say, if the run goes on after `step` updates by other means than before.

        Parameters
        ----------
        now : dict
            "backend" and "ranks": settings that may change within a run, and change its numbers.
        """
        for left in self.path.glob(".*.tmp"):  # of a process that was killed while it wrote: the folder is ours now
            left.unlink()
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
        write_atomic(self.summary_file, _pretty(content))

    def append(self, evaluation: dict[str, Any]) -> None:
        """Add one line to metrics.jsonl; it is on the disk when this returns, and not there at all if it raises."""
        _append(self.metrics_file, [evaluation], lasting=True)

    def append_losses(self, lines: list[dict[str, Any]], lasting: bool) -> None:
        """Add lines to losses.jsonl, none of them if it raises; `lasting` ones are on the disk when this returns."""
        _append(self.losses_file, lines, lasting)

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
        kept = [line for line in self.read_metrics() if line["step"] <= evaluated]
        write_atomic(self.metrics_file, _lines(kept))
        if self.losses_file.exists():
            losses = read_losses(self.losses_file)
            write_atomic(self.losses_file, _lines([line for line in losses if line["step"] <= step]))
        return kept


def going_on(content: dict[str, Any]) -> dict[str, Any]:
    """Return by what means the run of a config.json was trained last: "backend" and "ranks"."""
    start = {"ranks": 1, **content["config"]}
    found = {name: start[name] for name in ("backend", "ranks")}
    for change in content.get("went_on", []):
        found |= {name: value for name, value in change.items() if name in found}
    return found


def _means(means: dict[str, Any]) -> str:
    return " and ".join(
        f"{value} process{'es' * (value > 1)}" if name == "ranks" else str(value) for name, value in means.items()
    )


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a run's config.json, its parts checked; RunError if it is damaged."""
    file = Path(folder) / "config.json"
    try:
        content = json.loads(_read_file(file).decode("utf-8-sig"))
        check_parts(content)
        if missing := {"model", "task", "norm", "backend"} - content["config"].keys():
            raise ValueError(f"config has no {', '.join(sorted(missing))}")
        Config.from_json(content["config"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        what = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise RunError(f"{file} is damaged ({what}); start again with another --out") from error
    return dict(content)


def read_summary(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the summary.json of a finished run; None if there is none, or it is damaged."""
    file = Path(folder) / "summary.json"
    if not os.path.lexists(file):
        return None
    try:
        summary = json.loads(_read_file(file).decode("utf-8-sig"))
        for name in ("last", "best"):
            check_evaluation(summary[name])
        return dict(summary) if summary["status"] == "finished" else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the evaluations in a metrics.jsonl, oldest first; a last line cut off by a crash is left out."""
    return _read(path, check_evaluation)


def read_losses(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of a losses.jsonl, as `read_metrics` does."""
    return _read(path, _check_losses)


def _check_losses(line: Any) -> dict[str, Any]:
    if not isinstance(line, dict) or not {"step", "epoch", "train_loss"} <= line.keys() or line["train_loss"] is None:
        raise ValueError
    check_line(line)
    return line


def _read(path: str | os.PathLike[str], check: Callable[[Any], dict[str, Any]]) -> list[dict[str, Any]]:
    lines = _read_file(Path(path)).split(b"\n") if os.path.lexists(path) else []
    evaluations = []
    for number, line in enumerate(lines[:-1], start=1):  # a whole line ends with a newline, so the last piece is none
        try:
            evaluations.append(check(json.loads(line)))
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise RunError(f"{path} is damaged in line {number}; mend or remove that line") from error
    return evaluations


def _read_file(path: Path) -> bytes:
    """Return the content of a file of a run; RunError if it cannot be read."""
    try:
        return read_file(path)
    except NoFileError as error:
        raise RunError(f"{path} is no file; put the run's own back, or give another --out") from error
    except OSError as error:
        raise RunError(
            f"{path} cannot be read ({error.strerror or error}); make it readable, or give another --out"
        ) from error


def describe_evaluation(evaluation: dict[str, Any]) -> str:
    """Return an evaluation in one line."""
    errors = evaluation["test_errors"]
    each = ", ".join(f"{name} {error:.2f}" for name, error in errors.items())
    when = f"epoch {evaluation['epoch']:.4g}, update {evaluation['step']}"
    top5 = f", top-5 {evaluation['test_error_top5']:.2f} %" if "test_error_top5" in evaluation else ""
    of_each = f" ({each})" if len(errors) > 1 else ""
    found = "; modes " + " ".join(map(str, evaluation["modes"].values())) if "modes" in evaluation else ""
    return f"{when}: test error {evaluation['test_error']:.2f} %{top5}{of_each}{found}"


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
    differences = [
        f"{name} {there.get(name)!r} there, {asked.get(name)!r} asked" for name in names if name not in hashes
    ]
    differences = differences or [f"another {name}" for name in hashes]
    if differences:
        raise RunError(
            f"{path} holds another run: {'; '.join(differences)}. Leave those settings out, or give another --out"
        )


def check_log(lines: Sequence[Mapping[str, Any]], every: int, path: Path, what: str, ends: Sequence[int] = ()) -> None:
    """Refuse to continue a log that lacks a line before its last, or has one too many.

    They are due after every `every` updates, and after each of `ends`.

    Parameters
    ----------
    lines : sequence of dict
    every, ends
    path : Path
        The log, to be named.
    what : str
        What a line has, such as "evaluation".

    Raises
    ------
    RunError
        With the first one that is missing.
    """
    there = [line["step"] for line in lines]
    known = set(there)
    last = max(known, default=0)
    # the numbers of updates come from files: no more of them are looked at than the log has lines
    multiples = range(every, last + 1, every)
    missing = next((step for step in multiples if step not in known), None)
    if missing is None:
        due = sorted({*multiples, *(end for end in ends if 0 < end <= last)})
        missing = None if there == due else next((step for step in due if step not in known), last)
    if missing is not None:
        raise RunError(
            f"{path} lacks the {what} after update {missing}, or has others; put the file back, or start a new run "
            "with another --out"
        )


def _append(path: Path, lines: list[dict[str, Any]], lasting: bool) -> None:
    data = _lines(lines)
    new = not path.exists()
    try:
        descriptor = open_own(path, os.O_WRONLY | os.O_APPEND)
    except NoFileError as error:
        raise RunError(f"{path} {error.strerror}; remove it, then --resume, or give another --out") from error
    with os.fdopen(descriptor, "ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(data):
                written += file.write(data[written:])
            if lasting:
                os.fsync(file.fileno())
        except BaseException:
            file.truncate(size)
            raise
    if new and lasting:
        sync_folder(path.parent)


def _lines(contents: list[dict[str, Any]]) -> bytes:
    return b"".join(_strict(content).encode() + b"\n" for content in contents)


def _strict(content: dict[str, Any]) -> str:
    """Return strict JSON: a number that is not finite is a ValueError."""
    return json.dumps(content, allow_nan=False)


def _pretty(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, allow_nan=False).encode() + b"\n"
