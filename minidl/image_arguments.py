"""What `Classifier.predict` takes as images: anything else gets one line with the cure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = Any  # a path, a Pillow image, a uint8 array, or a sequence of these


def refuse_ambiguous(images: NDArray[Any]) -> None:
    """Raise ValueError where an array of three axes may be one image or several grey ones."""
    if images.ndim != 3 or len(images) == 1 or images.shape[2] in (1, 3):
        return
    if len(images) == 3:
        raise ValueError(
            f"predict: an array {images.shape} may be one image in colour or three grey ones; give images[None], "
            "(1, 3, H, W), for the one, or list(images) for the three"
        )
    if images.shape[2] == 4:
        raise ValueError(
            f"predict: an array of three axes must be one image (H, W, 3), got {images.shape}; if it has transparency, "
            "give PIL.Image.fromarray(images), or list(images) for grey ones"
        )
    raise ValueError(
        f"predict: an array of three axes must be one image (H, W, 3), got {images.shape}; reshape it, or give "
        "list(images) for grey ones"
    )


def refuse_kind(images: Any, one: bool) -> None:
    """Raise TypeError where something is no array, or where several may be given no sequence either."""
    if isinstance(images, np.ndarray) or (one and isinstance(images, list | tuple)):
        return
    library = type(images).__module__.partition(".")[0]
    if library in ("torch", "tensorflow", "jax", "jaxlib", "cupy"):
        way = {"torch": "images.cpu().numpy()", "cupy": "images.get()", "tensorflow": "images.numpy()"}
        cure = f"give an array of NumPy: {way.get(library, 'numpy.asarray(images)')}, as uint8"
    elif isinstance(images, bytes | bytearray | memoryview):
        cure = "open them first: PIL.Image.open(io.BytesIO(images))"
    elif one or isinstance(images, dict) or not isinstance(images, Iterable):
        cure = "give a path, a Pillow image, a uint8 array, or a list of these"
    else:
        return
    kind = "None" if images is None else f"{library}.{type(images).__name__}".removeprefix("builtins.")
    rule = "each image must be an image" if one else "images must be one image or several"
    raise TypeError(f"predict: {rule}, got {kind}; {cure}")


def _cure_of_integers(pixels: NDArray[Any]) -> str:
    """Return what to give in place of integers of another dtype, of which astype keeps the lowest 8 bits alone."""
    low, high = (int(pixels.min()), int(pixels.max())) if pixels.size else (0, 0)
    inside = low >= 0 and high <= 255
    if pixels.dtype == np.uint16:
        also = ", or x.astype(np.uint8) if white is 255" if inside else ""
        return f"(x >> 8).astype(np.uint8) for 16 bits{also}"
    if inside:
        return "x.astype(np.uint8)"
    return f"pixels from 0, black, to 255, white, and then x.astype(np.uint8): these go from {low} to {high}"


def as_picture(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an array as Pillow takes it: (H, W) or (H, W, 3)."""
    if pixels.dtype != np.uint8:
        cure = "np.round(255 * x).astype(np.uint8) for x in [0, 1]"
        if pixels.dtype.kind in "iu":
            cure = _cure_of_integers(pixels)
        elif pixels.dtype.kind not in "fb":
            cure = "a path, a Pillow image or an array of pixels"
        raise ValueError(f"predict: an array must be uint8, got {pixels.dtype}; give {cure}")
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3) and pixels.shape[0] in (1, 3):
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if not pixels.size or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ValueError(
            f"predict: an image must be (H, W), (H, W, 3) or (3, H, W), got {pixels.shape}; reshape it, or give a list"
        )
    return np.ascontiguousarray(pixels)
