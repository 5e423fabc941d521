"""How far rounding may move what PyTorch computes: its own operations err anew each time, as its inputs do.

A module that takes a variance as the difference of two moments loses digits that no move of its inputs shows.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from tolerance import rounding
from torch.overrides import TorchFunctionMode


class Rounding(TorchFunctionMode):
    """Within it, every element of a function's result moves by −1, 0 or 1 units in its last place."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call it; what shares memory with an argument was not computed."""
        found = func(*args, **(kwargs or {}))
        if not isinstance(found, torch.Tensor) or not found.is_floating_point():
            return found
        given = [a for a in args if isinstance(a, torch.Tensor)]
        if not given or any(a.untyped_storage().data_ptr() == found.untyped_storage().data_ptr() for a in given):
            return found
        with torch._C.DisableTorchFunction():
            moves = torch.from_numpy(self.rng.integers(-1, 2, tuple(found.shape), np.int8)).to(found)
            return found * (1 + moves * torch.finfo(found.dtype).eps)


def torch_rounding(function: Callable[..., Any], inputs: Mapping[str, Any], trials: int = 4) -> dict[str, float]:
    """Return `tolerance.rounding` of a function that computes with PyTorch, for arrays of the host."""
    seeds = iter(range(trials + 1))

    def rounded(**moved: Any) -> Any:
        with Rounding(next(seeds)):
            return function(**moved)

    return rounding(rounded, inputs, trials)
