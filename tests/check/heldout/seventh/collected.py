"""Every bug and every correct layer of the set's modules; without PyTorch, those by hand alone."""

from __future__ import annotations

import importlib
from pathlib import Path

from heldout.seventh.registry import BUGS, CORRECT
from heldout.torch_base import torch

STYLES = ("n_*.py",) if torch is None else ("n_*.py", "t_*.py", "correct_*.py")
MODULES = [
    importlib.import_module(f"heldout.seventh.{path.stem}")
    for style in STYLES
    for path in sorted(Path(__file__).parent.glob(style))
]

__all__ = ["BUGS", "CORRECT", "MODULES"]
