"""The shipped vectors: which cases there are, and each one's file, checked against its sha256."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidl.check.case import SCHEMA, Case, from_tensors
from minidl.check.safetensors import VectorError, loads, read_bytes

VECTORS = Path(__file__).parent / "vectors" / "v1"


@dataclass(frozen=True)
class Entry:
    """A line of the index."""

    id: str
    layer: str
    flag: str
    dtype: str
    file: str
    sha256: str
    result: str


@dataclass
class Suite:
    """The index of a folder of vectors."""

    folder: Path
    entries: list[Entry]
    flags: dict[str, Any]

    @property
    def layers(self) -> list[str]:
        """The layers that have cases, in order."""
        return list(dict.fromkeys(entry.layer for entry in self.entries))

    def case(self, entry: Entry) -> Case:
        """Read a case, or raise VectorError with a line that says what is wrong with its file."""
        path = self.folder / entry.file
        raw = read_bytes(path)
        if hashlib.sha256(raw).hexdigest() != entry.sha256:
            raise VectorError(
                f"{path.name}: its sha256 must be the index's {entry.sha256[:12]}…; export the vectors again"
            )
        tensors, metadata = loads(raw, path.name)
        return from_tensors(tensors, metadata, path.name)


def open_suite(folder: str | Path = VECTORS) -> Suite:
    """Read a folder's index.json."""
    path = Path(folder) / "index.json"
    try:
        index = json.loads(path.read_text("utf-8"))
        if index["schema"] != SCHEMA:
            raise ValueError(f"schema must be {SCHEMA}, got {index['schema']}")
        entries = [Entry(**{key: entry[key] for key in Entry.__dataclass_fields__}) for entry in index["cases"]]
        return Suite(Path(folder), entries, dict(index["flags"]))
    except OSError as error:
        raise VectorError(f"{path}: cannot be read ({error.strerror}); give a folder made by export") from None
    except (KeyError, TypeError, ValueError) as error:
        raise VectorError(f"{path}: must be an index of vectors, got {type(error).__name__}: {error}") from None
