"""A rank's part of what is drawn for a batch.

Batches, augmentation and dropout are drawn for the whole batch on every rank, from generators in the same state, and
each takes its part: so what is drawn for an image does not depend on the number of ranks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class PartOfDraws:
    """Stands in for the generator of a `Dropout`: of the numbers drawn for the whole batch, those of a rank's part.

    The others are not drawn but passed over, in a time that does not depend on how many they are.

    Parameters
    ----------
    rng : numpy.random.Generator
        In the same state on all ranks, before and after each call.
    n : int
        Samples of the whole batch.
    which : slice
        This rank's.

    Examples
    --------
    >>> whole = np.random.default_rng(0).random((4, 3))
    >>> mine = PartOfDraws(np.random.default_rng(0), 4, slice(1, 3)).random((2, 3))
    >>> bool((mine == whole[1:3]).all())
    True
    """

    def __init__(self, rng: np.random.Generator, n: int, which: slice) -> None:
        self._rng, self._n, self._which = rng, n, which

    @property
    def bit_generator(self) -> Any:
        """The generator's own, whose state is that of all ranks."""
        return self._rng.bit_generator

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return numbers in [0, 1) for the samples of this rank, (n of the part, ...), or for all, (n, ...)."""
        mine = self._which.stop - self._which.start
        if shape[0] == self._n:
            return self._rng.random(shape)
        if shape[0] != mine:
            raise ValueError(f"PartOfDraws.random: shape must begin with {mine}, this rank's samples, got {shape}")
        each = math.prod(shape[1:])
        self._pass_over(self._which.start * each)
        drawn = self._rng.random(shape)
        self._pass_over((self._n - self._which.stop) * each)
        return drawn

    def _pass_over(self, count: int) -> None:
        self._rng.bit_generator.advance(count)  # type: ignore[attr-defined]
