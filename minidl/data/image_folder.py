"""Tasks of image files in one folder per class, as ImageNet's are."""

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from minidl.data import cache
from minidl.data.dataset import Dataset, Task, statistics
from minidl.data.errors import DataError
from minidl.data.find_images import is_folder, known_folder
from minidl.data.image_decode import Corrupt
from minidl.data.image_files import Decoder, ImageFiles
from minidl.data.runs_among import is_run, refuse_run, refuse_runs
from minidl.extras import require
from minidl.parallel import available_threads

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
TEST = ("val", "test")
SAMPLED = 1024  # training images that the colour statistics are taken of
_BLOCK = 64


def load_images(
    folder: str | os.PathLike[str],
    name: str = "imagenet",
    size: int = 224,
    corrupt: str = "refuse",
    workers: int | None = None,
) -> Task:
    """Return the task of the files in ``folder/train/CLASS`` and ``folder/val/CLASS``, or ``folder/test/CLASS``.

    Classes are the folders' names in sorted order, images the files with a known suffix in them or below, in the order
    of their names. Nothing is decoded but at most 1024 training images, evenly spaced, whose pixels give the colour
    statistics; see `ImageFiles` for how the others are.

    Parameters
    ----------
    folder : path
    name : str
        The task's.
    size : int
        The side of the square that each image becomes.
    corrupt : {"refuse", "skip"}
        What to do with a file that cannot be decoded.
    workers : int, optional
        Decoding processes; as many as there are usable cores by default.

    Raises
    ------
    DataError
        There is no such folder, a part of it is missing, or an image is corrupt and to be refused.
    MissingLibraryError
        Pillow is not installed.
    """
    require("reading image files", "PIL")
    root = cache.expanded(folder)
    if not known_folder(root):
        raise DataError(f"{root}: no such data folder; give --data-dir an existing one")
    test = next((root / each for each in TEST if known_folder(root / each)), None)
    if test is None or not known_folder(root / "train"):
        raise DataError(f"{root}: no image folders found; put the images in train/CLASS and val/CLASS there")
    cache.refuse_within((root / "train", test), hidden_too=True)
    decoder = Decoder(workers or available_threads(), corrupt)
    classes = _classes(root / "train")
    train, labels = _files(root / "train", classes, size, decoder)
    test_images, test_labels = _files(test, classes, size, decoder)
    for part, found in ((root / "train", train), (test, test_images)):
        if not len(found):
            raise DataError(
                f"{part}: no image with a name in {' '.join(SUFFIXES)}; put them there in one folder per class"
            )
    lines = (
        f"{name}: {len(train)} training images, {len(test_images)} test images of {len(classes)} classes, from {root}",
    )
    return Task(
        name,
        len(classes),
        tuple(classes),
        _dataset(train, labels, name, len(classes), _colours(train)),
        _dataset(test_images, test_labels, name, len(classes), None),
        lines,
        top5=len(classes) > 5,
        fit="imagenet",
    )


def _dataset(
    images: ImageFiles, labels: NDArray[np.int64], name: str, classes: int, colours: tuple[Any, Any] | None
) -> Dataset:
    labels.flags.writeable = False
    source = np.broadcast_to(np.int64(0), labels.shape)
    return Dataset(cast(NDArray[np.uint8], images), labels, source, (name,), classes, colours)


def _classes(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if is_folder(entry))
    except OSError as error:
        raise DataError(f"{folder}: cannot be looked into ({error.strerror}); check its rights") from error


def _files(folder: Path, classes: list[str], size: int, decoder: Decoder) -> tuple[ImageFiles, NDArray[np.int64]]:
    """Return the images of a split and their labels; a class without a folder has none."""
    if unknown := sorted(set(_classes(folder)) - set(classes)):
        refuse_runs(folder)
        raise DataError(f"{folder}: the class {unknown[0]} has no training images; put some in train/{unknown[0]}")
    names: list[NDArray[Any]] = []
    labels: list[NDArray[np.int64]] = []
    for label, name in enumerate(classes):
        found = sorted(_below(folder / name, name, folder)) if known_folder(folder / name) else []
        names.append(np.array(found, bytes))
        labels.append(np.full(len(found), label, np.int64))
    joined = np.concatenate(names) if names else np.array([], bytes)
    return ImageFiles(str(folder), joined, size, decoder), np.concatenate([*labels, np.zeros(0, np.int64)])


def _below(folder: Path, prefix: str, top: Path, within: frozenset[str] = frozenset()) -> list[bytes]:
    """Return the names of the image files in a folder and those below it, relative to the top; DataError for a run."""
    found: list[bytes] = []
    within |= {os.path.realpath(folder)}
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot be looked into ({error.strerror}); check its rights") from error
    for entry in entries:
        name = f"{prefix}/{entry.name}"
        if is_folder(entry):
            if entry.is_symlink() and os.path.realpath(entry.path) in within:
                found.append(os.fsencode(name))  # it has no end, which is said when it is opened
            else:
                found += _below(folder / entry.name, name, top, within)
        elif entry.name == "config.json" and is_run(folder):
            refuse_run(folder, top)
        elif entry.name.lower().endswith(SUFFIXES):
            found.append(os.fsencode(name))
    return found


def _colours(images: ImageFiles) -> tuple[Any, Any]:
    """Return mean and deviation of each channel over evenly spaced training images."""
    every = -(-len(images) // SAMPLED)
    chosen = np.arange(0, len(images), every)

    def blocks() -> Any:
        for start in range(0, len(chosen), _BLOCK):
            found = images.start(chosen[start : start + _BLOCK]).images()
            if whole := [image for image in found if not isinstance(image, Corrupt)]:
                yield np.stack(whole)

    try:
        return statistics(blocks())
    except ZeroDivisionError:
        raise DataError(f"{images.folder}: none of the images can be decoded; check the files") from None
