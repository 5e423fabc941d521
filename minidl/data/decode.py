"""From the files of a task to its arrays: files are decoded on threads, and written to the cache in blocks."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl.data.cache import Stream
from minidl.data.catalog import Source
from minidl.data.dataset import statistics
from minidl.data.locate import Files, as_colour, read
from minidl.data.threaded import map_on_threads

SPLITS = ("train", "test")
_BLOCK = 1024  # images


@dataclass(frozen=True)
class Found:
    """A source with the files found for it: ``files["train"]``, ``files["test"]``."""

    source: Source
    folder: Path
    files: dict[str, list[Files]]


@dataclass(frozen=True)
class Part:
    """What one file holds: images as they are stored there, and labels of the task."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    source: int


Parts = Mapping[str, Sequence[Part]]


def decode(found: Sequence[Found], progress: bool) -> Parts:
    """Read all files of a task; the labels of each source start where those of the one before end."""
    offsets = np.cumsum([0] + [len(f.source.class_names) for f in found])
    jobs = [(split, s, files) for s, f in enumerate(found) for split in SPLITS for files in f.files[split]]

    def work(job: tuple[str, int, Files]) -> Part:
        _, s, files = job
        images, labels = read(found[s].source, files)
        return Part(images, labels.astype(np.int64) + offsets[s], s)

    parts: dict[str, list[Part]] = {split: [] for split in SPLITS}
    decoded = map_on_threads(work, jobs, "decoding" if progress else None)
    for (split, _, _), part in zip(jobs, decoded, strict=True):
        parts[split].append(part)
    return parts


def streams(parts: Parts) -> dict[str, Stream]:
    """Return the arrays of a task, named ``<split>.images``, ``.labels`` and ``.source``, as streams."""
    made = {}
    for split in SPLITS:
        count = sum(len(part.labels) for part in parts[split])
        made[f"{split}.images"] = Stream((count, 3, 32, 32), "uint8", _Blocks(parts[split]))
        made[f"{split}.labels"] = Stream((count,), "int64", [part.labels for part in parts[split]])
        made[f"{split}.source"] = Stream(
            (count,), "int64", [np.full(len(part.labels), part.source) for part in parts[split]]
        )
    return made


def facts(found: Sequence[Found], parts: Parts) -> dict[str, Any]:
    """Return what is worth keeping beside the arrays: images found of each source, statistics of the training set."""
    mean, std = statistics(_Blocks(parts["train"]))
    counts = {
        split: [sum(len(part.labels) for part in parts[split] if part.source == s) for s in range(len(found))]
        for split in SPLITS
    }
    sums = {split: _sha256(parts[split]) for split in SPLITS}
    return {"counts": counts, "mean": mean.tolist(), "std": std.tolist(), "sha256": sums}


def _sha256(parts: Sequence[Part]) -> str:
    """Return the `data_sha256` of a split that is not in memory as a whole."""
    sha = hashlib.sha256()
    for block in _Blocks(parts):
        sha.update(block.data)
    for part in parts:
        sha.update(np.ascontiguousarray(part.labels, "<i8").data)
    for part in parts:
        sha.update(np.full(len(part.labels), part.source, "<i8").data)
    return sha.hexdigest()


class _Blocks:
    """The images of some parts as (m, 3, 32, 32) blocks; can be gone through again."""

    def __init__(self, parts: Sequence[Part]):
        self.parts = parts

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for part in self.parts:
            for start in range(0, len(part.images), _BLOCK):
                yield as_colour(part.images[start : start + _BLOCK])
