"""The second set's bugs: what each is, where it was seen, and what counts as the right answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANSWERS: dict[str, list[str]] = json.loads((Path(__file__).parent / "answers.json").read_text())


@dataclass(frozen=True)
class Bug:
    """One layer that is wrong in one thing.

    ``cause`` says what is wrong; ``accepted`` are the names on docs/check-mutants.md that say the same.  Where there is
    none, *unknown* is the honest answer.
    """

    id: str
    layer: str
    cause: str
    seen: str
    style: str
    make: Any
    dtype: str = "float32"

    @property
    def accepted(self) -> list[str]:
        """The names that count as right."""
        return ANSWERS[self.id]


BUGS: list[Bug] = []


def bug(name: str, layer: str, cause: str, seen: str = "common slip") -> Callable[[Any], Any]:
    """Register the class below as a bug; a name starts with t (PyTorch, autograd) or n (NumPy, by hand)."""

    def register(make: Any) -> Any:
        style = {"t": "PyTorch autograd", "n": "NumPy by hand"}[name[0]]
        BUGS.append(Bug(name, layer, cause, seen, style, make))
        return make

    return register
