"""Checkpoints: whole or absent, checked when read, the last two kept.

A checkpoint is one safetensors file, `step-000001509.safetensors`: arrays by name, and one JSON object with everything
else (random states, position, hash of the configuration). It carries the sha256 of the file itself, taken with 64 zeros
in its place, so any changed byte is noticed. Loading one runs no code.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .. import log
from ..files import NoFileError, make_own, open_file
from ..half_written import remove_half_written
from ..writing import write_atomic

KEPT = 2
_BLANK = "0" * 64
_MAX_HEADER = 64 << 20  # bytes; names and shapes of a network, and the random states
_SUM = re.compile(rb"sha256:([0-9a-f]{64})")
T = TypeVar("T")
_NAME = re.compile(r"step-(\d+)\.safetensors")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; its message is one line that names the file."""

    exit_status = 4


def save(folder: Path, step: int, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Path:
    """Write the checkpoint of one step, then remove all but the last two.

    Parameters
    ----------
    folder : Path
        Made if it is not there; a NoFileError if it is a link.
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

    make_own(folder)
    text = json.dumps({"step": step, **meta}, allow_nan=False)
    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    # one metadata entry: safetensors keeps several in no fixed order
    blank = to_bytes(arrays, metadata={"minidl": f"sha256:{_BLANK} {text}"})
    digest = hashlib.sha256(blank).hexdigest()
    path = folder / f"step-{step:09d}.safetensors"
    _clear(path)
    write_atomic(path, blank.replace(f"sha256:{_BLANK}".encode(), f"sha256:{digest}".encode(), 1))
    # one with a higher step is not this run's past: it neither counts among the last nor is it removed
    for old in [each for each in list_steps(folder) if _step(each) <= step and not _is_folder(each)][:-KEPT]:
        old.unlink()
    remove_half_written(folder, _NAME)
    return path


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _clear(path: Path) -> None:
    """Put aside what has the name of a checkpoint and is neither a file nor a link: a folder, a pipe, a device."""
    if path.is_symlink() or not path.exists() or path.is_file():
        return
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.aside")
    path.rename(aside)
    log.warn("minidl", f"{path} was {'a folder' if aside.is_dir() else 'no file'}, which is now {aside}")


def load(path: Path, warn: Callable[[str], None] | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read one checkpoint.

    Parameters
    ----------
    path : Path
    warn : callable, optional
        Told if the file's name is that of another step. Without it that is an error.

    Returns
    -------
    tensors, meta
        As they were given to `save`, with meta["step"].

    Raises
    ------
    CheckpointError
        If a byte differs from what was written, or the file is another step's.
    """
    tensors, meta = _load(path)
    renamed = f"{path} is the checkpoint of step {meta['step']}: it was renamed or swapped"
    if warn is None and path.name != _name(meta["step"]):
        raise CheckpointError(renamed)
    if warn is not None and _step(path) not in (-1, meta["step"]):
        warn(f"{renamed}, and is used as that")
    return tensors, meta


def _load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read one checkpoint, whatever it is called."""
    from safetensors.numpy import load as from_bytes

    data = _read(path)
    header_end = min(8 + int.from_bytes(data[:8], "little"), len(data))
    match = _SUM.search(data, 0, header_end)
    if match is None:
        raise CheckpointError(f"{path} is damaged: it is no whole checkpoint ({len(data)} bytes)")
    blank = data[: match.start(1)] + _BLANK.encode() + data[match.end(1) :]
    if hashlib.sha256(blank).hexdigest() != match[1].decode():
        raise CheckpointError(f"{path} is damaged: its checksum differs ({len(data)} bytes)")
    try:
        meta = _meta(data[8:header_end])
        tensors = from_bytes(data)
    except Exception as error:  # safetensors has errors of its own; a file with a right checksum may hold anything
        raise CheckpointError(f"{path} is no checkpoint of minidl ({_one_line(error)})") from error
    return tensors, meta


def _meta(header: bytes) -> dict[str, Any]:
    meta = json.loads(json.loads(header)["__metadata__"]["minidl"].split(" ", 1)[1])
    if type(meta["step"]) is not int or meta["step"] < 0:
        raise ValueError(f"step must be a whole number, got {meta['step']!r:.60}")
    return dict(meta)


def _name(step: int) -> str:
    return f"step-{step:09d}.safetensors"


def _read(path: Path) -> bytes:
    """Return a file's content, once its size is known to be what its header says."""
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(8)
            length = int.from_bytes(head, "little")
            if length > min(size, _MAX_HEADER):
                raise CheckpointError(f"{path} is damaged: it is no whole checkpoint ({size} bytes)")
            head += file.read(length)
            ends = [int(end) for end in re.findall(rb'"data_offsets"\s*:\s*\[\s*\d{1,18}\s*,\s*(\d{1,18})', head)]
            if size > len(head) + max(ends, default=0):
                raise CheckpointError(f"{path} is damaged: its checksum differs ({size} bytes)")
            return head + file.read()
    except NoFileError as error:
        raise CheckpointError(f"{path} is damaged: it is no file") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from error


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def load_latest(folder: Path, warn: Callable[[str], None]) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Read the newest whole checkpoint of a folder, or None if it has none at all.

    A damaged one is named through `warn`, and the one before it is read.

    Raises
    ------
    CheckpointError
        If there are checkpoints and all are damaged.
    """
    return use_latest(folder, warn, lambda path, tensors, meta: (tensors, meta))


def use_latest(
    folder: Path, warn: Callable[[str], None], use: Callable[[Path, dict[str, np.ndarray], dict[str, Any]], T]
) -> T | None:
    """Return what `use` makes of the newest checkpoint of a folder that it can use, or None if there is none at all.

    The newest is that of the highest step within the files, whatever they are called: `warn` says if one was renamed.
    One that is damaged, or that `use` refuses by a CheckpointError, is named through `warn` too, and the one before it
    is taken.

    Raises
    ------
    CheckpointError
        If there are checkpoints and none can be used; its message has what is wrong with the last that was tried.
    """
    paths = sorted(list_steps(folder), key=lambda path: (_step_within(path), path.name == _name(_step_within(path))))
    for path in reversed(paths):
        try:
            tensors, meta = _load(path)
            found = use(path, tensors, meta)
        except CheckpointError as error:
            if path == paths[0]:
                raise CheckpointError(
                    f"{error}; no whole checkpoint is left in {folder}; start again with another --out"
                ) from error
            warn(str(error))
        else:
            if path.name != _name(meta["step"]):
                warn(f"{path} is the checkpoint of step {meta['step']}: it was renamed or swapped, and is used as that")
            return found
    return None


def _step_within(path: Path) -> int:
    """Return the step that a checkpoint says it is of, or that of its name if it says none."""
    try:
        with open_file(path) as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(os.fstat(file.fileno()).st_size, _MAX_HEADER):
                return _step(path)
            return int(_meta(file.read(length))["step"])
    except Exception:  # what is wrong with it is said when it is read
        return _step(path)


def list_steps(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first; none where there is no such folder.

    Raises
    ------
    CheckpointError
        If it cannot be looked into: what cannot be listed is not empty.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise CheckpointError(f"{folder} is no folder; put the folder with the run's checkpoints back") from error
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be looked into ({error.strerror}); make it readable") from error
    return sorted((folder / name for name in names if _NAME.fullmatch(name)), key=_step)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1
