"""A run's numbers for TensorBoard, written by the `tensorboard` package's own writer; TensorFlow is not needed."""

from __future__ import annotations

import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ..files import make_folder
from .config import Config
from .recipes import folder_name
from .record import RunError
from .run_folder import RunFolder


def events_folder(config: Config, run: RunFolder | None) -> Path | None:
    """Return where a run's events go; None where it writes none."""
    if config.tensorboard is None:
        return None
    return Path(config.tensorboard) / (folder_name(config) if run is None else run.path.resolve().name)


class TensorBoard:
    """Writes evaluations and losses as scalars, over the updates done.

    A session begins with TensorBoard's mark that what was written for later updates is void: so each update is there
    once, also where a process was killed after its last checkpoint.

    Parameters
    ----------
    folder : Path or None
        Where the events of this run go, made if it is not there; None writes none.
    warn : callable
        Told, once, where the events cannot be written any more: the run goes on without.

    Raises
    ------
    RunError
        If the package is not installed.
    """

    def __init__(self, folder: Path | None, warn: Callable[[str], None]) -> None:
        self._folder, self._warn = folder, warn
        self._writer: Any = None
        self._writer_of: Any = None if folder is None else _find_writer()

    def begin(self, step: int) -> None:
        """Open a file of events for the updates after `step`."""
        if self._writer_of is None:
            return
        from tensorboard.compat.proto.event_pb2 import SessionLog

        def opened() -> None:
            self._writer = self._writer_of(_next_file(self._folder or Path()))
            self._add(file_version="brain.Event:2")  # the first event of a file
            self._add(step=step + 1, session_log=SessionLog(status=SessionLog.START))

        self._tried(opened)

    def losses(self, line: dict[str, Any]) -> None:
        """Write a line of losses.jsonl."""
        if self._writer is None:
            return
        self._scalars(line["step"], {"loss/train": line["train_loss"], "lr": line["lr"]})

    def evaluation(self, line: dict[str, Any]) -> None:
        """Write an evaluation, as metrics.jsonl holds it."""
        if self._writer is None:
            return
        tags = {
            "loss/test": line["test_loss"],
            "error/test": line["test_error"],
            "error/train": line["train_error"],
            "speed/images_per_second": line["images_per_second"],
        }
        tags |= {f"error_of/{name}": error for name, error in line["test_errors"].items()}
        tags |= {f"modes/{layer or 'norm'}": float(count) for layer, count in line.get("modes", {}).items()}
        tags |= {f"gates/{layer or 'norm'}/entropy": gates["entropy"] for layer, gates in line.get("gates", {}).items()}
        self._scalars(line["step"], tags)

    def close(self) -> None:
        """End the session; `begin` opens another."""
        if self._writer is not None:
            self._tried(self._writer.close)
        self._writer = None

    def _scalars(self, step: int, tags: dict[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in tags.items()]
        self._tried(lambda: self._add(step=step, summary=Summary(value=values)))

    def _add(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.write(Event(wall_time=time.time(), **content).SerializeToString())
        self._writer.flush()

    def _tried(self, action: Callable[[], None]) -> None:
        """Do it; where it fails, say so once and do without."""
        try:
            action()
        except Exception as error:
            self._writer = self._writer_of = None
            what = " ".join(f"{type(error).__name__}: {error}".split())
            self._warn(f"{self._folder} takes no more events ({what}); the run goes on without them")


def _find_writer() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it deprecates is not the user's to mend
            from tensorboard.compat.proto import event_pb2, summary_pb2  # noqa: F401
            from tensorboard.summary.writer.record_writer import RecordWriter
    except Exception as error:  # one of its own dependencies may be missing, or too new for it
        why = str(error).partition("\n")[0]
        raise RunError(
            f"--tensorboard needs the package tensorboard ({why}); pip install 'minidl[tensorboard]', or leave it out"
        ) from error
    return RecordWriter


def _next_file(folder: Path) -> BinaryIO:
    """Open a new file of events, whose name comes after those that are there: TensorBoard reads them by name."""
    make_folder(folder)
    there = sorted(path.name for path in folder.glob("events.out.tfevents.*"))
    last = int(there[-1].split(".")[3]) if there else 0
    # a clock may have been put back, and a second hold several files
    name = f"events.out.tfevents.{max(int(time.time()), last):010d}.{len(there):06d}.{socket.gethostname()}"
    return (folder / name).open("xb")
