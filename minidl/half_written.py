"""The names of files that are being written, which tell whose they are, and the removal of those that nobody finishes.

A file is written as ``.NAME.TOKEN.tmp`` beside NAME. The token has 24 hexadecimal digits: the machine, the process, and
a random number. What a process leaves that was killed is removed by the next one that writes NAME there.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import sys
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_TOKEN = r"[0-9a-f]{24}"
_LEFT = re.compile(rf"\.(?P<name>.+)\.(?P<token>{_TOKEN}|[0-9a-f]{{8}})(?:\.old)?\.tmp", re.DOTALL)
_WEEK = 7 * 86400.0  # seconds: so long nobody writes one file

_at_work: set[str] = set()  # the tokens of this process that are in use


@contextmanager
def token() -> Iterator[str]:
    """Yield a new token; what has it in its name is not removed by another process before the ``with`` block ends."""
    made = f"{_machine()}{os.getpid():08x}{secrets.token_hex(4)}"
    _at_work.add(made)
    try:
        yield made
    finally:
        _at_work.discard(made)


def is_token(text: object) -> bool:
    """Whether this is a token as `token` makes it."""
    return isinstance(text, str) and re.fullmatch(_TOKEN, text) is not None


def beside(path: Path, token: str) -> Path:
    """Return the name under which the next content of a file is written."""
    return path.with_name(f".{path.name}.{token}.tmp")


def put_aside(path: Path, token: str) -> Path:
    """Return the name under which the content of a file before is kept."""
    return path.with_name(f".{path.name}.{token}.old.tmp")


def may_live(token: str, path: Path) -> bool:
    """Whether the process that made a token may still be at work.

    One of this machine is asked for. Of another, or of a container, nothing is known but the age of its file: it may be
    at work for a week.

    Parameters
    ----------
    token : str
    path : path
        A file that it made.
    """
    if is_token(token) and token.startswith(_machine()):
        process = int(token[8:16], 16)
        if process == os.getpid():  # else the number was that of another process before
            return token in _at_work
        if (runs := _runs(process)) is not None:
            return runs
    try:
        return time.time() - os.lstat(path).st_mtime < _WEEK
    except FileNotFoundError:
        return False


def sweep(folder: Path, names: Collection[str]) -> None:
    """Remove what processes that are gone left half-written of files of these names, and no link's target.

    Parameters
    ----------
    folder : path
    names : collection of str
    """
    for left, name, token in _lefts(folder):
        if name in names and not may_live(token, left):
            with suppress(OSError):  # a folder of that name, or one that forbids it: it does no harm
                left.unlink()


def remove_half_written(folder: Path, names: re.Pattern[str]) -> None:
    """Remove what processes left half-written of files of such names, in a folder where no other may write them."""
    for left, name, _ in _lefts(folder):
        if names.fullmatch(name):
            with suppress(OSError):
                left.unlink()


def _lefts(folder: Path) -> list[tuple[Path, str, str]]:
    """Return what has the name of a file that is being written: its path, the file's name, the token."""
    try:
        found = [(name, _LEFT.fullmatch(name)) for name in os.listdir(folder)]
    except OSError:
        return []
    return [(folder / name, match["name"], match["token"]) for name, match in found if match]


@cache
def _machine() -> str:
    """Return eight digits for the machine, since it was started, and the container in which this process counts."""
    known = [platform.node()]
    with suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"))
        known.append(os.readlink("/proc/self/ns/pid"))
    if len(known) == 1 and not (address := uuid.getnode()) >> 40 & 1:  # else each process draws an address by lot
        known.append(str(address))
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:8]


def _runs(process: int) -> bool | None:
    """Return whether a process of this machine runs; None where that cannot be asked."""
    if sys.platform == "win32":  # os.kill would end it there
        return None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return None
    except OSError:  # it is another user's
        return True
    with suppress(OSError):
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[:1]
        return state not in ([b"Z"], [b"X"])  # it has ended, and its parent has not asked how
    return True
