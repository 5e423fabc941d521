"""The held-out bugs and correct layers: what each is, and where it was seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bug:
    """One layer that is wrong in one thing.

    ``truth`` says what is wrong in the words of whoever wrote the layer, ``cause`` the same in a short phrase.
    """

    id: str
    layer: str
    cause: str
    truth: str
    seen: str
    style: str
    dtype: str
    make: Any


@dataclass(frozen=True)
class Correct:
    """A layer that is right, in one style of programming."""

    id: str
    layer: str
    style: str
    make: Any


BUGS: list[Bug] = []
CORRECT: list[Correct] = []


def bug(
    name: str, layer: str, cause: str, truth: str, seen: str = "common slip", dtype: str = "float32"
) -> Callable[[Any], Any]:
    """Register the class below as a bug; a name starts with t (PyTorch, autograd) or n (NumPy, by hand)."""

    def register(make: Any) -> Any:
        style = {"t": "PyTorch autograd", "n": "NumPy by hand"}[name[0]]
        BUGS.append(Bug(name, layer, cause, truth, seen, style, dtype, make))
        return make

    return register


def correct(style: str, *layers: str) -> Callable[[Any], Any]:
    """Register the class below as a correct layer, once for each layer that it plays."""

    def register(make: Any) -> Any:
        CORRECT.extend(Correct(f"{style}: {layer}", layer, style, make) for layer in layers)
        return make

    return register
