"""Random changes to training images: flip, and pad-and-crop.

Each takes a batch uint8 (n, C, H, W) and a generator and returns a batch of the same shape, leaving its input alone:
``draw`` makes the random numbers, on the host, and ``apply`` is a function of them and the images, wherever those are.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from minidl.backend import Array, array_module

Draws = NDArray[np.int64]  # (rows, n): what was drawn for each image


class Augment(Protocol):
    """What a loader applies to a batch before it is normalised."""

    def __call__(self, images: Array, rng: np.random.Generator) -> Array: ...


class Drawn:
    """An augmentation in two steps, so that the images may lie on another device than the generator.

    Attributes
    ----------
    rows : int
        Numbers drawn for an image.
    """

    rows: int

    def draw(self, n: int, rng: np.random.Generator) -> Draws:
        """Return what is drawn for n images, (rows, n)."""
        raise NotImplementedError

    def apply(self, images: Array, drawn: Array) -> Array:
        """Return the changed images, for `drawn` of the images' library."""
        raise NotImplementedError

    def __call__(self, images: Array, rng: np.random.Generator) -> Array:
        """Draw and apply, for images on the host."""
        return self.apply(images, self.draw(len(images), rng))


class RandomFlip(Drawn):
    """Mirror each image left to right with probability p.

    Parameters
    ----------
    p : float
        In [0, 1].

    Examples
    --------
    >>> RandomFlip(p=1.0)(np.array([[[[1, 2, 3]]]], np.uint8), np.random.default_rng(0))
    array([[[[3, 2, 1]]]], dtype=uint8)
    """

    rows = 1

    def __init__(self, p: float = 0.5):
        if not 0 <= p <= 1:
            raise ValueError(f"RandomFlip: p must be in [0, 1], got {p}; pass a probability")
        self.p = p

    def draw(self, n: int, rng: np.random.Generator) -> Draws:
        """Return 1 for an image to be mirrored, else 0."""
        return (rng.random(n) < self.p).astype(np.int64)[None]

    def apply(self, images: Array, drawn: Array) -> Array:
        """Mirror the images whose number is not 0."""
        xp = array_module(images=images, drawn=drawn)
        return xp.where((drawn[0] != 0)[:, None, None, None], images[..., ::-1], images)

    def __repr__(self) -> str:
        return f"RandomFlip(p={self.p})"


class PadCrop(Drawn):
    """Pad each image with black on all sides and cut a window of the old size at a random place.

    Each of the (2·pad + 1)² places is as likely as the others.

    Parameters
    ----------
    pad : int
        Pixels added on each side, at least 1.

    Examples
    --------
    >>> images = np.full((2, 3, 32, 32), 255, np.uint8)
    >>> PadCrop(4)(images, np.random.default_rng(0)).shape
    (2, 3, 32, 32)
    """

    rows = 2

    def __init__(self, pad: int = 4):
        if pad < 1:
            raise ValueError(f"PadCrop: pad must be at least 1, got {pad}; leave PadCrop out for none")
        self.pad = pad

    def draw(self, n: int, rng: np.random.Generator) -> Draws:
        """Return the window's first row and first column."""
        return rng.integers(0, 2 * self.pad + 1, (2, n))

    def apply(self, images: Array, drawn: Array) -> Array:
        """Cut the windows that begin at (drawn[0], drawn[1])."""
        xp = array_module(images=images, drawn=drawn)
        n, C, H, W = images.shape
        padded = xp.zeros((n, C, H + 2 * self.pad, W + 2 * self.pad), xp.uint8)
        padded[:, :, self.pad : self.pad + H, self.pad : self.pad + W] = images
        windows = xp.lib.stride_tricks.sliding_window_view(padded, (H, W), axis=(2, 3))  # (n, C, 2pad+1, 2pad+1, H, W)
        return xp.ascontiguousarray(windows[xp.arange(n), :, drawn[0], drawn[1]])

    def __repr__(self) -> str:
        return f"PadCrop({self.pad})"


class Compose(Drawn):
    """Apply several augmentations one after another.

    Parameters
    ----------
    *augments : RandomFlip, PadCrop or another of this module's kind
        In their order.

    Examples
    --------
    >>> Compose(RandomFlip(), PadCrop(4))
    Compose(RandomFlip(p=0.5), PadCrop(4))
    """

    def __init__(self, *augments: Drawn):
        self.augments = augments
        self.rows = sum(augment.rows for augment in augments)

    def draw(self, n: int, rng: np.random.Generator) -> Draws:
        """Return the draws of all, one below the other."""
        return np.concatenate([augment.draw(n, rng) for augment in self.augments])

    def apply(self, images: Array, drawn: Array) -> Array:
        """Apply each with its own draws."""
        start = 0
        for augment in self.augments:
            images = augment.apply(images, drawn[start : start + augment.rows])
            start += augment.rows
        return images

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.augments))})"
