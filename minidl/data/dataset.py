"""What a task holds: images with labels, and the statistics that normalise them."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl.data.errors import DataError
from minidl.data.noted import Noted

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with their labels, in the order of their files.

    Parameters
    ----------
    images : uint8 (M, 3, 32, 32)
        Read-only, in memory or mapped from the cache.
    labels : int64 (M,)
        In 0..num_classes-1.
    source : int64 (M,)
        Index into ``sources``: the set an image comes from.
    sources : tuple of str
        The names of the sets.
    num_classes : int
        Of all sets together.
    statistics : tuple of two float64 (3,), optional
        What `channel_statistics` returns, where it is known already.
    kept_sha256 : str, optional
        What `data_sha256` returns, where it is known already.

    Examples
    --------
    >>> zeros = np.zeros(2, np.int64)
    >>> Dataset(np.zeros((2, 3, 32, 32), np.uint8), zeros, zeros, ("mnist",), 10)
    Dataset(2 images of mnist; 10 classes)
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    source: NDArray[np.int64]
    sources: tuple[str, ...]
    num_classes: int
    statistics: tuple[Float, Float] | None = field(default=None, repr=False)
    kept_sha256: str | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Dataset({len(self)} images of {', '.join(self.sources)}; {self.num_classes} classes)"


@dataclass(frozen=True, eq=False)
class Task:
    """A classification task: a training set, a test set and the names of the classes.

    Parameters
    ----------
    name : str
        As in ``TASKS``.
    num_classes : int
        The length of the logits.
    class_names : tuple of str
        One for each label.
    train, test : Dataset
        What to train on, and what to measure the error on.
    description : tuple of str
        The lines that `describe` returns.
    top5 : bool
        Whether the error of the five highest logits is measured too.
    facts : dict
        What a run on it records besides, and must find again when it is resumed: how it was split, images by class.
    fit : str
        How an image becomes one of its inputs: see `minidl.data.fit.fit`.
    noted : Noted, optional
        What tells later which images changed.

    Examples
    --------
    >>> from minidl.data import load_task
    >>> task = load_task("multitask", sample=True, progress=False)
    >>> len(task.train), task.class_names[10]
    (4600, 'cifar-10 airplane')
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    train: Dataset
    test: Dataset
    description: tuple[str, ...]
    top5: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    fit: str = "square"
    noted: Noted | None = None

    def describe(self) -> list[str]:
        """Return one line per source (images found of the official count, and where from), then what else to know."""
        return list(self.description)


def data_sha256(dataset: Dataset) -> str:
    """Return the sha256 over all images, labels and sources of a data set; one read through the cache brings it along.

    Parameters
    ----------
    dataset : Dataset
        Of any size.

    Examples
    --------
    >>> zeros = np.zeros(1, np.int64)
    >>> data_sha256(Dataset(np.zeros((1, 3, 1, 1), np.uint8), zeros, zeros, ("a",), 1))[:8]
    'd6fd62f5'
    """
    if dataset.kept_sha256 is not None:
        return dataset.kept_sha256
    sha = hashlib.sha256()
    for start in range(0, len(dataset), 512):
        sha.update(np.ascontiguousarray(dataset.images[start : start + 512]).data)
    for part in (dataset.labels, dataset.source):
        sha.update(np.ascontiguousarray(part, "<i8").data)
    return sha.hexdigest()


def rarer(dataset: Dataset, source: str, factor: int) -> Dataset:
    """Return a data set with every `factor`-th image of one source and all of the others.

    Parameters
    ----------
    dataset : Dataset
        Left as it is.
    source : str
        One of its ``sources``.
    factor : int
        At least 1.

    Raises
    ------
    DataError
        If it has no such source.

    Examples
    --------
    >>> zeros = np.zeros(6, np.int64)
    >>> two = Dataset(np.zeros((6, 3, 32, 32), np.uint8), zeros, np.array([0, 0, 1, 1, 1, 1]), ("mnist", "svhn"), 1)
    >>> rarer(two, "svhn", 3).source
    array([0, 0, 1, 1])
    """
    if source not in dataset.sources:
        known = ", ".join(dataset.sources)
        raise DataError(f"rarer: the dataset must be one of {known}, got {source!r}; choose one of these")
    of_source = np.flatnonzero(dataset.source == dataset.sources.index(source))
    kept = np.ones(len(dataset), bool)
    kept[of_source] = np.arange(len(of_source)) % factor == 0
    images, labels, sources = dataset.images[kept], dataset.labels[kept], dataset.source[kept]
    for part in (images, labels, sources):
        part.flags.writeable = False
    return Dataset(images, labels, sources, dataset.sources, dataset.num_classes)


def channel_statistics(dataset: Dataset) -> tuple[Float, Float]:
    r"""Return mean and standard deviation of each channel over a data set, for pixels scaled to [0, 1].

    .. math:: \mu_c = \frac{S_1}{255 n}, \qquad \sigma_c = \frac{\sqrt{n S_2 - S_1^2}}{255 n}

    with S1 and S2 the sums of the channel's n pixels and of their squares, exact integers.  A task read through the
    cache brings them along.

    Parameters
    ----------
    dataset : Dataset
        Usually a training set.

    Returns
    -------
    tuple of two float64 (3,)
        Mean and standard deviation.

    Examples
    --------
    >>> zeros = np.zeros(2, np.int64)
    >>> images = np.stack([np.full((3, 32, 32), value, np.uint8) for value in (0, 255)])
    >>> channel_statistics(Dataset(images, zeros, zeros, ("mnist",), 10))
    (array([0.5, 0.5, 0.5]), array([0.5, 0.5, 0.5]))
    """
    if dataset.statistics is not None:
        return dataset.statistics
    return statistics(dataset.images[start : start + 512] for start in range(0, len(dataset), 512))


class Sums:
    """The exact sums behind `channel_statistics`, taken of images that come in blocks (m, 3, H, W)."""

    def __init__(self) -> None:
        self.n, self.first, self.second = 0, [0] * 3, [0] * 3

    def add(self, block: NDArray[np.uint8]) -> None:
        """Count one block."""
        self.n += block.size // 3
        for c in range(3):
            pixels = block[:, c].astype(np.float64).ravel()
            self.first[c] += int(pixels.sum())  # whole numbers far below 2^53: no rounding
            self.second[c] += int(pixels @ pixels)

    def statistics(self) -> tuple[Float, Float]:
        """Return mean and standard deviation of each channel."""
        n = self.n
        mean = np.array([s1 / (255 * n) for s1 in self.first])
        std = [math.sqrt(n * s2 - s1 * s1) / (255 * n) for s1, s2 in zip(self.first, self.second, strict=True)]
        return mean, np.array(std)


def statistics(blocks: Iterable[NDArray[np.uint8]]) -> tuple[Float, Float]:
    """Compute ``channel_statistics`` of images that come in blocks (m, 3, H, W), exactly.

    >>> blocks = [np.full((2, 3, 1, 1), value, np.uint8) for value in (0, 255)]
    >>> statistics(blocks)
    (array([0.5, 0.5, 0.5]), array([0.5, 0.5, 0.5]))
    """
    sums = Sums()
    for block in blocks:
        sums.add(block)
    return sums.statistics()
