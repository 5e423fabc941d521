"""The task `arrays`: images and labels that are arrays already, from Python or from an .npz file."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidl.arguments import whole
from minidl.data import cache
from minidl.data.compressed import most_content
from minidl.data.dataset import Dataset, Task
from minidl.data.errors import DataError
from minidl.data.find_images import known_folder
from minidl.data.fit import fit
from minidl.data.split import TEST_SHARE, count_by_class, describe_split, draw_split
from minidl.extras import require
from minidl.files import open_file

NAMES = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("images", "labels", None, None),
)
"""What the arrays of an .npz file may be called; a test set is drawn where there is none."""

MOST_CLASSES = 100_000
"""Classes that a task of arrays may have: several times those of the largest public sets."""

MOST_SIZE = 65_536
_CURE = "give uint8, such as np.round(255 * x).astype(np.uint8) for x in [0, 1]"
_FEWER = "number the classes that there are from 0"
_TWO = "give images of another class, and no name twice"
_UNREADABLE = (
    ValueError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    KeyError,
    NotImplementedError,
    RuntimeError,
    SystemError,  # of text that is none
    TypeError,
)


def arrays_task(
    train_images: ArrayLike,
    train_labels: ArrayLike,
    test_images: ArrayLike | None = None,
    test_labels: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    size: int | None = None,
    seed: int = 0,
    test_share: float = TEST_SHARE,
    where: str = "arrays",
) -> Task:
    """Return a task of arrays, for `Trainer(config, task=...)`.

    Parameters
    ----------
    train_images, test_images : uint8
        (M, H, W) or (M, H, W, 1) or (M, 1, H, W), grey, which is repeated to three channels; or (M, H, W, 3) or
        (M, 3, H, W), colour. Without a test set one is drawn from each class: `minidl.data.split.draw_split`.
    train_labels, test_labels : (M,) or (M, 1)
        Whole numbers from 0 to 99 999, or the names of the classes.
    class_names : sequence of str, optional
        Of the labels 0, 1, ...; by default the numbers, or the names in sorted order.
    size : int, optional
        Make each image S × S, as `minidl.data.fit.fit` does; they stay as they are by default.
    seed : int
        Of a split that is drawn.
    test_share : float
        The share of each class that is drawn.
    where : str
        What is named in messages.

    Raises
    ------
    DataError
        Images or labels are of another kind, shape or number, or there are fewer than two classes.

    Examples
    --------
    >>> images = np.zeros((6, 28, 28), np.uint8)
    >>> task = arrays_task(images, ["cat", "dog"] * 3, size=32)
    >>> task.class_names, task.train.images.shape, task.train.labels
    (('cat', 'dog'), (4, 3, 32, 32), array([0, 1, 0, 1]))
    """
    if size is not None:
        try:
            size = whole(size, f"{where}: size", cure="give the side of the images, such as 32", most=MOST_SIZE)
        except ValueError as error:
            raise DataError(str(error)) from error
    train_x, train_y = _images(train_images, "training images", where), _labels(train_labels, "training labels", where)
    if (test_images is None) != (test_labels is None):
        raise DataError(f"{where}: test images and test labels go together, got one of them; give both or none")
    given = test_images is not None and test_labels is not None
    test_x = _images(test_images, "test images", where) if given else train_x[:0]
    test_y = _labels(test_labels, "test labels", where) if given else train_y[:0]
    for what, x, y in (("training", train_x, train_y), ("test", test_x, test_y)):
        if len(x) != len(y):
            raise DataError(f"{where}: {len(x)} {what} images have {len(y)} labels; give one label an image")
    names, labels = _named(train_y, test_y, class_names, where)
    split = "given"
    train_y, test_y = labels[: len(train_y)], labels[len(train_y) :]
    if not given:
        chosen = draw_split(train_y, names, test_share, seed, where)
        split = describe_split(test_share, seed)
        test_x, test_y = train_x[chosen], train_y[chosen]
        train_x, train_y = train_x[~chosen], train_y[~chosen]
    train, test = (
        _dataset(_coloured(x) if size is None else _sized(x, size), labels, len(names))
        for x, labels in ((train_x, train_y), (test_x, test_y))
    )
    facts = {
        "split": split,
        "train_images_by_class": count_by_class(train.labels, names),
        "test_images_by_class": count_by_class(test.labels, names),
    }
    line = (
        f"arrays: {len(train)} training images, {len(test)} test images of {len(names)} classes, from {where}; "
        f"split {split}"
    )
    return Task("arrays", len(names), names, train, test, (line,), facts=facts)


def load_npz(
    path: str | os.PathLike[str], size: int | None = 32, seed: int = 0, test_share: float = TEST_SHARE
) -> Task:
    """Return the task of an .npz file; nothing in it is unpickled.

    Its arrays are called as in `NAMES`, as those of MedMNIST and Keras are, with or without `class_names`; others are
    left alone.

    Parameters
    ----------
    path : path
    size, seed, test_share
        As for `arrays_task`.

    Raises
    ------
    DataError
        As `arrays_task`; also when the file is none or lacks an array.
    """
    file = cache.expanded(path)
    if known_folder(file) or not file.exists():
        what = "is a folder" if known_folder(file) else "no such file"
        raise DataError(f"{file}: {what}; give --data-dir the .npz file itself (a folder of images is the task folder)")
    if file.suffix == ".npy":
        images, labels = NAMES[0][:2]
        raise DataError(
            f"{file}: one array alone, without the labels; put both into one file: "
            f"np.savez('{file.stem}.npz', {images}=images, {labels}=labels)"
        )
    try:
        with open_file(file) as stream, _opened(stream) as there:
            kinds = [names for names in NAMES if all(name in there for name in names[:2] if name)]
            if not kinds:
                wanted = " or ".join(", ".join(filter(None, names)) for names in NAMES)
                raise DataError(f"{file}: its arrays must be {wanted}, got {', '.join(there) or 'none'}; rename them")
            wanted_names = [name for name in (*kinds[0], "class_names") if name and name in there]
            _check_members(file, there, wanted_names, os.fstat(stream.fileno()).st_size)
            arrays: dict[str, Any] = {name: there[name] for name in wanted_names}
            for array in arrays.values():
                if array.dtype.kind in "US":
                    array.astype(str).tolist()  # an error, if it is no text
            class_names = arrays.pop("class_names", None)
    except MemoryError as error:
        raise DataError(f"{file}: the memory does not suffice for its arrays; make it smaller") from error
    except PermissionError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); check its rights") from error
    except _UNREADABLE as error:
        raise DataError(f"{file}: cannot be read as .npz ({' '.join(str(error).split())}); write it anew") from error
    if class_names is not None and (class_names.ndim != 1 or class_names.dtype.kind not in "US"):
        raise DataError(f"{file}: class_names must be a list of text, got {class_names.dtype} {class_names.shape}")
    if class_names is not None and len(class_names) > MOST_CLASSES:
        raise DataError(f"{file}: class_names must be at most {MOST_CLASSES}, got {len(class_names)}; {_FEWER}")
    names = None if class_names is None else [str(name) for name in class_names.astype(str)]
    given: list[Any] = [arrays.get(name) if name else None for name in kinds[0]]
    return arrays_task(*given, class_names=names, size=size, seed=seed, test_share=test_share, where=str(file))


def _opened(stream: IO[bytes]) -> Any:
    """Open an .npz file; nothing else that NumPy reads."""
    if not zipfile.is_zipfile(stream):
        raise ValueError("it is no .npz file, or not a whole one")
    stream.seek(0)
    return np.load(stream, allow_pickle=False)


def _check_members(file: Path, there: Any, names: list[str], packed: int) -> None:
    """Raise ValueError if arrays unpack to far more than the file's size, or are not as long as they say.

    Those of objects, which would have to be unpickled, are a DataError.

    NumPy takes the memory that an array's header asks for, whatever follows.
    """
    left = most_content(packed)
    for name in names:
        info = there.zip.getinfo(name if name in there.zip.namelist() else f"{name}.npy")
        left -= info.file_size
        if left < 0:
            raise ValueError(f"its arrays unpack to more than {most_content(packed)} bytes, far more than its size")
        with there.zip.open(info) as member:
            version = np.lib.format.read_magic(member)
            v1 = version == (1, 0)
            read = np.lib.format.read_array_header_1_0 if v1 else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(member)
            if dtype.hasobject:
                kind = "as uint8" if "images" in name or name.startswith("x_") else "as str or int, as astype(str) does"
                raise DataError(f"{file}: {name} holds objects of Python, and nothing is unpickled; store it {kind}")
            if math.prod(shape) * max(dtype.itemsize, 1) > info.file_size:
                raise ValueError(f"{name} must be as long as its header says, {shape} of {dtype}")


def _array(given: Any, what: str, where: str, cure: str) -> NDArray[Any]:
    """Return what is given as an array; DataError where it is nothing, or its parts are of several shapes."""
    if given is None:
        raise DataError(f"{where}: {what} must be an array, got None; give both images and labels")
    try:
        return np.asarray(given)
    except ValueError as error:
        shapes: list[Any] = ["several"]
        with suppress(ValueError):  # where these again hold parts of several
            shapes = list(dict.fromkeys(np.shape(each) for each in given))
        got = ", ".join(map(str, shapes))
        raise DataError(f"{where}: {what} must all be of one shape, got {got:.200}; {cure}") from error


def _images(given: Any, what: str, where: str) -> NDArray[np.uint8]:
    """Return images as (M, H, W) or (M, 3, H, W)."""
    images = _array(given, what, where, "make them one size, or keep them as files in folders of classes")
    if images.dtype != np.uint8:
        raise DataError(f"{where}: {what} must be uint8, got {images.dtype}; {_CURE}")
    if images.ndim == 4 and images.shape[1] in (1, 3):
        images = images[:, 0] if images.shape[1] == 1 else images
    elif images.ndim == 4 and images.shape[3] in (1, 3):
        images = images[..., 0] if images.shape[3] == 1 else np.moveaxis(images, 3, 1)
    elif images.ndim != 3:
        raise DataError(
            f"{where}: {what} must be (M, H, W), (M, H, W, 3) or (M, 3, H, W), got {images.shape}; reshape them"
        )
    if not images.size:
        raise DataError(f"{where}: there must be {what}, got {images.shape}; give at least one")
    return images


def _labels(given: Any, what: str, where: str) -> NDArray[Any]:
    labels = _array(given, what, where, "give one label an image")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise DataError(
            f"{where}: {what} must be (M,) of whole numbers or of names, got {labels.dtype} {labels.shape}; "
            "convert them"
        )
    return labels


def _named(
    train: NDArray[Any], test: NDArray[Any], class_names: Sequence[str] | None, where: str
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the names of the classes, and the labels of both sets, one after the other, as numbers."""
    if len(test) and (train.dtype.kind == "U") != (test.dtype.kind == "U"):
        raise DataError(f"{where}: training and test labels must be of one kind, numbers or names; give both alike")
    labels = np.concatenate([train, test]) if len(test) else train
    if labels.dtype.kind == "U":
        names = tuple(map(str, np.unique(train))) if class_names is None else tuple(class_names)
        place = {name: k for k, name in enumerate(names)}
        if unknown := sorted({str(label) for label in labels} - place.keys()):
            raise DataError(f"{where}: the label {unknown[0]!r} is of no class of {', '.join(names[:10])}; correct it")
        numbers = np.array([place[str(label)] for label in labels], np.int64)
    else:
        most = int(train.max())
        if class_names is None and most >= MOST_CLASSES:
            raise DataError(f"{where}: labels must be below {MOST_CLASSES}, got {most}; {_FEWER}")
        if class_names is not None and (
            not hasattr(class_names, "__len__") or not all(isinstance(name, str) for name in class_names)
        ):
            raise DataError(f"{where}: class_names must be text, got {class_names!r:.80}; give a name for each class")
        names = tuple(map(str, class_names if class_names is not None else range(most + 1)))
        if class_names is not None and labels.min() >= 0 and labels.max() >= len(names):
            raise DataError(
                f"{where}: class_names must name each class that the labels have, 0 to {labels.max()}, got "
                f"{len(names)} names, {', '.join(names[:10])}; give {labels.max() + 1}"
            )
        if labels.min() < 0 or labels.max() >= len(names):
            raise DataError(
                f"{where}: labels must be 0 to {len(names) - 1}, got {labels.min()} to {labels.max()}; count from 0"
            )
        numbers = labels.astype(np.int64)
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(
            f"{where}: there must be two classes or more, each with a name of its own, got {names!s:.200}; {_TWO}"
        )
    return names, numbers


def _coloured(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if images.ndim == 3:
        return np.repeat(images[:, None], 3, axis=1)
    return np.array(images, order="C")


def _sized(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if images.shape[-2:] == (size, size):
        return _coloured(images)
    require("making images another size", "PIL")
    from PIL import Image

    made = np.empty((len(images), 3, size, size), np.uint8)
    for i, image in enumerate(images):
        made[i] = fit(
            Image.fromarray(np.ascontiguousarray(image if image.ndim == 2 else np.moveaxis(image, 0, 2))), size
        )
    return made


def _dataset(images: NDArray[np.uint8], labels: NDArray[np.int64], classes: int) -> Dataset:
    labels = labels.copy()
    for part in (images, labels):
        part.flags.writeable = False
    return Dataset(images, labels, np.broadcast_to(np.int64(0), labels.shape), ("arrays",), classes)
