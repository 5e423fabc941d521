"""Every bug and every correct layer of the third set that can run here: without PyTorch those by hand alone."""

from __future__ import annotations

from heldout.third import n_layers, n_modes, n_norms, n_rows
from heldout.third.registry import BUGS, CORRECT
from heldout.torch_base import torch

MODULES = [n_norms, n_rows, n_modes, n_layers]
if torch is not None:
    from heldout.third import correct_layers, t_layers, t_modes, t_norms

    MODULES += [t_norms, t_modes, t_layers, correct_layers]

__all__ = ["BUGS", "CORRECT", "torch"]
