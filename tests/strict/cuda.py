"""`cupy.cuda`: two devices to choose from, and the stream that can be waited for."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from strict.events import synchronised

_here = threading.local()


def _current() -> int:
    return getattr(_here, "device", 0)


class Device:
    """A GPU, chosen for this thread inside a ``with`` block."""

    def __init__(self, device: int | None = None) -> None:
        self.id = _current() if device is None else int(device)

    def __enter__(self) -> Device:
        self._before, _here.device = _current(), self.id
        return self

    def __exit__(self, *exception: Any) -> None:
        _here.device = self._before

    def use(self) -> Device:
        _here.device = self.id
        return self

    def synchronize(self) -> None:
        synchronised("Device.synchronize()")


class Stream:
    """The order in which the device works; there is one."""

    null: Stream

    def synchronize(self) -> None:
        synchronised("Stream.synchronize()")


Stream.null = Stream()


def get_current_stream() -> Stream:
    return Stream.null


def is_available() -> bool:
    return True


runtime = SimpleNamespace(
    getDeviceCount=lambda: 2,
    getDevice=_current,
    getDeviceProperties=lambda device: {"name": f"stand-in {device}".encode()},
    runtimeGetVersion=lambda: 12090,
    driverGetVersion=lambda: 13000,
)
