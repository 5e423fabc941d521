"""The files of a run: its config.json, its summary and its logs, whatever they hold."""

import errno
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import NoFileError, naming, open_own, read_file, sync_folder
from .config import Config
from .evaluation import check_evaluation, check_line
from .parts import check_parts

_MOST = 1 << 28  # bytes of a file of a run: two million lines of a log


class RunError(RuntimeError):
    """A run that cannot be started or continued; its message is one line that names the cure."""

    exit_status = 1


class DataChangedError(RunError):
    """The data of a run is not what it was; the message says what changed."""

    exit_status = 4


def going_on(content: dict[str, Any]) -> dict[str, Any]:
    """Return by what means the run of a config.json was trained last: "backend" and "ranks"."""
    start = {"ranks": 1, **content["config"]}
    found = {name: start[name] for name in ("backend", "ranks")}
    for change in content.get("went_on", []):
        found |= {name: value for name, value in change.items() if name in found}
    return found


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
        kept = sorted((Path(folder) / "checkpoints").glob("step-*.safetensors"))
        if kept:
            what += f"; without it {kept[-1]} can be used alone, and trained on with --from"
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
    return _read(path, _check_metrics)


def read_losses(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of a losses.jsonl, as `read_metrics` does."""
    return _read(path, _check_losses)


def _check_metrics(line: Any) -> dict[str, Any]:
    if check_evaluation(line).get("seconds") is None:  # which every version wrote, and a resumed run counts on from
        raise ValueError
    return line  # type: ignore[no-any-return]


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
    """Return the content of a file of a run; RunError if it cannot be read, or is larger than any that a run writes."""
    try:
        return read_file(path, _MOST)
    except NoFileError as error:
        raise RunError(f"{path} is no file; put the run's own back, or give another --out") from error
    except OSError as error:
        cure = "put the run's own back" if error.errno == errno.EFBIG else "make it readable"
        raise RunError(f"{path} cannot be read ({error.strerror or error}); {cure}, or give another --out") from error


def describe_evaluation(evaluation: dict[str, Any]) -> str:
    """Return an evaluation in one line."""
    errors = evaluation["test_errors"]
    each = ", ".join(f"{name} {error:.2f}" for name, error in errors.items())
    when = f"epoch {evaluation['epoch']:.4g}, update {evaluation['step']}"
    top5 = f", top-5 {evaluation['test_error_top5']:.2f} %" if "test_error_top5" in evaluation else ""
    of_each = f" ({each})" if len(errors) > 1 else ""
    found = "; modes " + " ".join(map(str, evaluation["modes"].values())) if "modes" in evaluation else ""
    return f"{when}: test error {evaluation['test_error']:.2f} %{top5}{of_each}{found}"


def check_log(
    lines: Sequence[Mapping[str, Any]], every: int, path: Path, what: str, ends: Sequence[int], start: int = 0
) -> None:
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
    start : int
        The update after which the log begins.

    Raises
    ------
    RunError
        With the first one that is missing.
    """
    there = [line["step"] for line in lines]
    known = set(there)
    last = max(known, default=0)
    # the numbers of updates come from files: no more of them are looked at than the log has lines
    multiples = range(start // every * every + every, last + 1, every)
    missing = next((step for step in multiples if step not in known), None)
    if missing is None:
        due = sorted({*multiples, *(end for end in ends if start < end <= last)})
        missing = None if there == due else next((step for step in due if step not in known), last)
    if missing is not None:
        raise RunError(
            f"{path} lacks the {what} after update {missing}, or has others; put the file back, or start a new run "
            "with another --out"
        )


def append_lines(path: Path, lines: list[dict[str, Any]], lasting: bool) -> None:
    """Add lines to a log, none of them if it raises; `lasting` ones are on the disk when this returns."""
    data = as_lines(lines)
    new = not path.exists()
    try:
        descriptor = open_own(path, os.O_WRONLY | os.O_APPEND)
    except NoFileError as error:
        raise RunError(
            f"{path} {error.strerror}; remove it, put the run's own back if it had one, then --resume, or give another "
            "--out"
        ) from error
    with naming(path), os.fdopen(descriptor, "ab", buffering=0) as file:
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


def as_lines(contents: list[dict[str, Any]]) -> bytes:
    """Return the lines of a log."""
    return b"".join(_strict(content).encode() + b"\n" for content in contents)


def _strict(content: dict[str, Any]) -> str:
    """Return strict JSON: a number that is not finite is a ValueError."""
    return json.dumps(content, allow_nan=False)


def pretty(content: dict[str, Any]) -> bytes:
    """Return strict JSON for people to read."""
    return json.dumps(content, indent=2, allow_nan=False).encode() + b"\n"
