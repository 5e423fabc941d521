"""How far rounding may move a whole run: what it logs, and the state that it ends with."""

from dataclasses import replace
from typing import Any

import numpy as np
from tolerance import rounding, sums

from minidl.train import Config, Trainer

LOSSES = ("train_loss", "test_loss")
SHARES = ("usage", "entropy", "sample_entropy")


def numbers(trainer: Trainer) -> dict[str, Any]:
    """Return the losses and gates of every line of the log, and the network's state, by name."""
    lines: list[dict[str, Any]] = trainer.history
    found = {name: np.array([line[name] for line in lines]) for name in LOSSES}
    for path in lines[0].get("gates", {}):
        found |= {f"{path} {name}": np.hstack([line["gates"][path][name] for line in lines]) for name in SHARES}
    return found | trainer.model.state()


def run_rounding(config: Config, task: Any = None, trials: int = 4) -> dict[str, float]:
    """Return how far rounding may move each of `numbers`, of a run on NumPy: its first parameters are moved.

    Its sums over the pixels of a batch err by their additions besides, which moves of their terms do not show.
    """
    config = replace(config, backend="numpy")

    def ended(**state: Any) -> dict[str, Any]:
        trainer = Trainer(config, quiet=True, task=task)
        trainer.model.load_state(state)
        trainer.run()
        return numbers(trainer)

    start = Trainer(config, quiet=True, task=task).model.state()
    moves, found = rounding(ended, start, trials), ended(**start)
    pixels = config.batch_size * 32 * 32
    return {name: moves[name] + sums(2 * pixels, np.abs(a).max(), config.dtype) for name, a in found.items()}
