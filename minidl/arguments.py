"""What constructors take: whole numbers of Python or NumPy, and generators or seeds; anything else gets one line."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

Pair = tuple[int, int]
MOST = 2**31 - 1  # of a size: an array with more along one axis has no place in memory
_SHOWN = 60  # characters of a value in a message


def arithmetic() -> np.errstate:
    """Return what a layer computes in: overflow gives inf, underflow 0, and nothing is said, whatever the caller set.

    So it is in PyTorch, and on threads and GPUs, which know nothing of ``np.seterr``. It decorates a function or stands
    in a ``with``, which takes twice as long.

    Examples
    --------
    >>> with np.errstate(all="raise"), arithmetic():
    ...     float(np.float64(1e-300) ** 2)
    0.0
    """
    return np.errstate(all="ignore")


def shown(value: Any) -> str:
    """Return a value for a message: its repr, cut where it is long.

    Examples
    --------
    >>> shown(3), shown(10**400)
    ('3', 'a number of 401 digits')
    """
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        digits = int((value.bit_length() - 1) * math.log10(2)) + 1
        return f"a number of {digits + (abs(value) >= 10**digits)} digits"  # text of so many is slow, and refused
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


def images_cure(shape: tuple[int, ...]) -> str:
    """Return what to do where an array of this shape is given and (N, C, H, W) is needed.

    >>> images_cure((3, 32, 32)), images_cure((5, 3))
    ('give it a batch, x[None]', 'give it images')
    """
    return "give it a batch, x[None]" if len(shape) == 3 else "give it images"


def whole(value: Any, what: str, least: int = 1, cure: str = "pass a whole number", most: int = MOST) -> int:
    """Return a whole number in Python's own type; floats and booleans are refused, even 3.0.

    Parameters
    ----------
    value : int, or an integer of NumPy
    what : str
        The class and the argument, for the message.
    least : int
    cure : str
    most : int

    Raises
    ------
    ValueError
        If it is no whole number, below `least` or above `most`.

    Examples
    --------
    >>> whole(np.int64(3), "Conv2d: stride")
    3
    """
    number = _index(value)
    if number is None:
        raise ValueError(f"{what} must be a whole number, got {shown(value)}; {cure}")
    if number < least:
        raise ValueError(f"{what} must be >= {least}, got {shown(number)}; {cure}")
    if number > most:
        raise ValueError(f"{what} must be <= {most}, got {shown(number)}; {cure}")
    return number


def pair(value: Any, what: str, least: int) -> Pair:
    """Return (value, value) for a whole number, or the two of a pair.

    Raises
    ------
    ValueError
        If it is neither, or one is below `least` or above 2^31 − 1.

    Examples
    --------
    >>> pair(3, "Conv2d: kernel_size", 1), pair((4, np.int64(5)), "Conv2d: kernel_size", 1)
    ((3, 3), (4, 5))
    """
    cure = "pass an int or a pair (height, width)"
    both = (value, value) if _index(value) is not None or not isinstance(value, tuple | list) else tuple(value)
    if len(both) != 2 or any(_index(each) is None for each in both):
        raise ValueError(f"{what} must be a whole number or two, got {shown(value)}; {cure}")
    h, w = map(operator.index, both)
    if h < least or w < least:
        raise ValueError(f"{what} must be >= {least}, got {shown(value)}; {cure}")
    if h > MOST or w > MOST:
        raise ValueError(f"{what} must be <= {MOST}, got {shown(value)}; {cure}")
    return h, w


def generator(rng: Any, what: str) -> np.random.Generator:
    """Return a generator: the one given, one of the seed given, or for None a fresh one that nothing seeds.

    Raises
    ------
    ValueError
        If it is none of these.

    Examples
    --------
    >>> generator(0, "Linear").random() == np.random.default_rng(0).random()
    True
    """
    if isinstance(rng, np.random.Generator):
        return rng
    seed = _index(rng)
    if rng is None or isinstance(rng, np.random.SeedSequence) or (seed is not None and seed >= 0):
        return np.random.default_rng(rng)
    raise ValueError(f"{what}: rng must be a generator or a seed, got {shown(rng)}; pass np.random.default_rng(0)")


def _index(value: Any) -> int | None:
    """Return an integer of any library as Python's; None for anything else."""
    if isinstance(value, bool | np.bool_ | np.ndarray):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
