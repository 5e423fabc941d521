"""The task `folder`: your own images, in one folder per class (`minidl.data.find_images`), decoded and kept."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl.data import cache
from minidl.data.dataset import Dataset, Sums, Task
from minidl.data.errors import DataError
from minidl.data.find_images import SPLITS, Files, drawn, find_all, find_images, image_folders
from minidl.data.fit import fit_file
from minidl.data.noted import Noted, digest, joined
from minidl.data.split import TEST_SHARE, count_by_class
from minidl.data.threaded import map_on_threads
from minidl.extras import require

FORMAT = 3
"""Raised whenever the pixels that come of a file, or what is noted of them, change."""

_BLOCK = 64  # images


def load_folder(
    folder: str | os.PathLike[str],
    size: int = 32,
    seed: int = 0,
    test_share: float = TEST_SHARE,
    corrupt: str = "refuse",
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Task:
    """Return the task of the images in ``folder/CLASS``, or in ``folder/train/CLASS`` and ``folder/test/CLASS``.

    Each becomes S × S by `minidl.data.fit.fit`. The decoded images are kept in the cache, so a second start maps them.

    Parameters
    ----------
    folder : path
        Without a folder `train` and a folder `test` (or val, valid, validation) in it, a test set is drawn from each
        class: `draw_split`.
    size : int
        The side S.
    seed, test_share
        Of a split that is drawn.
    corrupt : {"refuse", "skip"}
        What to do with an image that cannot be read.
    cache_dir : path, optional
        As for `load_task`.
    progress : bool
        Whether decoding shows a bar.

    Raises
    ------
    DataError
        There is no such folder, no class or one alone, a class without images, or an image that cannot be read.
    """
    require("reading image files", "PIL")
    cache.refuse_within(image_folders(folder), cache_dir)
    found = find_images(folder, seed, test_share)
    entry, stamp = _entry(found, size, corrupt, cache.cache_folder(cache_dir) / "decoded")
    notes = []
    if (loaded := cache.load(entry, stamp)) is None:
        kept, names = _readable(found, size, corrupt, progress)
        blocks = {split: _Blocks(kept.paths[split], kept.labels[split], size, progress) for split in SPLITS}
        made = _streams(kept, size, blocks)

        def facts() -> dict[str, Any]:
            mean, std = blocks["train"].sums.statistics()
            sums = {split: blocks[split].sha256 for split in SPLITS}
            return {
                "mean": mean.tolist(),
                "std": std.tolist(),
                "sha256": sums,
                "corrupt": names,
                "digests": joined({split: blocks[split].digests for split in SPLITS}, kept.labels, kept.class_names),
                "names": {split: _relative(kept, split) for split in SPLITS} if names else None,
            }

        why = "what was written cannot be read back"
        try:
            cache.store(entry, stamp, made, facts)
        except OSError as error:
            why = error.strerror or str(error)
        if (loaded := cache.load(entry, stamp)) is None:
            notes = [f"cache: {entry.parent} could not be used ({why}); the images are decoded again next time"]
            loaded = {name: stream.gathered() for name, stream in made.items()}, facts()
    return _task(found, *loaded, notes)


def load_all(
    folder: str | os.PathLike[str], class_names: Sequence[str], size: int, how: str = "square", corrupt: str = "refuse"
) -> Task:
    """Return a task whose test set is all images of a folder, or those of its own test folder; it has no training set.

    Parameters
    ----------
    folder : path
        With folders of some of the classes in it, or in its folder `test` (or val, valid, validation).
    class_names : sequence of str
        Of a network that knows them: they give the labels.
    size, how
        See `minidl.data.fit.fit`.
    corrupt : {"refuse", "skip"}

    Raises
    ------
    DataError
        As `load_folder`; also for a class that the network does not know.
    """
    cache.refuse_within(image_folders(folder))
    files = find_all(folder, class_names)
    kept, bad = _readable(files, size, corrupt, progress=False)
    blocks = {split: _Blocks(kept.paths[split], kept.labels[split], size, False, how) for split in SPLITS}
    arrays = {name: stream.gathered() for name, stream in _streams(kept, size, blocks).items()}
    sums = {split: blocks[split].sha256 for split in SPLITS}
    return _task(files, arrays, {"mean": None, "std": None, "sha256": sums, "corrupt": bad}, [])


def _entry(found: Files, size: int, corrupt: str, folder: Path) -> tuple[Path, list[Any]]:
    """Return where the decoded images are kept, and the stamp of what they come from."""
    root = found.root.resolve()
    key = hashlib.sha256(repr((str(root), size, found.split, corrupt)).encode("utf-8", "surrogateescape")).hexdigest()
    try:
        stamps = [cache.file_stamp(map(Path, found.paths[split])) for split in SPLITS]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be looked at ({error.strerror}); check it") from error
    stamp = hashlib.sha256(repr(stamps).encode("utf-8", "surrogateescape"))
    for split in SPLITS:
        stamp.update(found.labels[split].tobytes())
    return folder / f"folder-{key[:16]}", [FORMAT, stamp.hexdigest()]


def _readable(found: Files, size: int, corrupt: str, progress: bool) -> tuple[Files, list[str]]:
    """Return the files without those that cannot be read, where these are to be skipped, and the names of those.

    A test set that is drawn is drawn of those that are left: so it is the same when what was skipped is removed.
    """
    if corrupt != "skip":
        return found, []
    bad: list[str] = []
    paths: dict[str, list[str]] = {}
    labels: dict[str, NDArray[np.int64]] = {}
    for split in SPLITS:
        read = list(_decoded(found.paths[split], partial(_try, size=size), progress, "looking at images"))
        good = [i for i, image in enumerate(read) if image is None]
        bad += [str(image) for image in read if image is not None]
        paths[split] = [found.paths[split][i] for i in good]
        labels[split] = found.labels[split][good]
    for split in SPLITS:
        if found.paths[split] and not paths[split]:
            raise DataError(f"{found.root}: none of the {split} images can be read; check the files")
    if bad and found.drawn is not None:
        left = sorted((k, path) for split in SPLITS for k, path in zip(labels[split], paths[split], strict=True))
        joined = [path for _, path in left], np.array([k for k, _ in left], np.int64)
        paths, labels = drawn(*joined, found.class_names, found.drawn, found.root)
    return replace(found, paths=paths, labels=labels), bad


def _try(path: str, size: int) -> str | None:
    try:
        fit_file(path, size)
    except ValueError as error:
        return f"{path}: {error}"
    return None


def _fitted(path: str, size: int, how: str) -> NDArray[np.uint8]:
    try:
        return fit_file(path, size, how)
    except ValueError as error:
        raise DataError(f"{path}: {error}; mend or remove the file, or give --corrupt skip") from error


def _decoded(paths: Sequence[str], work: Any, progress: bool, title: str) -> Iterator[Any]:
    """Map over the paths on threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata in files that decode well
        yield from map_on_threads(work, paths, title if progress else None, "image")


class _Blocks:
    """The images of some files as blocks (m, 3, S, S); going through them also sums them up.

    Attributes
    ----------
    sums : Sums
    sha256 : str
        The `data_sha256`.
    digests : list of str
        Of each image, a short one.
    """

    def __init__(self, paths: list[str], labels: NDArray[np.int64], size: int, progress: bool, how: str = "square"):
        self.paths, self.labels, self.progress = paths, labels, progress
        self._work = partial(_fitted, size=size, how=how)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        self.sums, sha = Sums(), hashlib.sha256()
        self.digests: list[str] = []
        images = _decoded(self.paths, self._work, self.progress, "decoding")
        for start in range(0, len(self.paths), _BLOCK):
            block = np.stack([next(images) for _ in self.paths[start : start + _BLOCK]])
            self.sums.add(block)
            sha.update(block.data)
            self.digests += map(digest, block)
            yield block
        sha.update(np.ascontiguousarray(self.labels, "<i8").data)
        sha.update(np.zeros(len(self.labels), "<i8").data)  # one source
        self.sha256 = sha.hexdigest()


def _streams(found: Files, size: int, blocks: dict[str, _Blocks]) -> dict[str, cache.Stream]:
    made = {}
    for split in SPLITS:
        count = len(found.paths[split])
        made[f"{split}.images"] = cache.Stream((count, 3, size, size), "uint8", blocks[split])
        made[f"{split}.labels"] = cache.Stream((count,), "int64", [found.labels[split]])
    return made


def _relative(found: Files, split: str) -> list[str]:
    return [os.path.relpath(path, found.root) for path in found.paths[split]]


def _noted(found: Files, labels: dict[str, NDArray[np.int64]], known: dict[str, Any]) -> Noted | None:
    """Return what is noted of the images."""
    if "digests" not in known:
        return None
    names: dict[str, dict[str, list[str]]] = {}
    for split in SPLITS:
        paths = known["names"][split] if known["names"] else _relative(found, split)
        names[split] = {name: [] for name in found.class_names}
        for label, path in zip(labels[split].tolist(), paths, strict=True):
            names[split][found.class_names[label]].append(path)
    return Noted(known["digests"], names)


def _task(found: Files, arrays: Any, known: dict[str, Any], notes: list[str]) -> Task:
    statistics = None if known["mean"] is None else (np.array(known["mean"]), np.array(known["std"]))

    def dataset(split: str) -> Dataset:
        images, labels = arrays[f"{split}.images"], arrays[f"{split}.labels"]
        for part in (images, labels):
            part.flags.writeable = False
        source = np.broadcast_to(np.int64(0), labels.shape)
        sha256 = known["sha256"][split]
        colours = statistics if split == "train" else None
        return Dataset(images, labels, source, ("folder",), len(found.class_names), colours, sha256)

    train, test = dataset("train"), dataset("test")
    counts = {
        split: count_by_class(part.labels, found.class_names) for split, part in (("train", train), ("test", test))
    }
    notes = [*notes, *(f"skipped: {each}" for each in known["corrupt"])]
    if found.unused:
        verb = "is" if len(found.unused) == 1 else "are"
        notes.append(
            f"folder: {', '.join(found.unused)} {verb} not used: the test set is the folder {found.split.split()[-1]}"
        )
    if found.ignored:
        what = ", ".join(f"{n} {ending}" for ending, n in sorted(found.ignored.items()))
        notes.append(f"folder: files that are not images are ignored ({what})")
    many = ", ..." if len(found.class_names) > 10 else ""
    lines = [
        f"folder: {len(train)} training images, {len(test)} test images of {len(found.class_names)} classes "
        f"({', '.join(found.class_names[:10])}{many}), from {found.root}; split {found.split}",
        *notes,
    ]
    facts = {
        "split": found.split,
        "train_images_by_class": counts["train"],
        "test_images_by_class": counts["test"],
    }
    noted = _noted(found, {"train": train.labels, "test": test.labels}, known)
    classes = found.class_names
    return Task("folder", len(classes), classes, train, test, tuple(lines), facts=facts, noted=noted)
