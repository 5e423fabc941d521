"""What is counted: synchronisations, uploads, and operations; and the context managers that ask for it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from minidl import backend


class SynchronisationError(AssertionError):
    """The host waited for the device where it must not."""


@dataclass
class Recording:
    """What happened inside `recording()`."""

    synchronisations: list[str] = field(default_factory=list)
    uploads: int = 0
    operations: list[str] = field(default_factory=list)  # about as many kernels are launched


_recordings: list[Recording] = []
_forbidden = 0


@contextmanager
def recording() -> Iterator[Recording]:
    """Collect what happens inside the ``with`` block."""
    record = Recording()
    _recordings.append(record)
    try:
        yield record
    finally:
        _recordings.remove(record)


@contextmanager
def no_synchronisation() -> Iterator[None]:
    """Fail wherever the host waits for the device inside the ``with`` block."""
    global _forbidden
    _forbidden += 1
    try:
        yield
    finally:
        _forbidden -= 1


@contextmanager
def as_cupy() -> Iterator[None]:
    """Let `import cupy` give this library inside the ``with`` block, and so every ``--backend cupy``.

    The modules of CuPy itself are set aside: it loads cupyx at the first look at it, and that would find this library.
    """
    aside = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in ("cupy", "cupyx")}
    for name in aside:
        del sys.modules[name]
    sys.modules["cupy"] = sys.modules["strict"]
    backend._of_environment.cache_clear()
    try:
        yield
    finally:
        del sys.modules["cupy"]
        sys.modules.update(aside)
        backend._of_environment.cache_clear()


def synchronised(what: str) -> None:
    """Note that the host waits for the device."""
    for record in _recordings:
        record.synchronisations.append(what)
    if _forbidden:
        raise SynchronisationError(f"{what} waits for the device")


def uploaded() -> None:
    """Note a copy from the host to the device."""
    for record in _recordings:
        record.uploads += 1


def computed(what: str) -> None:
    """Note an operation on the device."""
    for record in _recordings:
        record.operations.append(what)
