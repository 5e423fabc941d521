"""Dividing images into a training and a test set, class by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from minidl.data.errors import DataError

TEST_SHARE = 0.2


def draw_split(
    labels: NDArray[np.int64], class_names: Sequence[str], share: float, seed: int, where: object
) -> NDArray[np.bool_]:
    """Return which images are the test set: of each class about `share`, at least one and never all.

    Of a class with m images, max(1, ⌊share·m + ½⌋) and at most m − 1 are drawn. The generator is of a stream of its own
    (`SeedSequence(seed, spawn_key=(3,))`), so a split takes nothing from the weights' or the order's.

    Parameters
    ----------
    labels : int64 (M,)
    class_names : sequence of str
        Of the labels 0, 1, ...
    share : float
        In (0, 1).
    seed : int
    where : object
        What is divided, to be named.

    Raises
    ------
    DataError
        A class has fewer than two images.

    Examples
    --------
    >>> draw_split(np.array([0, 0, 0, 0, 0, 1, 1]), ("cat", "dog"), 0.4, seed=0, where="here").astype(int)
    array([0, 0, 1, 1, 0, 1, 0])
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3,)))
    test = np.zeros(len(labels), bool)
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        m = len(members)
        if m < 2:
            raise DataError(
                f"{where}: the class {name} has {m} image{'s' * (m != 1)}, and a split needs two at least, one to "
                "train and one to test; add some, or leave the class out"
            )
        count = min(max(1, int(share * m + 0.5)), m - 1)
        test[rng.permutation(members)[:count]] = True
    return test


def describe_split(share: float, seed: int) -> str:
    """Return what is recorded of a drawn split."""
    return f"drawn: {share:g} of each class to test, seed {seed}"


def count_by_class(labels: NDArray[np.int64], class_names: Sequence[str]) -> dict[str, int]:
    """Return {class: images}."""
    counts = np.bincount(labels, minlength=len(class_names))
    return {name: int(count) for name, count in zip(class_names, counts, strict=True)}
