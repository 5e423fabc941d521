"""Files that a command is told to write: each of its kind, outside the folders of runs, and nobody else's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from minidl.files import no_folder, open_file, parse_json, read_file
from minidl.writing import write_atomic

_OF_A_RUN = ("checkpoints", "metrics.jsonl", "losses.jsonl", "summary.json")
_RECORD = "config.json"
_ENDS = 1 << 16  # bytes at either end of a file, where its kind shows


class OutputError(ValueError):
    """A file or folder that must not be written to; the message is one line that names the cure."""

    exit_status = 2


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    name : str
        As a message names one.
    endings : tuple of str
        That its name must have; any without them.
    known : callable
        Whether bytes are the content of one.
    """

    name: str
    endings: tuple[str, ...]
    known: Callable[[bytes], bool]


def _is_safetensors(content: bytes) -> bool:
    return content[8:9] == b"{" and b'"minidl":"sha256:' not in content[:200]  # which a checkpoint of a run has


def _is_torch(content: bytes) -> bool:
    return content[:1] == b"\x80" or (content[:4] == b"PK\x03\x04" and b"data.pkl" in content[:200])


def _is_drawn(content: bytes) -> bool:
    return b"Matplotlib" in content or b"matplotlib" in content


ONNX = Kind("an ONNX file", (".onnx",), lambda content: content[:1] == b"\x08" and content[8:9] != b"{")
SAFETENSORS = Kind("a safetensors file of weights alone", (".safetensors",), _is_safetensors)
TORCH = Kind("a file of torch.save", (".pt", ".pth", ".bin"), _is_torch)
JSON_LIST = Kind("a list in JSON", (), lambda content: content.lstrip()[:1] == b"[")
JUNIT = Kind("JUnit XML", (), lambda content: b"<testsuite" in content[:400])
DRAWING = Kind("a figure of matplotlib", (".png", ".pdf", ".svg"), _is_drawn)


def check_outputs(
    asked: Iterable[tuple[str, str | os.PathLike[str] | None, Kind]], read: str | os.PathLike[str] | None = None
) -> None:
    """Raise OutputError unless all the files that are asked for may be written; those that are None are not.

    Parameters
    ----------
    asked : iterable of (flag, path, Kind)
    read : path, optional
        What the command reads, and must not replace.

    Raises
    ------
    OutputError
        A name has another ending than its kind's, or lies in the folder of a run; two names are of one file, through
        links or not; or what is there already is of another kind.

    Examples
    --------
    >>> check_outputs([("--onnx", "s.txt", ONNX)])
    Traceback (most recent call last):
    ...
    minidl.outputs.OutputError: the name of --onnx must end in .onnx, got s.txt; give --onnx s.onnx
    """
    seen: dict[Path, str] = {}
    for flag, name, kind in asked:
        if name is None:
            continue
        path = Path(name)
        if kind.endings and path.suffix.lower() not in kind.endings:
            endings = ", ".join(kind.endings)
            raise OutputError(
                f"the name of {flag} must end in {endings}, got {path}; give {flag} {_with(path, kind.endings[0])}"
            )
        real = Path(os.path.realpath(path))
        if (run := run_around(real.parent)) is not None:
            raise OutputError(f"{flag} must lie outside {run}, the folder of a run, got {path}; give another file")
        for other, first in seen.items():
            if real == other or _same(real, other):
                raise OutputError(f"{first} and {flag} must name two files, got {path} for both; give one another name")
        if read is not None and (real == Path(os.path.realpath(read)) or _same(real, Path(read))):
            raise OutputError(f"{flag} must not be the file that is read, got {path}; give another file")
        seen[real] = flag
        _check_there(flag, path, kind)


def check_folder(flag: str, folder: Path, names: Sequence[str], own: Callable[[bytes], bool]) -> None:
    """Raise OutputError where files of these names are in a folder already, and the first is not of one's own kind.

    Also where the name of the folder is not of one.

    Parameters
    ----------
    flag : str
    folder : path
        That is to be written to.
    names : sequence of str
        The files that will be.
    own : callable
        Whether bytes are the content of an earlier file of the first name.
    """
    if (what := no_folder(folder)) is not None:
        raise OutputError(f"{flag} {folder} {what}; give another folder")
    there = [name for name in names if os.path.lexists(folder / name)]
    if not there:
        return
    with suppress(OSError):
        if there[0] == names[0] and own(read_file(folder / names[0])):
            return
    raise OutputError(f"{flag} {folder} has a {there[0]} that is not of this command; give another folder, or move it")


def write_output(path: str | os.PathLike[str], text: str) -> None:
    """Write a text, whole or not at all; where the name is a link, what it leads to is replaced.

    Raises
    ------
    OSError
        If it cannot be written; it names the file.
    """
    write_atomic(Path(os.path.realpath(path)), text.encode("utf-8"))


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a network for other programs, as `minidl export` writes it, and no checkpoint."""
    with suppress(OSError, ValueError), open_file(path) as file:
        content = file.read(_ENDS)
        if content[8:9] == b"{":  # of weights alone, or a checkpoint, maybe damaged
            length = int.from_bytes(content[:8], "little")
            if length > os.fstat(file.fileno()).st_size:  # damaged: so much is not asked for
                return False
            header = content[8:] + file.read(max(0, length + 8 - _ENDS))
            about = parse_json(header[:length]).get("__metadata__")
            return not isinstance(about, dict) or "minidl" not in about
        return ONNX.known(content) or TORCH.known(content)
    return False


def run_around(folder: str | os.PathLike[str]) -> Path | None:
    """Return the folder of the run that a folder is or lies in; None where there is none."""
    real = Path(os.path.realpath(folder))
    for each in (real, *real.parents):
        with suppress(OSError):
            if _is_run(each):
                return each
    return None


def _is_run(folder: Path) -> bool:
    if any((folder / "checkpoints").glob("step-*.safetensors")):
        return True
    if not (folder / _RECORD).is_file():
        return False
    if any((folder / name).exists() for name in _OF_A_RUN):
        return True
    with suppress(ValueError):
        record = parse_json(read_file(folder / _RECORD))
        return isinstance(record, dict) and "minidl" in record
    return False


def _check_there(flag: str, path: Path, kind: Kind) -> None:
    """Raise OutputError where something else than a file of the kind, or an empty one, has its name."""
    if not path.is_file():
        if path.exists():
            raise OutputError(f"{flag} {path} is there and no file; give another name")
        return
    with open_file(path) as file:
        content = file.read(_ENDS)
        if len(content) == _ENDS:
            file.seek(max(_ENDS, path.stat().st_size - _ENDS))
            content += file.read()
    if content and not kind.known(content):
        raise OutputError(f"{flag} {path} is there and is not {kind.name}; give another name, or remove it")


def _with(path: Path, ending: str) -> str:
    """Return a name with another ending."""
    return str(path.with_suffix(ending)) if path.name else f"net{ending}"


def _same(one: Path, other: Path) -> bool:
    """Whether two names are of one file, such as hard links or names in another case."""
    with suppress(OSError):
        return os.path.samefile(one, other)
    return False
