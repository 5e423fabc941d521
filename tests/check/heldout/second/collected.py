"""Every bug and every correct layer of the second set."""

from __future__ import annotations

from heldout.second import correct, numpy_layers, numpy_modes, numpy_norms, torch_layers, torch_modes, torch_norms
from heldout.second.registry import BUGS
from heldout.torch_base import torch

MODULES = (numpy_norms, numpy_layers, numpy_modes, torch_norms, torch_layers, torch_modes, correct)
RUNNABLE = [bug for bug in BUGS if torch is not None or bug.style != "PyTorch autograd"]
CORRECT = correct.CORRECT

__all__ = ["BUGS", "CORRECT", "RUNNABLE"]
