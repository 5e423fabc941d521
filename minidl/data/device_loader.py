"""The loader for a GPU: the data set is on the device, and batches are made there."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl import memory
from minidl.backend import Array, array_module, default_module, to_device
from minidl.data.augment import Drawn
from minidl.data.loader import Batch, Loader

DRAWN_AHEAD = 256  # batches whose augmentation is drawn and uploaded at once


class DeviceLoader(Loader):
    """A `Loader` whose images, labels and batches are on the device of the default backend.

    Order and augmentation come from the host generator as in `Loader`: one seed gives the same batches on both, to the
    last bit. The data set is uploaded with the first batch, the order once an epoch, the augmentation's draws a few
    times an epoch, and nothing for a batch.

    Parameters
    ----------
    dataset : Dataset
        As for `Loader`.
    batch_size : int
        As for `Loader`.
    **options : dict
        As for `Loader`; an augmentation must be one of `minidl.data.augment`'s, which draw and apply separately.

    Raises
    ------
    ValueError
        As `Loader`; also if a label is out of range, which a device would not notice.

    Examples
    --------
    >>> from minidl.data import load_task
    >>> task = load_task("mnist", sample=True, progress=False)
    >>> x, labels, source = next(iter(DeviceLoader(task.test, 5, mean=[0.1] * 3, std=[0.3] * 3, shuffle=False)))
    >>> x.shape, labels
    ((5, 3, 32, 32), array([7, 2, 1, 0, 4]))
    """

    def __init__(self, dataset: Any, batch_size: int, **options: Any) -> None:
        super().__init__(dataset, batch_size, **options, prefetch=0)
        labels = np.asarray(dataset.labels)
        if len(labels) and not 0 <= labels.min() <= labels.max() < dataset.num_classes:
            raise ValueError(
                f"DeviceLoader: labels must be in [0, {dataset.num_classes}), "
                f"got {labels.min()} to {labels.max()}; give the data set that many classes"
            )
        if self.augment is not None and not isinstance(self.augment, Drawn):
            raise ValueError(
                f"DeviceLoader: augment must be a minidl.data.augment.Drawn, got {self.augment!r}; "
                "give it draw and apply"
            )
        self._drawn = self.augment
        self._like = default_module().empty(0)

    @cached_property
    def _resident(self) -> tuple[Array, Array, Array]:
        """Images uint8 (M, C, H, W), labels and source (M,), on the device."""
        data = (self.dataset.images, self.dataset.labels, self.dataset.source)
        images, labels, source = (to_device(np.asarray(a), like=self._like) for a in data)
        return images, labels, source

    @cached_property
    def _affine(self) -> tuple[Array, Array]:
        """Scale and shift (C, 1, 1, 1), on the device."""
        scale, shift = (to_device(a[:, :, None, None], like=self._like) for a in (self._scale, self._shift))
        return scale, shift

    def _batches(self, order: NDArray[np.int64], seed: int, chosen: range) -> Iterator[Batch]:
        images, labels, source = self._resident
        ordered = to_device(order, like=images)
        labels, source = labels[ordered], source[ordered]
        for first in range(0, len(chosen), DRAWN_AHEAD):
            ahead = chosen[first : first + DRAWN_AHEAD]
            drawn: Array = self._draws(self._drawn, seed, ahead) if self._drawn else None
            for j, k in enumerate(ahead):
                mine = self._mine(min(self.batch_size, len(order) - k * self.batch_size))
                where = slice(k * self.batch_size + mine.start, k * self.batch_size + mine.stop)
                batch = images[ordered[where]]  # (n, C, H, W)
                if self._drawn:
                    first_drawn = j * self.batch_size
                    batch = self._drawn.apply(batch, drawn[:, first_drawn + mine.start : first_drawn + mine.stop])
                yield self._normalised(batch), labels[where], source[where]

    def _draws(self, augment: Drawn, seed: int, chosen: range) -> Array:
        """Return what the augmentation of these batches draws, side by side."""
        sizes = [min(self.batch_size, len(self.dataset) - k * self.batch_size) for k in chosen]
        drawn = [augment.draw(n, self._generator(seed, k)) for k, n in zip(chosen, sizes, strict=True)]
        return to_device(np.concatenate(drawn, axis=1), like=self._like)

    def _normalised(self, images: Array) -> Array:
        xp = array_module(images=images)
        scale, shift = self._affine
        x = memory.empty(xp, (*images.shape[1:], len(images)), self.dtype)  # (C, H, W, n)
        xp.multiply(images.transpose(1, 2, 3, 0), scale, out=x)
        x += shift
        return memory.batch_first(x)
