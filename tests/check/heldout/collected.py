"""Every bug and every correct layer that can run here, and what cannot."""

from __future__ import annotations

from heldout import correct_layers, numpy_bugs, torch_layers, torch_modes, torch_norms
from heldout.registry import BUGS, CORRECT

MODULES = (numpy_bugs, torch_norms, torch_modes, torch_layers, correct_layers)
MISSING = [
    name
    for name, found in (
        ("PyTorch", correct_layers.torch),
        ("JAX", correct_layers.jax),
        ("a C compiler", correct_layers.LIBRARY),
    )
    if found is None
]
RUNNABLE = [bug for bug in BUGS if correct_layers.torch is not None or bug.style != "PyTorch autograd"]

__all__ = ["BUGS", "CORRECT", "MISSING", "RUNNABLE"]
