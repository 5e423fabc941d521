"""One training run as a process of its own, its folder locked while it runs."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import minidl
from minidl.command_line import file_error
from minidl.distributed.launch import unlaunched
from minidl.files import make_folder, naming, open_own
from minidl.reproduce.provenance import git_commit
from minidl.train.config import NEWER_FIELDS, Config
from minidl.train.lock import HANDED_DOWN, BusyError, FolderLock
from minidl.train.recipes import recipe

__all__ = ["BusyError", "RunProcess", "train_arguments", "why_not_started"]

AGAIN = ", then run the same command again"
LENGTHS = {"e": "--epochs", "u": "--updates"}


def train_arguments(config: Config) -> list[str]:
    """Return the arguments of `python -m minidl.train` that give this configuration.

    Examples
    --------
    >>> " ".join(train_arguments(Config(length="3e"))[:8])
    'lenet multitask --epochs 3 --norm mn --modes 2'
    """
    length = LENGTHS.get(config.length[-1], "--touches")
    arguments = [config.model, config.task, length, config.length.rstrip("eu")]
    if config.lr_drops != recipe(config.model, config.task).lr_drops:
        arguments += ["--lr-drops", ",".join(config.lr_drops) or "none"]
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name in ("model", "task", "length", "lr_drops") or value is None or value is False:
            continue
        if field.name in NEWER_FIELDS and value == field.default:
            continue
        flag = "--" + field.name.replace("_", "-")
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        arguments += [flag] if value is True else [flag, text]
    return arguments


class RunProcess:
    """A process that trains into a folder, going on with what is there.

    Parameters
    ----------
    config : Config
        It runs on one thread: several runs side by side need no more.
    path : Path
        The run's folder. The process's output is added to its log.txt, and how it was started to its starts.jsonl.

    Raises
    ------
    BusyError
        If another process works there, perhaps one that an earlier command left behind.
    """

    def __init__(self, config: Config, path: Path) -> None:
        config = replace(config, threads=1)
        make_folder(path)
        folder_lock = FolderLock(path)
        lock = folder_lock.take()
        try:
            command = [sys.executable, "-m", "minidl.train", *train_arguments(config), "--out", str(path)]
            if (path / "config.json").exists():
                command.append("--resume")
            self._log_file = path / "log.txt"
            starts = path / "starts.jsonl"
            with naming(starts), _added_to(starts) as file:
                file.write(json.dumps(_start_of(config)) + "\n")
            with naming(self._log_file):
                log = _added_to(self._log_file)
            try:
                self._log_start = os.fstat(log.fileno()).st_size
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=_environment(lock),
                    pass_fds=(lock,) if os.name == "posix" else (),
                    process_group=0 if os.name == "posix" else None,  # a Ctrl-C reaches it through `stop` alone
                )
            finally:
                with suppress(OSError):  # nothing was written here; the process is at work by now
                    log.close()
        finally:
            folder_lock.release()  # the process holds it now

    def status(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to save and leave."""
        if self.status() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once; what it saved before is whole."""
        self._process.kill()
        self._process.wait()

    def last_words(self) -> str:
        """Return why it failed: its last line, or the signal that ended it."""
        status = self.status() or 0
        if status < 0:
            return f"ended by {signal.Signals(-status).name}; the same command continues from its last checkpoint"
        log = self._log_file.read_bytes()[self._log_start :].decode(errors="replace")
        words = next((line for line in reversed(log.split("\n")) if line.strip()), "")
        if not words.startswith("minidl") and "Traceback (most recent call last)" not in log:  # it went on before
            return f"exit status {status}, and its log does not say why, as on a full disk; free some space{AGAIN}"
        return re.sub(", then (--resume|run it again)$", AGAIN, words.removeprefix("minidl.train: "))


def why_not_started(error: Exception) -> str:
    """Return why a `RunProcess` could not be started, and the cure, in one line."""
    return file_error(error, f"make it writable{AGAIN}", AGAIN) if isinstance(error, OSError) else str(error)


def _added_to(path: Path) -> IO[str]:
    """Open a file of a run's folder to add to it; NoFileError if it is a link or a pipe."""
    return os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8")


def _start_of(config: Config) -> dict[str, Any]:
    without_paths = replace(config, data_dir="DIR" if config.data_dir else None)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "minidl": minidl.__version__,
        "commit": git_commit(),
        "command": " ".join(["python -m minidl.train", *train_arguments(without_paths)]),
    }


def _environment(lock: int) -> dict[str, str]:
    """Return the environment in which the process imports the same minidl and finds the lock that it inherits."""
    paths = [str(Path(minidl.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    handed_down = {HANDED_DOWN: str(lock)} if os.name == "posix" else {}
    return {**unlaunched(os.environ), **handed_down, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
