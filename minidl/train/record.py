"""The folder of a run: what is in it, when it may be continued, and each evaluation once in its log."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .checkpoint import write_atomic
from .recipes import Config

TIME_FIELDS = ("seconds", "images_per_second")  # all that differs between two runs of one command


class RunError(RuntimeError):
    """A run that cannot be started or continued; its message is one line that names the cure."""


class RunFolder:
    """One run's folder: config.json, metrics.jsonl, summary.json, curves.png and checkpoints/.

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
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.summary_file = self.path / "summary.json"
        self.curves_file = self.path / "curves.png"
        self.checkpoints = self.path / "checkpoints"
        there = self.config_file.exists()
        if there and not resume:
            raise RunError(f"{self.path} already holds a run; --resume continues it, another --out starts a new one")
        if resume and not there:
            raise RunError(f"{self.path} holds no run to resume; leave out --resume to start one, or correct --out")

    def read_config(self) -> dict[str, Any]:
        """Return what `write_config` wrote."""
        try:
            content = json.loads(self.config_file.read_text())
            Config.from_json(content["config"])
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"{self.config_file} is damaged ({error}); start again with another --out") from error
        return dict(content)

    def write_config(self, content: dict[str, Any]) -> None:
        """Make the folder and write config.json."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.config_file, _pretty(content))

    def go_on(self, backend: str, step: int, warn: Callable[[str], None]) -> None:
        """Note in config.json, and say, if the run goes on after `step` updates with another backend than before."""
        content = self.read_config()
        changes = content.get("went_on", [])
        before = [content["config"], *changes][-1]["backend"]
        if backend != before:
            self.write_config({**content, "went_on": [*changes, {"after_update": step, "backend": backend}]})
            warn(
                f"{self.path} goes on with {backend} after update {step}, {before} before: "
                "its numbers are those of neither alone"
            )

    def write_summary(self, content: dict[str, Any]) -> None:
        """Write summary.json."""
        write_atomic(self.summary_file, _pretty(content))

    def append(self, evaluation: dict[str, Any]) -> None:
        """Add one line to metrics.jsonl; it is on the disk when this returns."""
        with self.metrics_file.open("ab") as file:
            file.write(json.dumps(evaluation).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl; one cut off by a crash is left out."""
        return read_metrics(self.metrics_file)

    def forget_after(self, step: int) -> list[dict[str, Any]]:
        """Drop the log's lines after a step, which training from its checkpoint will write again; return the rest."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        write_atomic(self.metrics_file, b"".join(json.dumps(line).encode() + b"\n" for line in kept))
        return kept


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the evaluations in a metrics.jsonl, oldest first; a last line cut off by a crash is left out."""
    lines = Path(path).read_bytes().split(b"\n") if Path(path).exists() else []
    evaluations = []
    for number, line in enumerate(lines[:-1], start=1):  # a whole line ends with a newline, so the last piece is none
        try:
            evaluations.append(json.loads(line))
        except ValueError as error:
            raise RunError(f"{path} is damaged in line {number}; mend or remove that line") from error
    return evaluations


def describe_evaluation(evaluation: dict[str, Any]) -> str:
    """Return an evaluation in one line."""
    each = ", ".join(f"{name} {error:.2f}" for name, error in evaluation["test_errors"].items())
    when = f"epoch {evaluation['epoch']:.4g}, update {evaluation['step']}"
    top5 = f", top-5 {evaluation['test_error_top5']:.2f} %" if "test_error_top5" in evaluation else ""
    return f"{when}: test error {evaluation['test_error']:.2f} %{top5} ({each})"


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
    differences = [
        f"{name} {there.get(name)!r} there, {asked.get(name)!r} asked"
        for name in {**there, **asked}
        if there.get(name) != asked.get(name)
    ]
    if differences:
        raise RunError(
            f"{path} holds another run: {'; '.join(differences)}. Leave those settings out, or give another --out"
        )


def _pretty(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"
