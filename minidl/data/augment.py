"""Random changes to training images: flip, and pad-and-crop.

Each takes a batch uint8 (n, C, H, W) and a generator and returns a batch of the same shape, leaving its input alone.
"""

from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Images = NDArray[np.uint8]


class Augment(Protocol):
    """What a loader applies to a batch before it is normalised."""

    def __call__(self, images: Images, rng: np.random.Generator) -> Images: ...


class RandomFlip:
    """Mirror each image left to right with probability p.

    Parameters
    ----------
    p : float
        In [0, 1].

    >>> RandomFlip(p=1.0)(np.array([[[[1, 2, 3]]]], np.uint8), np.random.default_rng(0))
    array([[[[3, 2, 1]]]], dtype=uint8)
    """

    def __init__(self, p: float = 0.5):
        if not 0 <= p <= 1:
            raise ValueError(f"RandomFlip.__init__: p must be in [0, 1], got {p}; pass a probability")
        self.p = p

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        flip = rng.random(len(images)) < self.p
        return np.where(flip[:, None, None, None], images[..., ::-1], images)

    def __repr__(self) -> str:
        return f"RandomFlip(p={self.p})"


class PadCrop:
    """Pad each image with black on all sides and cut a window of the old size at a random place.

    Each of the (2·pad + 1)² places is as likely as the others.

    Parameters
    ----------
    pad : int
        Pixels added on each side, at least 1.
    """

    def __init__(self, pad: int = 4):
        if pad < 1:
            raise ValueError(f"PadCrop.__init__: pad must be at least 1, got {pad}; leave PadCrop out for none")
        self.pad = pad

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        n, C, H, W = images.shape
        padded = np.zeros((n, C, H + 2 * self.pad, W + 2 * self.pad), np.uint8)
        padded[:, :, self.pad : self.pad + H, self.pad : self.pad + W] = images
        top, left = rng.integers(0, 2 * self.pad + 1, (2, n))
        windows = sliding_window_view(padded, (H, W), axis=(2, 3))  # (n, C, 2 pad + 1, 2 pad + 1, H, W)
        return np.ascontiguousarray(windows[np.arange(n), :, top, left])

    def __repr__(self) -> str:
        return f"PadCrop({self.pad})"


class Compose:
    """Apply several augmentations one after another."""

    def __init__(self, *augments: Augment):
        self.augments = augments

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        for augment in self.augments:
            images = augment(images, rng)
        return images

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.augments))})"
