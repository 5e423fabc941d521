"""The seventh set's bugs and correct layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heldout.third.registry import Bug, Correct

STYLES = {"t": "PyTorch autograd", "n": "NumPy by hand"}
BUGS: list[Bug] = []
CORRECT: list[Correct] = []


def bug(
    name: str, layer: str, cause: str, *, right: str, wrong: str, seen: str, dtype: str = "float32"
) -> Callable[[Any], Any]:
    """Register the class below as a bug; t7- is PyTorch with autograd, n7- NumPy by hand."""

    def register(make: Any) -> Any:
        BUGS.append(Bug(name, layer, dtype, cause, right, wrong, seen, STYLES[name[0]], make))
        return make

    return register


def correct(style: str, layer: str, dtypes: tuple[str, ...] = ("float32", "float64")) -> Callable[[Any], Any]:
    """Register the class below as a layer that is right."""

    def register(make: Any) -> Any:
        CORRECT.append(Correct(f"{style}: {layer}", layer, style, make, dtypes))
        return make

    return register
