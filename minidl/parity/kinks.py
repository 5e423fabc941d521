"""How near a network's values come to where ReLU and maximum pooling change branch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minidl.layers.activation import ReLU
from minidl.layers.base import Layer
from minidl.layers.pool import MaxPool2d


def distance_to_kinks(net: Layer, x: np.ndarray) -> float:
    """Return the least distance of any value to a kink, relative to the largest value there; infinity without kinks.

    Parameters
    ----------
    net : Layer, on the host; one forward is run.
    x : its input

    Examples
    --------
    >>> float(distance_to_kinks(ReLU(), np.array([[4.0, -1.0]])))
    0.25
    """
    distances: list[float] = [np.inf]

    def watch(one: Layer) -> None:
        forward = one.forward

        def noted(x: np.ndarray) -> Any:
            gaps = np.abs(x) if isinstance(one, ReLU) else _gaps(one, x)
            distances.append(float(gaps.min() / np.abs(x).max()))
            return forward(x)

        one.forward = noted  # type: ignore[method-assign]

    for _, one in net.named_layers():
        if isinstance(one, ReLU | MaxPool2d):
            watch(one)
    net.forward(x)
    return min(distances)


def _gaps(pool: Any, x: np.ndarray) -> np.ndarray:
    """Return how far the second largest value of each window is below the largest, infinity where they are equal.

    Equal values are no danger: they come of equal inputs, such as pixels where a rectifier made all channels zero. So
    they are equal on every backend, and each of them takes the first.
    """
    (ph, pw), (sh, sw) = pool.padding, pool.stride
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=np.finfo(x.dtype).min)
    windows = sliding_window_view(x, pool.kernel_size, axis=(2, 3))[:, :, ::sh, ::sw]  # (N, C, Ho, Wo, kh, kw)
    top = np.sort(windows.reshape(*windows.shape[:4], -1))[..., -2:]
    gaps: np.ndarray = top[..., -1] - top[..., 0]
    return np.where(gaps == 0, np.inf, gaps)
