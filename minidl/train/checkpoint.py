"""Checkpoints: whole or absent, checked when read, the last two kept.

A checkpoint is one safetensors file, `step-000001509.safetensors`: arrays by name, and one JSON object with everything
else (random states, position, hash of the configuration). It carries the sha256 of the file itself, taken with 64 zeros
in its place, so any changed byte is noticed. Loading one runs no code.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

KEPT = 2
_BLANK = "0" * 64
_SUM = re.compile(rb"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"step-(\d+)\.safetensors")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; its message is one line that names the file."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that its path holds either what it held before or all of `data`, whenever the machine stops."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the rename itself lasts once the folder is on the disk
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def save(folder: Path, step: int, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Path:
    """Write the checkpoint of one step, then remove all but the last two.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    step : int
        Updates done.
    tensors : dict
        Arrays by name.
    meta : dict
        Anything JSON can hold.

    Returns
    -------
    Path
        The file written. The same tensors and meta give the same bytes.
    """
    from safetensors.numpy import save as to_bytes

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"step": step, **meta})
    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    # one metadata entry: safetensors keeps several in no fixed order
    blank = to_bytes(arrays, metadata={"minidl": f"sha256:{_BLANK} {text}"})
    digest = hashlib.sha256(blank).hexdigest()
    path = folder / f"step-{step:09d}.safetensors"
    write_atomic(path, blank.replace(f"sha256:{_BLANK}".encode(), f"sha256:{digest}".encode(), 1))
    for old in list_steps(folder)[:-KEPT]:
        old.unlink()
    for left in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
        left.unlink()
    return path


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read one checkpoint.

    Returns
    -------
    tensors, meta
        As they were given to `save`, with meta["step"].

    Raises
    ------
    CheckpointError
        If a byte differs from what was written, or the file is another step's.
    """
    from safetensors.numpy import load as from_bytes

    data = path.read_bytes()
    header_end = min(8 + int.from_bytes(data[:8], "little"), len(data))
    match = _SUM.search(data, 0, header_end)
    if match is None:
        raise CheckpointError(f"{path} is damaged: it is no whole checkpoint ({len(data)} bytes)")
    blank = data[: match.start(1)] + _BLANK.encode() + data[match.end(1) :]
    if hashlib.sha256(blank).hexdigest() != match[1].decode():
        raise CheckpointError(f"{path} is damaged: its checksum differs ({len(data)} bytes)")
    meta = json.loads(json.loads(data[8:header_end])["__metadata__"]["minidl"].split(" ", 1)[1])
    if path.name != f"step-{meta['step']:09d}.safetensors":
        raise CheckpointError(f"{path} is the checkpoint of step {meta['step']}: it was renamed or swapped")
    return from_bytes(data), meta


def load_latest(folder: Path, warn: Callable[[str], None]) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Read the newest whole checkpoint of a folder, or None if it has none at all.

    A damaged one is named through `warn`, and the one before it is read.

    Raises
    ------
    CheckpointError
        If there are checkpoints and all are damaged.
    """
    paths = list_steps(folder)
    for path in reversed(paths):
        try:
            return load(path)
        except CheckpointError as error:
            warn(str(error))
    if paths:
        raise CheckpointError(f"no whole checkpoint is left in {folder}; start again with another --out")
    return None


def list_steps(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first."""
    return sorted((path for path in folder.glob("step-*.safetensors") if _NAME.fullmatch(path.name)), key=_step)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1
