"""Numbers for the cases: the same on every machine and with every NumPy, and exact in the case's dtype."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def uniform(key: str, *shape: int) -> Array:
    """Uniform numbers in (0, 1) with 24 bits, from splitmix64 seeded with a name."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.asarray(((z >> np.uint64(40)).astype(np.float64) + 0.5) / 2**24).reshape(shape)


def normal(key: str, *shape: int) -> Array:
    """Bell-shaped numbers of mean 0 and variance about 1 (a sum of four uniform ones): no library function is
    involved.
    """
    u = uniform(key, 4, *shape)
    return np.asarray(1.75 * (u[0] + u[1] + u[2] + u[3] - 2.0))


def signs(key: str, *shape: int) -> Array:
    """Numbers that are −1 or 1."""
    return np.where(uniform(key, *shape) < 0.5, -1.0, 1.0)


def away_from_zero(key: str, *shape: int) -> Array:
    """Numbers of either sign with magnitude in (0.4, 1.9): never 0, and never 1 by design."""
    u = uniform(key, 2, *shape)
    return np.asarray(np.where(u[0] < 0.5, -1.0, 1.0) * (0.4 + 1.5 * u[1]))
