"""Where results come from: the command, the data, versions, the machine, the time. Every output carries it."""

import functools
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import minidl
from minidl import device
from minidl.data.catalog import Source
from minidl.data.multitask import TASKS
from minidl.files import parse_json, read_file
from minidl.reproduce.store import Data, ReproduceError, StoredRun

ILSVRC12 = 1_281_167  # training images of ImageNet's challenge of 2012


@functools.cache
def git_commit() -> str | None:
    """Return the commit of the checkout that minidl runs from, "-dirty" if the package differs; None elsewhere."""
    checkout = Path(minidl.__file__).parents[1]
    if not (checkout / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "minidl")
        return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def version(minidl_version: str = minidl.__version__, commit: str | None = None) -> str:
    """Return such as "minidl 0.1.0, commit 0123456789ab"."""
    return f"minidl {minidl_version}" + (f", commit {commit}" if commit else "")


def machine(where: Mapping[str, Any] | None = None) -> str:
    """Return a machine in a few words: this one, or that of a run's summary."""
    where = where or device.machine()
    return f"{where['cores']} cores, {where['system']}, Python {where['python']}, NumPy {where['numpy']}"


def data_lines(task: str, data: Data) -> list[str]:
    """Return one line per source: images found of the official number."""
    return [
        f"{source.name}: {_found(source, 'train', data)} of {source.train.count} training images, "
        f"{_found(source, 'test', data)} of {source.test.count} test images"
        for source in TASKS[task]
    ] or [
        f"{name}: {count} of {ILSVRC12} training images, {data['test_images'][name]} test images"
        for name, count in data["train_images"].items()
    ]


def missing_data(task: str, data: Data) -> list[str]:
    """Return such as "60 % of svhn" for each source whose training set is not whole."""
    shares = {source.name: _found(source, "train", data) / source.train.count for source in TASKS[task]}
    shares = shares or {name: count / ILSVRC12 for name, count in data["train_images"].items()}
    return [f"{100 * share:.2g} % of {name}" for name, share in shares.items() if share < 1]


def _found(source: Source, split: str, data: Data) -> int:
    return int(data[f"{split}_images"].get(source.name, 0))


def versions_of(runs: Iterable[StoredRun]) -> list[str]:
    """Return the versions that trained these runs, each start of an interrupted one included."""
    found: dict[str, None] = {}
    for run in runs:
        file = run.path / "starts.jsonl"
        for start in _starts(file) or [{"minidl": run.minidl}]:
            found[version(start["minidl"], start.get("commit"))] = None
    return list(found)


def _starts(file: Path) -> list[dict[str, Any]]:
    """Return how a run was started, each time; ReproduceError if the file is damaged."""
    starts: list[dict[str, Any]] = []
    for number, line in enumerate(read_file(file).splitlines() if file.exists() else (), start=1):
        try:
            starts.append({"commit": None, **parse_json(line)})
            if not all(isinstance(text, str | None) for text in (starts[-1]["minidl"], starts[-1]["commit"])):
                raise TypeError
        except (ValueError, TypeError, KeyError) as error:
            raise ReproduceError(f"{file} is damaged in line {number}; mend or remove that line") from error
    return starts


def machines_of(runs: Iterable[StoredRun]) -> list[str]:
    """Return the machines that these runs were finished on."""
    found: dict[str, None] = {}
    for run in runs:
        where: dict[str, Any] = run.result()["machine"]
        found[f"{machine(where)}, {_processor(where)}, one thread per run"] = None
    return list(found)


def _processor(where: dict[str, Any]) -> str:
    gpu = where.get("device")
    return f"backend {where['backend']}" + (f" {where['cupy']} on {gpu}" if gpu else "")


def duration(seconds: float) -> str:
    """Return a time to read.

    Examples
    --------
    >>> duration(42.3), duration(750), duration(9000)
    ('42 s', '12.5 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
