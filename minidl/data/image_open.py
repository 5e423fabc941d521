"""Image files from anybody: opened by Pillow as one of a few formats, and of a bounded size."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from minidl.files import NoFileError, open_file

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""No others: PostScript, for one, is a program, which Pillow would let Ghostscript run."""

MAX_PIXELS = 80_000_000
"""A small file may unpack to more; the largest image of ImageNet has 61 million."""

UNREADABLE = "it cannot be decoded"


def check_pixels(width: int, height: int) -> None:
    """Refuse an image of more than `MAX_PIXELS`.

    Raises
    ------
    ValueError
        It has more.
    """
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{UNREADABLE}: {width} × {height} pixels are more than {MAX_PIXELS}, and a small file may claim any "
            "number; scale it down"
        )


@contextmanager
def open_image(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open an image file for the ``with`` block; its pixels are decoded when they are asked for.

    Raises
    ------
    ValueError
        It cannot be read, or decoded within the block, or is too large; the message, which does not name the file,
        says why.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with open_file(path) as file, _opened(file) as image:
            check_pixels(*image.size)
            yield image
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"{UNREADABLE}: no image of the formats {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{UNREADABLE}: its pixels are more than {MAX_PIXELS}, far more; scale it down") from error
    except OSError as error:
        if os.path.islink(path) and not os.path.exists(path):
            raise ValueError(f"a broken link, to {os.readlink(path)}") from error
        if os.path.islink(path) and os.path.isdir(path):
            raise ValueError(f"a link to a folder that it lies in, {os.readlink(path)}") from error
        if isinstance(error, NoFileError):
            raise ValueError(f"{UNREADABLE}, as it is a pipe, a device or a folder and no file") from error
        raise ValueError(f"{UNREADABLE}: {error.strerror or error}") from error
    except Exception as error:  # Pillow raises many kinds for damaged files
        text = " ".join(str(error).split())
        raise ValueError(text if text.startswith(UNREADABLE) else f"{UNREADABLE}: {text}") from error


def _opened(file: IO[bytes]) -> Any:
    from PIL import Image

    with warnings.catch_warnings():  # of images that `check_pixels` refuses, and of odd metadata
        warnings.simplefilter("ignore")
        return Image.open(file, formats=FORMATS)
