"""The task `folder`: your own images, in one folder per class."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl.data import cache
from minidl.data.dataset import Dataset, Sums, Task
from minidl.data.errors import DataError
from minidl.data.fit import fit_file
from minidl.data.noted import Noted, digest, joined
from minidl.data.split import TEST_SHARE, count_by_class, describe_split, draw_split
from minidl.data.threaded import map_on_threads
from minidl.extras import require

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
TEST = ("test", "val", "valid", "validation")
FORMAT = 3
"""Raised whenever the pixels that come of a file, or what is noted of them, change."""

_BLOCK = 64  # images
_SPLITS = ("train", "test")


@dataclass(frozen=True)
class Files:
    """The images that were found.

    Attributes
    ----------
    root : Path
    class_names : tuple of str
        The folders' names, sorted.
    paths, labels : dict
        Of "train" and "test", in the order of the names.
    split : str
        How they were divided.
    ignored : dict
        {ending: files} of those that are no images.
    drawn : (float, int), optional
        Share and seed of a test set that is drawn; None where one is given.
    """

    root: Path
    class_names: tuple[str, ...]
    paths: dict[str, list[str]]
    labels: dict[str, NDArray[np.int64]]
    split: str
    ignored: dict[str, int]
    drawn: tuple[float, int] | None = None


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
    found = find_images(folder, seed, test_share)
    entry, stamp = _entry(found, size, corrupt, cache.cache_folder(cache_dir) / "decoded")
    notes = []
    if (loaded := cache.load(entry, stamp)) is None:
        kept, names = _readable(found, size, corrupt, progress)
        blocks = {split: _Blocks(kept.paths[split], kept.labels[split], size, progress) for split in _SPLITS}
        made = _streams(kept, size, blocks)

        def facts() -> dict[str, Any]:
            mean, std = blocks["train"].sums.statistics()
            sums = {split: blocks[split].sha256 for split in _SPLITS}
            return {
                "mean": mean.tolist(),
                "std": std.tolist(),
                "sha256": sums,
                "corrupt": names,
                "digests": joined({split: blocks[split].digests for split in _SPLITS}, kept.labels, kept.class_names),
                "names": {split: _relative(kept, split) for split in _SPLITS} if names else None,
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
    root = _root(folder)
    given = _given_split(root)
    top = given[1] if given else root
    _refuse_no_class(top, class_names[0])
    paths, labels, ignored = _images(top, class_names)
    split = f"given: {given[1].name}" if given else "all images"
    one = {"train": [], "test": paths}, {"train": labels[:0], "test": labels}
    files = Files(root, tuple(class_names), *one, split, ignored)
    kept, bad = _readable(files, size, corrupt, progress=False)
    blocks = {split: _Blocks(kept.paths[split], kept.labels[split], size, False, how) for split in _SPLITS}
    arrays = {name: stream.gathered() for name, stream in _streams(kept, size, blocks).items()}
    sums = {split: blocks[split].sha256 for split in _SPLITS}
    return _task(files, arrays, {"mean": None, "std": None, "sha256": sums, "corrupt": bad}, [])


def find_images(folder: str | os.PathLike[str], seed: int = 0, test_share: float = TEST_SHARE) -> Files:
    """Return the images of a folder, divided as `load_folder` says; none is opened."""
    root = _root(folder)
    given = _given_split(root)
    if given is None:
        top = _top(root)
        classes = _known_classes(top)
        paths, labels, ignored = _images(top, classes)
        parts = _drawn(paths, labels, classes, (test_share, seed), top)
        return Files(root, classes, *parts, describe_split(test_share, seed), ignored, (test_share, seed))
    classes = _known_classes(given[0])
    found = [_images(part, classes) for part in given]
    return Files(
        root,
        classes,
        {split: paths for split, (paths, _, _) in zip(_SPLITS, found, strict=True)},
        {split: labels for split, (_, labels, _) in zip(_SPLITS, found, strict=True)},
        f"given: {given[0].name} and {given[1].name}",
        dict(sum((Counter(ignored) for _, _, ignored in found), Counter())),
    )


def _drawn(
    paths: list[str], labels: NDArray[np.int64], classes: Sequence[str], drawn: tuple[float, int], where: Path
) -> tuple[dict[str, list[str]], dict[str, NDArray[np.int64]]]:
    """Return the paths and the labels of a training and a test set that is drawn."""
    test = draw_split(labels, classes, *drawn, where)
    of = {"train": ~test, "test": test}
    return {k: [paths[i] for i in np.flatnonzero(v)] for k, v in of.items()}, {k: labels[v] for k, v in of.items()}


def _root(folder: str | os.PathLike[str]) -> Path:
    root = cache.expanded(folder)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what}; give --data-dir DIR with a folder for each class in it")
    return root


def _given_split(root: Path) -> tuple[Path, Path] | None:
    """Return the folders of a split that is there: both have folders in them."""
    tests = [root / name for name in TEST if (root / name).is_dir() and _classes(root / name)]
    train = root / "train"
    return (train, tests[0]) if tests and train.is_dir() and _classes(train) else None


def _top(root: Path) -> Path:
    """Return where the folders of classes are, with no test folder there: in the root, or in a lone train folder."""
    classes = _classes(root)
    if "train" not in classes or not _classes(root / "train"):
        return root
    if len(classes) == 1:
        return root / "train"
    others = ", ".join(name for name in classes if name != "train")
    raise DataError(
        f"{root}: train has folders in it, and beside it are {others}, not a test folder with classes; give --data-dir "
        f"{root / 'train'} to draw a test set from it, or name the test folder {root / 'test'}"
    )


def _known_classes(folder: Path) -> tuple[str, ...]:
    classes = tuple(_classes(folder))
    _refuse_no_class(folder, "cat")
    if len(classes) == 1:
        raise DataError(
            f"{folder}: there is only one class, {classes[0]}, and a network needs two or more; {_how(folder, 'cat')}"
        )
    return classes


def _refuse_no_class(folder: Path, example: str) -> None:
    """Raise DataError where no folder of a class is there."""
    if not _classes(folder):
        loose = any(entry.name.lower().endswith(SUFFIXES) for entry in _entries(folder))
        what = "its images lie in no folder" if loose else "no folder with images in it"
        raise DataError(f"{folder}: {what}; {_how(folder, example)}")


def _how(folder: Path, example: str) -> str:
    return f"put the images of each class in a folder of its own, such as {folder / example}"


def _images(top: Path, classes: Sequence[str]) -> tuple[list[str], NDArray[np.int64], dict[str, int]]:
    """Return the paths of all images below the folders of classes, their labels, and what else lies there."""
    if unknown := sorted(set(_classes(top)) - set(classes)):
        shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise DataError(f"{top}: the class {unknown[0]} is not one of these: {shown}; remove or rename that folder")
    paths: list[str] = []
    labels: list[int] = []
    ignored: Counter[str] = Counter()
    for label, name in enumerate(classes):
        if not (top / name).is_dir():
            continue
        found = sorted(_below(top / name, ignored))
        if not found:
            raise DataError(
                f"{top / name}: no image in it (a file that ends in {' '.join(SUFFIXES)}); put some there, or remove it"
            )
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise DataError(
            f"{top}: no image of the classes {', '.join(classes[:10])}; put them there in one folder per class"
        )
    return paths, np.array(labels, np.int64), dict(ignored)


def _classes(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def images_below(folder: Path) -> list[str]:
    """Return the paths of all images in a folder and below, but for hidden ones."""
    return list(_below(folder, Counter()))


def _below(folder: Path, ignored: Counter[str]) -> Iterator[str]:
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _below(Path(entry.path), ignored)
        elif entry.name.lower().endswith(SUFFIXES):
            yield entry.path
        else:
            ignored[os.path.splitext(entry.name)[1].lower() or entry.name] += 1


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder but for hidden files and what archives of macOS leave."""
    try:
        with os.scandir(folder) as there:
            return [entry for entry in there if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    except OSError as error:
        raise DataError(f"{folder}: cannot be looked into ({error.strerror}); check its rights") from error


def _entry(found: Files, size: int, corrupt: str, folder: Path) -> tuple[Path, list[Any]]:
    """Return where the decoded images are kept, and the stamp of what they come from."""
    root = found.root.resolve()
    key = hashlib.sha256(repr((str(root), size, found.split, corrupt)).encode("utf-8", "surrogateescape")).hexdigest()
    try:
        stamps = [cache.file_stamp(map(Path, found.paths[split])) for split in _SPLITS]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be looked at ({error.strerror}); check it") from error
    stamp = hashlib.sha256(repr(stamps).encode("utf-8", "surrogateescape"))
    for split in _SPLITS:
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
    for split in _SPLITS:
        read = list(_decoded(found.paths[split], partial(_try, size=size), progress, "looking at images"))
        good = [i for i, image in enumerate(read) if image is None]
        bad += [str(image) for image in read if image is not None]
        paths[split] = [found.paths[split][i] for i in good]
        labels[split] = found.labels[split][good]
    for split in _SPLITS:
        if found.paths[split] and not paths[split]:
            raise DataError(f"{found.root}: none of the {split} images can be read; check the files")
    if bad and found.drawn is not None:
        left = sorted((k, path) for split in _SPLITS for k, path in zip(labels[split], paths[split], strict=True))
        joined = [path for _, path in left], np.array([k for k, _ in left], np.int64)
        paths, labels = _drawn(*joined, found.class_names, found.drawn, found.root)
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
    for split in _SPLITS:
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
    for split in _SPLITS:
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
