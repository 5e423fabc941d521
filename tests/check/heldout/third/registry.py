"""The third set's bugs: what each is, where such a bug was reported, and which answers count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bug:
    """One layer that is wrong in one thing.

    ``cause`` is the true cause in one sentence; ``right`` and ``wrong`` say which answers of a diagnosis count as right and
    as wrong.  ``seen`` is the public report it is modelled on.  "unknown" is never wrong and never right.
    """

    id: str
    layer: str
    dtype: str
    cause: str
    right: str
    wrong: str
    seen: str
    style: str
    make: Any


@dataclass(frozen=True)
class Correct:
    """A layer that is right, in some style."""

    id: str
    layer: str
    style: str
    make: Any
    dtypes: tuple[str, ...] = ("float32", "float64")


BUGS: list[Bug] = []
CORRECT: list[Correct] = []


def bug(
    name: str, layer: str, cause: str, *, right: str, wrong: str, seen: str, dtype: str = "float32"
) -> Callable[[Any], Any]:
    """Register the class below as a bug; t3- is PyTorch with autograd, n3- NumPy by hand."""

    def register(make: Any) -> Any:
        style = {"t": "PyTorch autograd", "n": "NumPy by hand"}[name[0]]
        BUGS.append(Bug(name, layer, dtype, cause, right, wrong, seen, style, make))
        return make

    return register


def correct(style: str, layer: str, dtypes: tuple[str, ...] = ("float32", "float64")) -> Callable[[Any], Any]:
    """Register the class below as a layer that is right."""

    def register(make: Any) -> Any:
        CORRECT.append(Correct(f"{style}: {layer}", layer, style, make, dtypes))
        return make

    return register
