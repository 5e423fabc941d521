"""Runs of minidl among a folder's images: their files are no images of a class."""

from __future__ import annotations

import os
from pathlib import Path

from minidl.data.errors import DataError

_HEAD = 200  # bytes of a config.json: its first key is the version of minidl


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, by its config.json."""
    file = folder / "config.json"
    try:
        if not file.is_file():
            return False
        with file.open("rb") as content:
            return (folder / "checkpoints").is_dir() or b'"minidl"' in content.read(_HEAD)
    except OSError:
        return False


def refuse_runs(top: Path) -> None:
    """Raise DataError where a folder of classes is a run, or where one lies in it or below."""
    if is_run(top):
        raise DataError(
            f"{top}: the folder of images is that of a run as well, whose own folders are no classes; move the folders "
            "of the classes into a new folder, and give that with --data-dir"
        )
    for folder in _below(top):
        if is_run(folder):
            refuse_run(folder, top)


def refuse_run(folder: Path, top: Path) -> None:
    """Raise DataError for a run that lies in a folder of classes."""
    which = folder.parent if folder.parent.name == "runs" and folder.parent != top else folder
    what = "is a run of minidl" if which == folder else "holds runs of minidl"
    raise DataError(f"{which}: {what}, not images of a class; move it out of {top}")


def _below(folder: Path) -> list[Path]:
    """Return the folders in a folder and below, but for hidden ones."""
    found = []
    for where, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(where, name) for name in folders]
    return found
