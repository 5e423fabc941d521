"""`cupy.lib`: views with strides of their own."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from strict.arrays import ndarray, wrap


def as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
    return wrap(np.lib.stride_tricks.as_strided(x._memory, shape, strides))


def sliding_window_view(x: ndarray, window_shape: Any, axis: Any = None) -> ndarray:
    return wrap(np.lib.stride_tricks.sliding_window_view(x._memory, window_shape, axis))


stride_tricks = SimpleNamespace(as_strided=as_strided, sliding_window_view=sliding_window_view)
