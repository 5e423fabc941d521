"""From one picture of any size to the network's input, in the same way for training, evaluation and prediction."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl.data.image_open import check_pixels, open_image

FITS = ("square", "digits", "mixed", "imagenet")
"""How an image becomes (3, S, S): see `fit`."""


def fit(image: Any, size: int, how: str = "square") -> NDArray[np.uint8]:
    """Return a Pillow image as uint8 (3, size, size).

    Parameters
    ----------
    image : PIL.Image.Image
    size : int
        The side S.
    how : {"square", "digits", "mixed", "imagenet"}
        "square": the largest square in the image's centre, resized to S × S; an image of S × S stays as it is.
        "digits", as the files of MNIST and Fashion-MNIST are read: the same at S − 4, in grey, with a black border of
        two pixels. "mixed", for the four datasets at once: "digits" for a grey image of (S − 4) × (S − 4), else
        "square". "imagenet": shorter side resized to 256/224·S, and the centre of that.

    Notes
    -----
    The orientation that a camera noted is applied, palettes become colours, transparent pixels show white, grey is
    repeated to three channels, 16 bits become 8. Resizing is Pillow's bilinear, which averages when it shrinks.

    Raises
    ------
    ValueError
        The image has more than `minidl.data.image_open.MAX_PIXELS`, or pixels of 32 bits, which have no known range.

    Examples
    --------
    >>> from PIL import Image
    >>> fit(Image.new("L", (50, 30), 7), 2).tolist()
    [[[7, 7], [7, 7]], [[7, 7], [7, 7]], [[7, 7], [7, 7]]]
    """
    from PIL.Image import Resampling

    check_pixels(*image.size)
    grey = image.mode in ("1", "L", "LA", "I", "I;16", "I;16B")
    colour = as_rgb(image)
    if how == "imagenet":
        from minidl.data.image_decode import square

        return square(colour, size, None)
    digits = how == "digits" or (how == "mixed" and grey and colour.size == (size - 4, size - 4))
    if digits:
        colour = colour.convert("L").convert("RGB")
    inner = size - 4 if digits else size
    w, h = colour.size
    side = min(w, h)
    left, upper = (w - side) // 2, (h - side) // 2
    made = colour.resize((inner, inner), Resampling.BILINEAR, box=(left, upper, left + side, upper + side))
    pixels = np.moveaxis(np.asarray(made, np.uint8), -1, 0)
    return np.pad(pixels, ((0, 0), (2, 2), (2, 2))) if digits else np.ascontiguousarray(pixels)


def fit_file(path: str | os.PathLike[str], size: int, how: str = "square") -> NDArray[np.uint8]:
    """Return `fit` of an image file.

    Raises
    ------
    ValueError
        As `open_image`.
    """
    with open_image(path) as image:
        return fit(image, size, how)


def as_rgb(image: Any) -> Any:
    """Return a Pillow image in RGB, upright: see the notes of `fit`."""
    from PIL import Image, ImageOps

    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if image.mode in ("I", "F") and not deep:
        raise ValueError("pixels of 32 bits have no known range; save it with 8 or 16 bits per channel")
    image = ImageOps.exif_transpose(image)
    if deep:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")
