"""One image file to one square of pixels: what the decoding processes do."""

import math
import os
import signal
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl.data.fit import as_rgb
from minidl.data.image_open import open_image

AREA = (0.08, 1.0)  # share of the image that a random crop has
ASPECT = (3 / 4, 4 / 3)  # its width over its height
TRIES = 10
SHORT_SIDE = 256 / 224  # of the resized test image, over the side of its centre crop

Box = tuple[int, int, int, int]  # left, upper, right, lower


@dataclass(frozen=True)
class Corrupt:
    """An image that could not be decoded, and why."""

    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


Decoded = NDArray[np.uint8] | Corrupt


def random_box(width: int, height: int, rng: np.random.Generator) -> Box:
    """Return a random part of an image: its area and its aspect ratio are drawn (Szegedy et al. 2015).

    The share of the area is uniform in 8 % to 100 %, the logarithm of width over height uniform in ±ln(4/3), the place
    uniform. Where ten draws do not fit into the image, it is the largest centred part of an allowed ratio.

    Examples
    --------
    >>> random_box(500, 375, np.random.default_rng(0))
    (65, 166, 194, 337)
    """
    for _ in range(TRIES):
        area = width * height * rng.uniform(AREA[0], AREA[1])
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, upper, left + w, upper + h
    ratio = min(max(width / height, ASPECT[0]), ASPECT[1])
    w, h = min(width, max(1, round(height * ratio))), min(height, max(1, round(width / ratio)))
    return (width - w) // 2, (height - h) // 2, (width + w) // 2, (height + h) // 2


def square(image: Any, size: int, rng: np.random.Generator | None) -> NDArray[np.uint8]:
    """Return a Pillow image as uint8 (3, size, size).

    With a generator: a `random_box`, resized, mirrored with probability 1/2. Without: the image resized so that its
    shorter side is 256/224 of `size`, and the centre of that. Colours and orientation are as in `minidl.data.fit.fit`.
    """
    from PIL.Image import Resampling, Transpose

    colour = as_rgb(image)
    if rng is not None:
        box = random_box(colour.width, colour.height, rng)
        colour = colour.resize((size, size), Resampling.BILINEAR, box=box)
        if rng.random() < 0.5:
            colour = colour.transpose(Transpose.FLIP_LEFT_RIGHT)
    else:
        short = round(size * SHORT_SIDE)
        w, h = (max(short, round(side * short / min(colour.size))) for side in colour.size)
        left, upper = (w - size) // 2, (h - size) // 2
        colour = colour.resize((w, h), Resampling.BILINEAR).crop((left, upper, left + size, upper + size))
    return np.ascontiguousarray(np.moveaxis(np.asarray(colour, np.uint8), -1, 0))


def decode(path: str, size: int, seed: Sequence[int] | None) -> Decoded:
    """Return the image of a file as `square` does, or what keeps it from being decoded."""
    try:
        with open_image(path) as image:
            return square(image, size, None if seed is None else np.random.default_rng(seed))
    except ValueError as error:
        return Corrupt(path, str(error))


def decode_all(paths: Sequence[str], size: int, seeds: Sequence[Sequence[int]] | None) -> list[Decoded]:
    """Return `decode` of each."""
    return [decode(path, size, None if seeds is None else seeds[i]) for i, path in enumerate(paths)]


def begin() -> None:
    """Prepare a decoding process: Ctrl-C is the parent's to handle, and without a parent it ends."""
    import multiprocessing

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # Pillow warns of odd metadata in files that decode well
    if (parent := multiprocessing.parent_process()) is not None:

        def follow() -> None:
            parent.join()
            os._exit(0)

        threading.Thread(target=follow, daemon=True).start()
