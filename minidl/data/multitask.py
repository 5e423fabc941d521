"""Tasks: one data set, or the paper's union of four with mutually exclusive labels."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl.data import cache
from minidl.data.catalog import CIFAR10, CIFAR100, FASHION_MNIST, MNIST, SVHN, Source
from minidl.data.dataset import Dataset, Task
from minidl.data.decode import SPLITS, Found, decode, facts, streams
from minidl.data.errors import DataError
from minidl.data.locate import find
from minidl.data.split import TEST_SHARE

TASKS: dict[str, tuple[Source, ...]] = {
    "multitask": (MNIST, CIFAR10, SVHN, FASHION_MNIST),  # labels 0-9, 10-19, 20-29, 30-39
    "mnist": (MNIST,),
    "fashion-mnist": (FASHION_MNIST,),
    "cifar10": (CIFAR10,),
    "cifar100": (CIFAR100,),
    "svhn": (SVHN,),
    # not of the catalog: one's own images, and ImageNet's, which stay on the disk
    "folder": (),
    "arrays": (),
    "imagenet": (),
}
OWN = ("folder", "arrays")

FITS = {"mnist": "digits", "fashion-mnist": "digits", "multitask": "mixed"}
"""How an image becomes an input of these tasks (`minidl.data.fit`); of the others it becomes a square."""

SAMPLE = Path(__file__).parent / "sample"

PathLike = str | os.PathLike[str]
Arrays = Mapping[str, NDArray[Any]]


def load_task(
    name: str,
    data_dir: PathLike | None = None,
    sample: bool = False,
    cache_dir: PathLike | None = None,
    progress: bool = True,
    image_size: int = 224,
    corrupt: str = "refuse",
    workers: int | None = None,
    seed: int = 0,
    test_share: float = TEST_SHARE,
) -> Task:
    """Return a task, from ``data_dir``, from the bundled sample, or downloaded.

    Parameters
    ----------
    name : str
        "multitask", "mnist", "fashion-mnist", "cifar10", "cifar100", "svhn", "folder", "arrays" or "imagenet".
    data_dir : path, optional
        A folder with the sets' files; nothing is downloaded then, and a part of a set is enough. For "folder" the
        folder of the images, for "arrays" the .npz file.
    sample : bool
        Take the bundled sample instead.
    cache_dir : path, optional
        Where downloads and decoded arrays are kept; else ``MINIDL_DATA``, else the platform's cache folder.
    progress : bool
        Whether downloads and decoding show a bar on stderr, where that is a terminal.
    image_size : int
        For "imagenet", which needs a ``data_dir``: see `minidl.data.image_folder.load_images`.
    corrupt : {"refuse", "skip"}
        For "imagenet" and "folder": what to do with an image that cannot be decoded.
    workers : int, optional
        For "imagenet": how many processes decode.
    seed : int
        For "folder" and "arrays", which need a ``data_dir``: what draws their test set; see
        `minidl.data.class_folder.load_folder` and `minidl.data.arrays.load_npz`.
    test_share : float
        For the same: the share of each class that is drawn.

    Raises
    ------
    DataError
        An unknown name, files that are missing or damaged, or a download that failed.

    Examples
    --------
    >>> task = load_task("mnist", sample=True, progress=False)
    >>> task.num_classes, task.train.images.shape[1:]
    (10, (3, 32, 32))
    """
    own = image_size, corrupt, workers, seed, test_share
    try:
        return _load(name, data_dir, sample, cache_dir, progress, *own)
    except OSError as error:  # whatever of the data it is that cannot be read
        where, why = error.filename or data_dir or name, error.strerror or error
        raise DataError(f"{where}: cannot be read ({why}); check the path and its rights") from error


def _load(
    name: str,
    data_dir: PathLike | None,
    sample: bool,
    cache_dir: PathLike | None,
    progress: bool,
    image_size: int,
    corrupt: str,
    workers: int | None,
    seed: int,
    test_share: float,
) -> Task:
    if name not in TASKS:
        raise DataError(f"load_task: name must be one of {', '.join(TASKS)}, got {name!r}; choose one of these")
    if sample and data_dir is not None:
        raise DataError(f"load_task: data_dir must be left out with sample, got {data_dir}; choose one of the two")
    if data_dir is not None and not os.fspath(data_dir):
        raise DataError("load_task: data_dir must be a path, got ''; . is the folder you are in")
    if name == "imagenet":
        if data_dir is None:
            raise DataError("imagenet: cannot be downloaded; give --data-dir DIR with train/CLASS and val/CLASS in it")
        from minidl.data.image_folder import load_images

        return load_images(data_dir, name, image_size, corrupt, workers)
    if name in OWN and data_dir is None:
        what = "DIR with a folder of images for each class in it" if name == "folder" else "FILE.npz with your arrays"
        raise DataError(f"{name}: {'not in the bundled sample' if sample else 'your own data'}; give --data-dir {what}")
    if name == "folder" and data_dir is not None:
        from minidl.data.class_folder import load_folder

        return load_folder(data_dir, image_size, seed, test_share, corrupt, cache_dir, progress)
    if name == "arrays" and data_dir is not None:
        from minidl.data.arrays import load_npz

        return load_npz(data_dir, image_size, seed, test_share)
    if sample:
        found = _find(name, SAMPLE)
        arrays, known = _in_memory(found, progress)
        return _task(name, found, arrays, known)
    kept = cache.cache_folder(cache_dir)
    if data_dir is not None:
        found = _find(name, cache.expanded(data_dir))
    else:
        from minidl.data.download import fetch

        for source in TASKS[name]:
            fetch(source, kept / "downloads", progress)
        found = _find(name, kept / "downloads")
    return _cached(name, found, kept / "decoded", progress)


def names_of(sources: Sequence[Source]) -> tuple[str, ...]:
    """Return the names of the classes of data sets, those of several behind the name of each."""
    several = len(sources) > 1
    return tuple(f"{source.name} {cls}" if several else cls for source in sources for cls in source.class_names)


def _find(name: str, folder: Path) -> list[Found]:
    found = []
    for source in TASKS[name]:
        if folder is SAMPLE and not (SAMPLE / source.name).is_dir():
            raise DataError(f"{source.name}: not in the bundled sample; give --data-dir DIR, or leave --sample out")
        train, test = find(source, folder, alone=len(TASKS[name]) == 1)
        found.append(Found(source, train[0][0].parent, {"train": train, "test": test}))
    return found


def _cached(name: str, found: Sequence[Found], folder: Path, progress: bool) -> Task:
    """Return the task from the cache, decoding its files into it first where they are new or it is damaged."""
    paths = [path.resolve() for f in found for split in SPLITS for files in f.files[split] for path in files]
    stamp = cache.file_stamp(paths)
    entry = folder / f"{name}-{hashlib.sha256(repr(paths).encode()).hexdigest()[:16]}"
    loaded = cache.load(entry, stamp)
    if loaded is not None:
        return _task(name, found, *loaded)
    parts = decode(found, progress)
    made, known = streams(parts), facts(found, parts)
    why = "what was written cannot be read back"
    try:
        cache.store(entry, stamp, made, lambda: known)
    except OSError as error:
        why = error.strerror or str(error)
    loaded = cache.load(entry, stamp)
    if loaded is not None:
        return _task(name, found, *loaded)
    note = f"cache: {folder} could not be used ({why}); the data is kept in memory and decoded again next time"
    return _task(name, found, {key: stream.gathered() for key, stream in made.items()}, known, note)


def _in_memory(found: Sequence[Found], progress: bool) -> tuple[Arrays, dict[str, Any]]:
    parts = decode(found, progress)
    return {key: stream.gathered() for key, stream in streams(parts).items()}, facts(found, parts)


def _task(name: str, found: Sequence[Found], arrays: Arrays, known: Mapping[str, Any], *notes: str) -> Task:
    sources = tuple(f.source.name for f in found)
    class_names = names_of([f.source for f in found])
    statistics = (np.array(known["mean"]), np.array(known["std"]))

    def dataset(split: str) -> Dataset:
        parts = [arrays[f"{split}.{part}"] for part in ("images", "labels", "source")]
        for part in parts:
            part.flags.writeable = False
        images, labels, source = parts
        colours = statistics if split == "train" else None
        return Dataset(images, labels, source, sources, len(class_names), colours, known["sha256"][split])

    lines = [_line(f, *counts) for f, *counts in zip(found, *(known["counts"][split] for split in SPLITS), strict=True)]
    fit = FITS.get(name, "square")
    return Task(name, len(class_names), class_names, dataset("train"), dataset("test"), (*lines, *notes), fit=fit)


def _line(found: Found, train: int, test: int) -> str:
    source = found.source
    return (
        f"{source.name}: {train} of {source.train.count} training images, "
        f"{test} of {source.test.count} test images, from {found.folder}"
    )
