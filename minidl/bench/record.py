"""What a measurement leaves: a dict a row of the table, and one before them that says where they were taken."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minidl
from minidl import device
from minidl.bench.timing import Rounds, fastest_quartile, median, ratio
from minidl.files import parse_json, read_file
from minidl.norm import NORMS, NormFactory, norm_factory
from minidl.outputs import write_output
from minidl.parallel import available_threads

Record = dict[str, Any]
SECTIONS = {
    "steps": "one training step",
    "targets": "what was set out to be reached",
    "modes": "one training step of LeNet against the number of modes",
    "threads": "one training step of LeNet on several threads over one",
    "convolutions": "3×3 convolutions, forward and backward",
    "layers": "the layers of LeNet, each alone",
    "loader": "the data loader, milliseconds per batch",
    "memory": "peak memory of a training step of LeNet over the imported libraries, MiB",
    "import": "start-up in a fresh process over an empty Python",
}
OURS_TO_TORCH = "PyTorch / minidl"


class Norm(NamedTuple):
    """A norm of the comparison: "mn6" is mode normalization with K = 6."""

    name: str
    modes: int | None = None

    @classmethod
    def parse(cls, text: str) -> Norm:
        """Read a short name; mn and mgn take their number of modes behind it.

        >>> Norm.parse("mn6"), Norm.parse("bn")
        (Norm(name='mn', modes=6), Norm(name='bn', modes=None))
        """
        name = text.rstrip("0123456789")
        digits = text[len(name) :]
        gated = name in ("mn", "mgn")
        if name not in NORMS or gated != bool(digits) or digits.startswith("0"):
            raise ValueError(f"a norm must be one of none, bn, in, ln, gn, mnK or mgnK such as mn2, got {text!r}")
        return cls(name, int(digits) if gated else None)

    def factory(self) -> NormFactory | None:
        """Return what a network takes as its norm."""
        return norm_factory(self.name, modes=self.modes or 1)

    @property
    def label(self) -> str:
        """The name in tables."""
        name = self.name if self.name == "none" else self.name.upper()
        return f"{name} K={self.modes}" if self.modes else name


def label(record: Record) -> str:
    """Return the name of a record's norm in tables, "" where it has none."""
    return Norm(record["norm"], record["modes"]).label if record["norm"] else ""


def record(
    section: str,
    what: str,
    norm: Norm | None = None,
    batch: int | None = None,
    threads: int | None = None,
    minidl_time: Rounds | None = None,
    torch_time: Rounds | None = None,
    **more: Any,
) -> Record:
    """Return one row; its ratio is PyTorch's time over minidl's, unless `more` gives another and names it."""
    row: Record = {
        "section": section,
        "what": what,
        "norm": norm.name if norm else None,
        "modes": norm.modes if norm else None,
        "batch": batch,
        "threads": threads,
        "unit": "ms",
    }
    for side, rounds in (("minidl", minidl_time), ("torch", torch_time)):
        row[f"{side}_ms"] = 1e3 * median(rounds) if rounds else None
        row[f"{side}_fastest_quartile_ms"] = 1e3 * fastest_quartile(rounds) if rounds else None
    if minidl_time and torch_time:
        row |= ratio_fields(torch_time, minidl_time, OURS_TO_TORCH)
    else:
        row |= dict.fromkeys(("ratio", "ratio_low", "ratio_high", "ratio_is"))
    return row | more


def ratio_fields(above: Rounds, below: Rounds, name: str) -> Record:
    """Return the fields of a ratio: its median over the rounds, its quartiles, and what it is of."""
    middle, low, high = ratio(above, below)
    return {"ratio": middle, "ratio_low": low, "ratio_high": high, "ratio_is": name}


def header(arguments: Sequence[str], against_torch: bool, **settings: Any) -> Record:
    """Return the record that comes first: versions, machine, date and command."""
    packages = ["threadpoolctl"] + ["torch"] * against_torch
    versions = {"minidl": minidl.__version__, "python": platform.python_version()}
    return {
        "what": "header",
        "command": shlex.join(["python", "-m", "minidl.bench", *arguments]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions | device.versions() | {name: _version(name) for name in packages} | {"blas": _blas()},
        "system": platform.platform(),
        "cpu": device.cpu(),
        "device": device.name(),
        "cores": available_threads(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        **settings,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _blas() -> str:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"


def save(records: Iterable[Record], path: Path) -> None:
    """Write the records, one per line, as a JSON list."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    write_output(path, f"[\n{lines}\n]\n")


def load(path: Path) -> list[Record]:
    """Read what `save` wrote.

    Raises
    ------
    ValueError
        If the file is something else.
    """
    try:
        records = parse_json(read_file(path).decode("utf-8"))
        if records[0]["what"] != "header" or any(record["section"] not in SECTIONS for record in records[1:]):
            raise KeyError
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} must be a file that --json wrote; measure again with --json") from error
    return list(records)
