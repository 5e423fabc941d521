"""A stack machine for pickles of plain data, which imports nothing and calls nothing.

A pickle is a program for a stack machine.  This one knows the instructions that dictionaries, lists, tuples, text,
bytes and integers need.  Names in the program stand for themselves, and only those are known that a subclass lists.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from minidl.data.errors import bad_file

MAX_STEPS = 500_000
"""CIFAR-100's training file takes 300 000 instructions, the longest there is."""


@dataclass(frozen=True)
class Name:
    """One of the known names."""

    meaning: str


class Stopped(Exception):  # noqa: N818
    """The end of the program."""


_MARK = object()
_SIZES = {1: "<B", 4: "<I", 8: "<Q"}


class Machine:
    """The stack, the memo and the position in the program.

    A subclass gives `NAMES`, adds to `STEPS` the instructions it needs besides, such as a call of one of the names, and
    may have its own rule for keys and its own message.

    Attributes
    ----------
    NAMES : {(module, name): meaning}
        What a pickle may name.
    STEPS : {instruction: function of the machine}
    WHAT : str
        What the data is, for the message about another name.
    """

    NAMES: ClassVar[dict[tuple[str, str], str]] = {}
    STEPS: ClassVar[dict[int, Callable[[Any], None]]] = {}
    WHAT = "plain data"

    def __init__(self, data: bytes | bytearray, path: Path):
        self.data, self.view, self.path = data, memoryview(data).toreadonly(), path
        self.at = self.began = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.copies = 2 * len(data)  # bytes that may still be copied: as text, and once more where it stands for bytes

    def run(self) -> Any:
        try:
            for _ in range(MAX_STEPS):
                self.began = self.at
                code = self.take(1)[0]
                step = self.STEPS.get(code)
                if step is None:
                    raise self.error("an instruction of plain data", f"{bytes([code])!r}")
                step(self)
        except Stopped:
            return self.pop(object)
        raise self.error(f"at most {MAX_STEPS} instructions", "more")

    def error(self, expected: str, got: object) -> Exception:
        """Return the error for an instruction that does not do what is expected."""
        return bad_file(self.path, self.began, f"{expected} in a pickle", got)

    def take(self, size: int) -> memoryview:
        """Return the next bytes of the program."""
        if size > len(self.data) - self.at:
            raise self.error(f"{size} bytes", f"{len(self.data) - self.at} to the end")
        self.at += size
        return self.view[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int(struct.unpack(_SIZES[size], self.take(size))[0])

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + 100)
        if end < 0:
            raise self.error("a name of at most 100 bytes", "a longer one")
        text = bytes(self.take(end - self.at)).decode("latin-1")
        self.at += 1
        return text

    def copied(self, size: int) -> None:
        """Account for a copy: an instruction that is repeated must not fill the memory."""
        self.copies -= size
        if self.copies < 0:
            raise self.error("text and bytes no longer than the file", "more")

    def pop(self, kind: type | tuple[type, ...]) -> Any:
        if not self.stack or self.stack[-1] is _MARK or not isinstance(self.stack[-1], kind):
            found = type(self.stack[-1]).__name__ if self.stack else "nothing"
            raise self.error("another kind of operand", found)
        return self.stack.pop()

    def popped_mark(self) -> list[Any]:
        """Return all above the last mark."""
        items: list[Any] = []
        while self.stack:
            item = self.stack.pop()
            if item is _MARK:
                return items[::-1]
            items.append(item)
        raise self.error("a mark", "none")

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise self.error(f"a {kind.__name__} to add to", "something else")
        return self.stack[-1]

    def text(self, size: int) -> None:
        raw = np.frombuffer(self.take(size), np.uint8)
        if size and raw.max() > 0xC3:  # one byte a letter in memory, whatever the text
            raise self.error("text of Latin letters", "others")
        self.copied(size)
        try:
            self.stack.append(str(raw.data, "utf-8"))
        except UnicodeDecodeError as error:
            raise self.error("text in UTF-8", error.reason) from error

    def string(self, size: int) -> None:
        """Push bytes: short ones, which may be keys, copied; long ones as a view of the file."""
        raw = self.take(size)
        self.stack.append(bytes(raw) if size < 256 else raw)

    def put(self, place: int) -> None:
        if not self.stack or self.stack[-1] is _MARK:
            raise self.error("a value to remember", "none")
        self.memo[place] = self.stack[-1]

    def get(self, place: int) -> None:
        if place not in self.memo:
            raise self.error("a value remembered before", f"number {place}")
        self.stack.append(self.memo[place])

    def name(self, module: str, name: str) -> None:
        if (module, name) not in self.NAMES:
            raise self.error(f"nothing but {self.WHAT}", repr(f"{module}.{name}"[:100]))
        self.stack.append(Name(self.NAMES[module, name]))

    def join(self, count: int | None) -> None:
        items = self.popped_mark() if count is None else [self.pop(object) for _ in range(count)][::-1]
        self.stack.append(tuple(items))

    def set_items(self, items: list[Any]) -> None:
        found = self.top(dict)
        if len(items) % 2:
            raise self.error("a value for each key", "none")
        for key, value in zip(items[::2], items[1::2], strict=True):
            found[self.key(key)] = self.value(value)

    def key(self, key: Any) -> Any:
        """Return a dictionary's key as it is to be."""
        if not isinstance(key, str | bytes):  # integers may be chosen so that all their hashes are the same
            raise self.error("a key of text", type(key).__name__)
        return key.decode("latin-1") if isinstance(key, bytes) else key

    def value(self, value: Any) -> Any:
        """Return a dictionary's value as it is to be."""
        return value

    def long(self) -> None:
        size = self.number(1)
        self.stack.append(int.from_bytes(self.take(size), "little", signed=True))

    def stop(self) -> None:
        if self.at != len(self.data):
            raise self.error("the end of the file", f"{len(self.data) - self.at} bytes more")
        if len(self.stack) != 1 or self.stack[0] is _MARK:
            raise self.error("one value at the end", f"{len(self.stack)}")
        raise Stopped

    def protocol(self) -> None:
        if self.number(1) > 5:
            raise self.error("a pickle of protocol 2 to 5", "a newer one")

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)


def _two(machine: Machine) -> None:
    value, key = machine.pop(object), machine.pop(object)
    machine.set_items([key, value])


def _push(value: Any) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(value)


Machine.STEPS = {
    ord(code): step
    for code, step in {
        b"\x80": Machine.protocol,
        b"\x95": lambda m: m.take(8) and None,  # a frame's length, which nothing here needs
        b".": Machine.stop,
        b"(": _push(_MARK),
        b"N": _push(None),
        b"\x88": _push(True),
        b"\x89": _push(False),
        b"K": lambda m: m.stack.append(m.number(1)),
        b"M": lambda m: m.stack.append(struct.unpack("<H", m.take(2))[0]),
        b"J": lambda m: m.stack.append(struct.unpack("<i", m.take(4))[0]),
        b"\x8a": Machine.long,
        b"U": lambda m: m.string(m.number(1)),
        b"T": lambda m: m.string(m.number(4)),
        b"C": lambda m: m.string(m.number(1)),
        b"B": lambda m: m.string(m.number(4)),
        b"\x8e": lambda m: m.string(m.number(8)),
        b"X": lambda m: m.text(m.number(4)),
        b"\x8c": lambda m: m.text(m.number(1)),
        b"}": lambda m: m.stack.append({}),
        b"]": lambda m: m.stack.append([]),
        b")": _push(()),
        b"\x85": lambda m: m.join(1),
        b"\x86": lambda m: m.join(2),
        b"\x87": lambda m: m.join(3),
        b"t": lambda m: m.join(None),
        b"q": lambda m: m.put(m.number(1)),
        b"r": lambda m: m.put(m.number(4)),
        b"\x94": lambda m: m.put(len(m.memo)),
        b"h": lambda m: m.get(m.number(1)),
        b"j": lambda m: m.get(m.number(4)),
        b"c": lambda m: m.name(m.line(), m.line()),
        b"\x93": lambda m: m.name(*reversed((m.pop(str), m.pop(str)))),
        b"a": lambda m: m.append([m.pop(object)]),
        b"e": lambda m: m.append(m.popped_mark()),
        b"s": _two,
        b"u": lambda m: m.set_items(m.popped_mark()),
    }.items()
}
