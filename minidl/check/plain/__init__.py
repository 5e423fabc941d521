"""Every layer as its formula reads, so that each can be broken in one place.

The same source computes the expected values in 50 digits, carries the rounding noise that sets the tolerances, and,
with one line replaced (``minidl.check.mutants``), is the known-wrong layer that a report names.  It is written apart
from ``minidl.reference``, and the vectors are written only where the two agree.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np

from minidl.check.plain import arith
from minidl.check.plain.base import Plain

MODULES = {
    "batch_norm": "batch_norm",
    "instance_norm": "group_norm",
    "layer_norm": "group_norm",
    "group_norm": "group_norm",
    "mode_norm": "mode_norm",
    "mode_group_norm": "mode_group_norm",
    "layer_norm_last": "last_axis",
    "rms_norm": "rms_norm",
    "conv2d": "conv2d",
    "max_pool2d": "pool",
    "avg_pool2d": "pool",
    "linear": "linear",
    "softmax_cross_entropy": "softmax_cross_entropy",
}


@cache
def plain_source(layer: str) -> str:
    """The source of a layer's module."""
    return inspect.getsource(importlib.import_module(f"minidl.check.plain.{MODULES[layer]}"))


@cache
def first_gradient(layer: str) -> int:
    """Where the backward pass begins in a layer's source."""
    return plain_source(layer).index("def gradients")


@cache
def plain_class(layer: str, patches: tuple[tuple[str, str], ...] = ()) -> Callable[[str, Any], Plain]:
    """Return the class of a layer, with each (old, new) text replaced in its source; old must occur exactly once."""
    module = importlib.import_module(f"minidl.check.plain.{MODULES[layer]}")
    if not patches:
        return cast(Callable[[str, Any], Plain], module.Layer)
    source = plain_source(layer)
    for old, new in patches:
        if source.count(old) != 1:
            raise ValueError(
                f"plain_class: the text to replace must occur once in {layer}, got {source.count(old)} of {old!r}"
            )
        source = source.replace(old, new)
    namespace: dict[str, Any] = {**vars(arith), "np": np, "__name__": f"{module.__name__}_patched"}
    exec(compile(source, f"<{layer} patched>", "exec"), namespace)
    return cast(Callable[[str, Any], Plain], namespace["Layer"])
