"""Initial values of parameters, drawn on the host from a generator that is passed in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

MOST_VALUES = 1 << 34  # of one weight: 64 GiB in float32


def uniform_fan_in(
    shape: tuple[int, ...], rng: np.random.Generator, dtype: Any, size: tuple[int, ...] | None = None
) -> np.ndarray:
    """Uniform in ±1/sqrt(fan_in), PyTorch's default for linear layers and convolutions and their biases.

    Parameters
    ----------
    shape : (out, in, ...) of the weight; fan_in is the product of all but the first
    rng : numpy.random.Generator
    dtype : dtype of the result
    size : the shape of the result where it is not the weight's (a bias)
    """
    if math.prod(shape) > MOST_VALUES:
        raise ValueError(f"a weight must have at most {MOST_VALUES} values, got {shape}; lower the sizes of the layer")
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return rng.uniform(-bound, bound, size or shape).astype(dtype)


def mode_gate(num_modes: int, num_features: int, rng: np.random.Generator, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (K, C) = 1/K + 0.01·N(0, 1) and bias (K,) uniform in ±1/sqrt(C).

    The initialisation of the gating map Psi in the code that the authors of Mode Normalization released.
    """
    weight = 1 / num_modes + 0.01 * rng.standard_normal((num_modes, num_features))
    bound = 1 / math.sqrt(num_features)
    return weight.astype(dtype), rng.uniform(-bound, bound, num_modes).astype(dtype)


def he_normal(shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> np.ndarray:
    """Normal with mean 0 and variance 2/fan_in, which keeps the mean square through a layer and a ReLU.

    He et al., "Delving deep into rectifiers", 2015. `shape` is (out, in, ...); fan_in is the product of all but out.
    """
    return (math.sqrt(2 / math.prod(shape[1:])) * rng.standard_normal(shape)).astype(dtype)
