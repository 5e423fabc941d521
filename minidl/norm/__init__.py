"""The six normalization layers, each a small function between two heavy passes (see `minidl.norm.moments`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl.layers.base import Layer
from minidl.norm.batch import BatchNorm
from minidl.norm.group import GroupNorm
from minidl.norm.instance import InstanceNorm
from minidl.norm.layer import LayerNorm
from minidl.norm.mode import ModeNorm
from minidl.norm.mode_group import ModeGroupNorm

__all__ = [
    "NORMS",
    "BatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "ModeGroupNorm",
    "ModeNorm",
    "NormFactory",
    "norm_factory",
]

NormFactory = Callable[[int, np.random.Generator], Layer]

NORMS = {
    "bn": "batch normalization",
    "in": "instance normalization",
    "ln": "layer normalization",
    "gn": "group normalization",
    "mn": "mode normalization",
    "mgn": "mode group normalization",
    "none": "no normalization",
}


def norm_factory(
    name: str,
    modes: int | Sequence[int] = 2,
    groups: int = 2,
    momentum: float = 0.1,
    per_mode_affine: bool = False,
    dtype: str = "float32",
    gate_input: str = "plain",
    gate_temperature: float = 1.0,
) -> NormFactory | None:
    """Return a function (channels, rng) -> layer for a norm's short name, None for "none".

    Parameters
    ----------
    name : a key of NORMS
    modes : K of "mn" and "mgn": one for all norms, or one for each in the order they are made
    groups : of "gn"
    momentum : of "bn" and "mn", the weight of the new batch
    per_mode_affine : of "mn"
    dtype : of the parameters
    gate_input, gate_temperature : of "mn"

    Raises
    ------
    ValueError
        If the name is unknown; from the function, if there are more norms than modes were given for.

    Examples
    --------
    >>> make = norm_factory("mn", modes=3)
    >>> make(5, np.random.default_rng(0)).num_modes
    3
    """
    given = iter(modes) if isinstance(modes, Sequence | np.ndarray) else itertools.repeat(modes)

    def k() -> int:
        num_modes: Any = next(given, given)
        if num_modes is given:
            raise ValueError(f"norm_factory: modes must have one K for each norm, got {modes} for more; give all")
        return num_modes  # type: ignore[no-any-return]

    makers: dict[str, NormFactory | None] = {
        "bn": lambda channels, rng: BatchNorm(channels, momentum=momentum, dtype=dtype),
        "in": lambda channels, rng: InstanceNorm(channels, dtype=dtype),
        "ln": lambda channels, rng: LayerNorm(channels, dtype=dtype),
        "gn": lambda channels, rng: GroupNorm(groups, channels, dtype=dtype),
        "mn": lambda channels, rng: ModeNorm(
            channels,
            k(),
            momentum=momentum,
            per_mode_affine=per_mode_affine,
            rng=rng,
            dtype=dtype,
            gate_input=gate_input,
            gate_temperature=gate_temperature,
        ),
        "mgn": lambda channels, rng: ModeGroupNorm(channels, k(), rng=rng, dtype=dtype),
        "none": None,
    }
    if name not in makers:
        raise ValueError(f"norm_factory: name must be one of {', '.join(makers)}, got {name!r}; choose one of them")
    return makers[name]
