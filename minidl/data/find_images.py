"""Which images a folder holds: one folder per class, below `train` and a test folder or drawn into the two."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidl import log
from minidl.data import cache
from minidl.data.errors import DataError
from minidl.data.runs_among import is_run, refuse_runs
from minidl.data.split import TEST_SHARE, describe_split, draw_split
from minidl.files import is_kind

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
TEST = ("test", "val", "valid", "validation")
SPLITS = ("train", "test")


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
    unused : tuple of str
        The folders beside a test set that is given and might be one as well.
    """

    root: Path
    class_names: tuple[str, ...]
    paths: dict[str, list[str]]
    labels: dict[str, NDArray[np.int64]]
    split: str
    ignored: dict[str, int]
    drawn: tuple[float, int] | None = None
    unused: tuple[str, ...] = ()


def find_images(folder: str | os.PathLike[str], seed: int = 0, test_share: float = TEST_SHARE) -> Files:
    """Return the images of a folder, divided as `load_folder` says; none is opened."""
    root = _root(folder)
    given = _given_split(root)
    if given is None:
        top = _top(root)
        classes = _known_classes(top)
        paths, labels, ignored = _images(top, classes)
        parts = drawn(paths, labels, classes, (test_share, seed), top)
        return Files(root, classes, *parts, describe_split(test_share, seed), ignored, (test_share, seed))
    for part in given:
        refuse_runs(part)
    classes = _known_classes(given[0])
    if lacking := sorted(set(classes) - set(_classes(given[1]))):
        log.warn("minidl", f"{given[1]}: no folder of the class {lacking[0]}, so no image of it is tested; add some")
    found = [_images(part, classes) for part in given]
    return Files(
        root,
        classes,
        {split: paths for split, (paths, _, _) in zip(SPLITS, found, strict=True)},
        {split: labels for split, (_, labels, _) in zip(SPLITS, found, strict=True)},
        f"given: {given[0].name} and {given[1].name}",
        dict(sum((Counter(ignored) for _, _, ignored in found), Counter())),
        unused=tuple(part.name for part in _tests(root)[1:]),
    )


def find_all(folder: str | os.PathLike[str], class_names: Sequence[str]) -> Files:
    """Return all images of a folder, or those of its own test folder, as a test set; the names give the labels."""
    root = _root(folder)
    given = _given_split(root)
    top = given[1] if given else root
    refuse_runs(top)
    _refuse_no_class(top, class_names[0])
    paths, labels, ignored = _images(top, class_names)
    split = f"given: {given[1].name}" if given else "all images"
    one = {"train": [], "test": paths}, {"train": labels[:0], "test": labels}
    return Files(root, tuple(class_names), *one, split, ignored)


def image_folders(folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Return the folders whose folders are classes: those of a split that is there, else the one that is named."""
    root = _root(folder)
    return _given_split(root) or (root,)


def drawn(
    paths: list[str], labels: NDArray[np.int64], classes: Sequence[str], drawn: tuple[float, int], where: Path
) -> tuple[dict[str, list[str]], dict[str, NDArray[np.int64]]]:
    """Return the paths and the labels of a training and a test set that is drawn."""
    test = draw_split(labels, classes, *drawn, where)
    of = {"train": ~test, "test": test}
    return {k: [paths[i] for i in np.flatnonzero(v)] for k, v in of.items()}, {k: labels[v] for k, v in of.items()}


def _root(folder: str | os.PathLike[str]) -> Path:
    root = cache.expanded(folder)
    if not known_folder(root):
        what = "is a file, not a folder" if root.exists() else "no such folder"
        if root.suffix in (".npz", ".npy") and root.is_file():
            raise DataError(f"{root}: {what}; arrays are the task arrays, which takes an .npz file as --data-dir")
        raise DataError(f"{root}: {what}; give --data-dir DIR with a folder for each class in it")
    return root


def known_folder(path: Path) -> bool:
    """Whether a folder is there; DataError where that cannot be known."""
    try:
        return is_kind(stat.S_ISDIR, path)
    except OSError as error:
        raise _closed(path, error) from error


def _closed(folder: Path, error: OSError) -> DataError:
    return DataError(f"{folder}: cannot be looked into ({error.strerror}); check its rights")


def _given_split(root: Path) -> tuple[Path, Path] | None:
    """Return the folders of a split that is there: both have folders in them."""
    tests = _tests(root)
    train = root / "train"
    _refuse_capitals(root)
    given = (train, tests[0]) if tests and known_folder(train) and _classes(train) else None
    others = sorted(set(_classes(root)) - {"train", *TEST}) if given else []
    if beside := [name for name in others if _has_an_image(root / name)]:
        raise DataError(
            f"{root}: the images in {beside[0]}, beside train and {tests[0].name}, are not taken; move it into "
            "both if it is a class, or out of the folder"
        )
    return given


def _has_an_image(folder: Path) -> bool:
    return any(entry.name.lower().endswith(SUFFIXES) for entry in _entries(folder)) and not is_run(folder)


def _refuse_capitals(root: Path) -> None:
    """Raise DataError for a folder `Train` or `Test`, which would be taken for a class."""
    names = _classes(root)
    for name in names:
        if (right := name.lower()) != name and right in ("train", *TEST) and right not in names:
            raise DataError(
                f"{root}: the folder {name} would be taken for a class; name it {right}, in small letters, if its "
                "folders are the classes, or otherwise if it is one"
            )


def _tests(root: Path) -> list[Path]:
    """Return the folders that may be a test set: the first one is."""
    return [root / name for name in TEST if known_folder(root / name) and _classes(root / name)]


def _top(root: Path) -> Path:
    """Return where the folders of classes are, with no test folder there: in the root, or in a lone train folder."""
    refuse_runs(root)
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
        if not known_folder(top / name):
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
    """Return the names of the folders; DataError for a link that looks like one, and leads nowhere."""
    for entry in _entries(folder):
        if _is_broken(entry) and "." not in entry.name:
            raise DataError(
                f"{entry.path}: a broken link, to {os.readlink(entry.path)}, where a class may be meant; mend it or "
                "remove it"
            )
    return sorted(entry.name for entry in _entries(folder) if is_folder(entry))


def images_below(folder: Path) -> list[str]:
    """Return the paths of all images in a folder and below, but for hidden ones."""
    return list(_below(folder, Counter()))


def _below(folder: Path, ignored: Counter[str], within: frozenset[str] = frozenset()) -> Iterator[str]:
    within |= {os.path.realpath(folder)}
    for entry in _entries(folder):
        if is_folder(entry):
            if entry.is_symlink() and os.path.realpath(entry.path) in within:
                yield entry.path  # it has no end, which is said when it is opened
            else:
                yield from _below(Path(entry.path), ignored, within)
        elif entry.name.lower().endswith(SUFFIXES) or (_is_broken(entry) and "." not in entry.name):
            yield entry.path
        else:
            ignored[os.path.splitext(entry.name)[1].lower() or entry.name] += 1


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether this is a folder or a link to one; a link that leads back to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_broken(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder but for hidden files and what archives of macOS leave."""
    try:
        with os.scandir(folder) as there:
            return [entry for entry in there if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    except OSError as error:
        raise _closed(folder, error) from error
