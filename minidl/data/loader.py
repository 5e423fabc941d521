"""Batches for training: shuffled, augmented, normalised, in the fast memory format, computed ahead on a thread."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from minidl.arguments import generator, whole
from minidl.backend import Array
from minidl.data.augment import Augment, Drawn
from minidl.data.dataset import Dataset
from minidl.data.part import part
from minidl.data.prefetch import prefetched

Batch = tuple[Array, Array, Array]


class Loader:
    r"""Iterate over a data set in batches ``(x, labels, source)``; one iteration is one epoch.

    .. math:: x = (p / 255 - \mu_c) / \sigma_c

    with p the pixel after augmentation.  x is indexed (n, C, H, W) and lies in memory as (C, H, W, n).  Each batch is
    a fresh array and is the caller's to keep.

    Parameters
    ----------
    dataset : Dataset
    batch_size : int
    mean, std : float (C,)
        Usually ``channel_statistics`` of the training set.
    augment : callable, optional
        ``augment(images, rng) -> images`` on uint8 batches, such as ``Compose(RandomFlip(), PadCrop(4))``.
    shuffle : bool
        Whether an epoch's order is drawn from ``rng``; else it is the data set's.
    drop_last : bool
        Whether a last batch smaller than ``batch_size`` is left out.
    rng : numpy.random.Generator or a seed
        Needed to shuffle or augment.  It is drawn from at the start of each epoch alone: the order, then one seed
        from which the augmentation of batch k follows.  So no batch computed ahead can leak into a saved state.
    dtype : "float32" or "float64"
    prefetch : int
        Batches computed ahead; 0 computes each when it is asked for, with the same bytes.
    part : (int, int)
        ``(rank, size)``: of each batch, give this one of so many near-equal parts (`minidl.distributed.part`); what is
        drawn for an image does not depend on it.  A batch of which the part has no image is left out.

    Raises
    ------
    ValueError
        An argument is out of its range, or ``rng`` is missing.

    Notes
    -----
    Shape: x (n, C, H, W); labels, source int64 (n,).

    Examples
    --------
    >>> from minidl.data import channel_statistics, load_task
    >>> task = load_task("mnist", sample=True, progress=False)
    >>> mean, std = channel_statistics(task.train)
    >>> loader = Loader(task.train, 128, mean=mean, std=std, rng=np.random.default_rng(0))
    >>> len(loader)
    9
    >>> x, labels, source = next(iter(loader))
    >>> x.shape, x.dtype.name
    ((128, 3, 32, 32), 'float32')
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        mean: ArrayLike,
        std: ArrayLike,
        augment: Augment | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        rng: np.random.Generator | int | None = None,
        dtype: DTypeLike = "float32",
        prefetch: int = 2,
        part: tuple[int, int] = (0, 1),
    ):
        channels = dataset.images.shape[1]
        batch_size = whole(batch_size, "Loader: batch_size")
        prefetch = whole(prefetch, "Loader: prefetch", least=0)
        rng = None if rng is None else generator(rng, "Loader")
        _require("dtype", np.dtype(dtype) in (np.float32, np.float64), "float32 or float64", dtype)
        drawn = shuffle or augment is not None
        _require("rng", rng is not None or not drawn, "a numpy.random.Generator to shuffle or augment", rng)
        _require("augment", part[1] == 1 or _by_parts(augment), "one that draws apart", augment)
        for name, value in (("mean", mean), ("std", std)):
            _require(name, np.shape(value) == (channels,), f"of shape ({channels},)", np.shape(value))
        _require("std", bool(np.all(np.asarray(std) > 0)), "above 0", std)
        self.dataset, self.batch_size, self.augment, self.prefetch = dataset, batch_size, augment, prefetch
        self.shuffle, self.drop_last, self.rng, self.dtype = shuffle, drop_last, rng, np.dtype(dtype)
        self.part = part
        self.mean, self.std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        self._scale = (1 / (255 * np.asarray(std, np.float64))).astype(dtype)[:, None]  # (C, 1)
        self._shift = (-np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(dtype)[:, None]
        self._given = 0  # batches given of the current epoch
        self._epoch_rng: Any = None  # the generator's state before the current epoch's draws
        self._resuming = False

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        start = self._given if self._resuming else 0
        self._resuming = False
        self._epoch_rng = self._rng_state()
        self._given = start
        order = self.rng.permutation(len(self.dataset)) if self.rng and self.shuffle else np.arange(len(self.dataset))
        seed = int(self.rng.integers(2**63)) if self.rng and self.augment else 0
        for batch in self._batches(order, seed, range(start, len(self))):
            self._given += 1
            if len(batch[1]):
                yield batch
        self._given, self._epoch_rng = 0, None

    def _batches(self, order: NDArray[np.int64], seed: int, chosen: range) -> Iterator[Batch]:
        """Yield the chosen batches of the epoch with this order."""
        return prefetched(partial(self._batch, order, seed), chosen, self.prefetch)

    def _batch(self, order: NDArray[np.int64], seed: int, k: int) -> Batch:
        """Return batch k of the epoch with this order: a pure function, so it may run ahead on a thread."""
        whole = order[k * self.batch_size : (k + 1) * self.batch_size]
        mine = self._mine(len(whole))
        chosen = whole[mine]
        images = self.dataset.images[chosen]  # (n, C, H, W) uint8
        if isinstance(self.augment, Drawn):
            images = self.augment.apply(images, self.augment.draw(len(whole), self._generator(seed, k))[:, mine])
        elif self.augment:
            images = self.augment(images, self._generator(seed, k))
        return self._normalised(images), self.dataset.labels[chosen], self.dataset.source[chosen]

    def _mine(self, n: int) -> slice:
        """Return which of a batch's n images this part has."""
        rank, size = self.part
        return part(n, rank, size)

    @staticmethod
    def _generator(seed: int, k: int) -> np.random.Generator:
        """Return the generator of batch k's augmentation."""
        return np.random.default_rng((seed, k))

    def _normalised(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        n, C, H, W = images.shape
        # One cache line more a row: rows a multiple of 16 lines apart would all fall into the same few cache sets
        # when read column by column, which makes the transpose twice as slow.
        rows = np.empty((n, C * H * W + 64), np.uint8)
        rows[:, : C * H * W] = images.reshape(n, C * H * W)
        columns = np.ascontiguousarray(rows[:, : C * H * W].T).reshape(C, H * W * n)  # (C, H·W·n) uint8
        x: NDArray[Any] = np.multiply(columns, self._scale, dtype=self.dtype)
        x += self._shift
        return x.reshape(C, H, W, n).transpose(3, 0, 1, 2)

    def state(self) -> dict[str, Any]:
        """Return the position as a JSON-able dict: after the k-th batch of an epoch, ``load_state`` goes on with k + 1.

        Taken after the last batch but before the iterator has ended, it resumes to an epoch with no batches left.
        """
        return {**self._shape(), "batch": self._given, "rng": self._epoch_rng or self._rng_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Make the next iteration go on where ``state`` was taken, bit for bit.

        Parameters
        ----------
        state : dict
            As `state` returned it; it may have been JSON in between.

        Raises
        ------
        ValueError
            The state is of a loader with other images, batch size, shuffle or drop_last.
        """
        for name, value in self._shape().items():
            if state[name] != value:
                raise ValueError(
                    f"Loader.load_state: {name} must be {value}, got {state[name]}; "
                    "resume with the data and the settings the state was taken with"
                )
        if self.rng is not None:
            self.rng.bit_generator.state = state["rng"]
        self._given, self._epoch_rng, self._resuming = state["batch"], None, True

    def _shape(self) -> dict[str, Any]:
        return {
            "images": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }

    def _rng_state(self) -> Any:
        if self.rng is None:
            return None
        return json.loads(json.dumps(self.rng.bit_generator.state, default=lambda array: array.tolist()))


def _by_parts(augment: Any) -> bool:
    return augment is None or isinstance(augment, Drawn) or getattr(augment, "by_parts", False)


def _require(name: str, holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise ValueError(f"Loader: {name} must be {rule}, got {value}; pass a value that is")
