"""Finding a data set's files in a folder, and reading them."""

import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidl.data.catalog import SOURCES, Source, Split
from minidl.data.cifar import read_cifar
from minidl.data.errors import DataError, bad_file
from minidl.data.idx import read_idx
from minidl.data.svhn import read_svhn
from minidl.files import is_kind

PACKINGS = ("", ".gz", ".xz")
Files = tuple[Path, ...]  # the files read together: a CIFAR batch, or IDX images with their labels


def find(source: Source, folder: Path, alone: bool) -> tuple[list[Files], list[Files]]:
    """Return the training and the test files of a set that are under ``folder``; a part of them is enough.

    They lie in ``folder/<name of the set>`` or straight in ``folder``.  MNIST and Fashion-MNIST call their files the
    same, so these count straight in ``folder`` only when the set is the task's only one (``alone``).

    Raises
    ------
    DataError
        There is no such folder, or no training or no test file in it.
    """
    try:
        there = is_kind(stat.S_ISDIR, folder)
        places = _places(source, folder, alone) if there else []
        present = [(place, _present(source.train, place), _present(source.test, place)) for place in places]
    except OSError as error:
        raise DataError(f"{folder}: cannot be looked into ({error.strerror}); check the path and its rights") from error
    if not there:
        raise DataError(f"{folder}: no such data folder; give --data-dir an existing one, or --sample to run without")
    for place, train, test in present:
        if train and test:
            return train, test
        if train or test:
            kind, split = ("training", source.train) if not train else ("test", source.test)
            raise DataError(f"{place}: no {source.name} {kind} images; put {_listed(split)} (or .gz, .xz) there")
    looked = " or in ".join(map(str, places))
    raise DataError(
        f"{folder}: no {source.name} found; looked for {_listed(source.train)} (or .gz, .xz) in {looked}; "
        "put the files there, leave --data-dir out to download them, or run with --sample"
    )


def _places(source: Source, folder: Path, alone: bool) -> list[Path]:
    for other in SOURCES.values() if alone else ():
        if other is not source and other.name != source.name and _belongs(folder, other):
            raise DataError(
                f"{folder}: expected {source.name}, got the folder of {other.name}; give the folder above it"
            )
    flat = [folder, folder / "raw"] if alone else [folder] if source.format != "idx" else []
    return [folder / name for name in source.folders] + flat


def _belongs(folder: Path, source: Source) -> bool:
    """Whether a folder is a set's own, by its name: ``cifar-10``, ``MNIST`` or ``MNIST/raw``."""
    names = [Path(name) for name in source.folders]
    return any(
        folder.parts[-len(n.parts) :] == n.parts or (len(n.parts) > 1 and folder.name == n.parts[0]) for n in names
    )


def _present(split: Split, place: Path) -> list[Files]:
    found = []
    for names in split.files:
        paths = [_packed(place / name) for name in names]
        if all(paths):
            found.append(tuple(path for path in paths if path))
        elif any(paths):
            missing = next(name for name, path in zip(names, paths, strict=True) if path is None)
            raise DataError(f"{place / missing}: not found (nor .gz, .xz) beside its partner; put it there")
    return found


def _packed(path: Path) -> Path | None:
    """Return the file of this name, plain or packed, or the one of CIFAR's Python version, which lacks the ``.bin``."""
    packed = [path.with_name(path.name + packing) for packing in PACKINGS]
    if path.suffix == ".bin":
        packed.append(path.with_suffix(""))
    return next((p for p in packed if is_kind(stat.S_ISREG, p)), None)


def _listed(split: Split) -> str:
    return " or ".join(" and ".join(names) for names in split.files[:2]) + (" or ..." if len(split.files) > 2 else "")


def read(source: Source, files: Sequence[Path]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (M, 28, 28) or (M, 3, 32, 32) and labels (M,) of the files that are read together.

    Raises
    ------
    DataError
        A file is damaged, holds no image, or has labels that do not fit its images.
    """
    classes = len(source.class_names)
    if source.format == "idx":
        images, labels = read_idx(files[0]), read_idx(files[1])
        if images.ndim != 3 or images.shape[1:] != (28, 28):
            raise bad_file(files[0], 4, "images of shape (M, 28, 28)", images.shape)
        if labels.shape != images.shape[:1]:
            raise bad_file(files[1], 4, f"{len(images)} labels for {files[0].name}", f"shape {labels.shape}")
        wrong = np.flatnonzero(labels >= classes)
        if len(wrong):
            raise bad_file(files[1], 8 + int(wrong[0]), f"a label of 0 to {classes - 1}", labels[wrong[0]])
    elif source.format == "cifar":
        images, label_bytes = read_cifar(files[0], source.label_bytes)
        labels = label_bytes[:, -1]  # CIFAR-100: the fine class
    else:
        images, labels = read_svhn(files[0])
    if not len(images):
        raise DataError(f"{files[0]}: expected at least one image, got none; get the file again")
    return images, labels


def as_colour(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images as (M, 3, 32, 32): grey ones (M, 28, 28) padded by two black pixels a side and repeated.

    >>> as_colour(np.full((5, 28, 28), 7, np.uint8))[4, :, 1:3, 16]
    array([[0, 7],
           [0, 7],
           [0, 7]], dtype=uint8)
    """
    if images.ndim == 4:
        return np.ascontiguousarray(images)
    colour = np.zeros((len(images), 3, 32, 32), np.uint8)
    colour[:, :, 2:30, 2:30] = images[:, None]
    return colour
