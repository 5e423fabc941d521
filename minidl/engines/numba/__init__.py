"""Numba's engine: NumPy arrays and compiled passes. What it has no twin of, it takes from NumPy's engine.

Each module of `MODULES` registers twins with ``@NUMBA.twin(written)`` when it is imported, on the engine's first use.
"""

from importlib import import_module

from minidl import hand_over
from minidl.engine import NUMBA, NUMPY
from minidl.engines.numba import jobs, waiting

MODULES = (
    "activation",
    "compose",
    "conv",
    "fused",
    "linear",
    "loss",
    "norm",
    "optim",
    "pool",
    "small",
)  # of this package

import_module("minidl.engines.numpy")
NUMBA.twins.update(NUMPY.twins)
for _name in MODULES:
    import_module(f"{__name__}.{_name}")
hand_over.awake, hand_over.write_code = waiting.until_changed, jobs.write_code
