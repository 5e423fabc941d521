"""The state that training goes on from: what a checkpoint holds, and what several processes share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..norm.select import fit_modes
from . import restore
from .checkpoint import CheckpointError
from .stored import under

if TYPE_CHECKING:
    from ..auto import AutoModes
    from ..data.loader import Loader
    from ..layers.base import Layer
    from .loss_log import LossLog
    from .running import Running


class State:
    """Everything that the next update depends on, and where the run stands.

    Attributes
    ----------
    model, optimiser, loader, dropout, running, losses, auto
        The parts of a Trainer that change while it trains; `auto` is None where the numbers of modes are given.
    step, evaluated : int
        The last update, and the update of the last evaluation.
    history : list of dict
        The evaluations.
    best : dict or None
        The one with the lowest test error.
    seconds : float
        Spent in earlier calls of `Trainer.run`.
    """

    def __init__(
        self,
        model: Layer,
        optimiser: Any,
        loader: Loader,
        dropout: np.random.Generator,
        running: Running,
        losses: LossLog,
        auto: AutoModes | None,
    ) -> None:
        self.model, self.optimiser, self.loader, self.dropout = model, optimiser, loader, dropout
        self.running, self.losses, self.auto = running, losses, auto
        self.step = self.evaluated = 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.seconds = 0.0

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the arrays, on the host."""
        tensors = {f"model.{name}": array for name, array in self.model.state().items()}
        tensors |= {f"optimiser.{name}": array for name, array in self.optimiser.state().items()}
        auto = self.auto.tensors() if self.auto is not None else {}
        return tensors | {f"auto.{name}": array for name, array in auto.items()}

    def meta(self) -> dict[str, Any]:
        """Return what is no array, but for `step`, which a checkpoint has in its name too."""
        return {
            "evaluated": self.evaluated,
            "best": self.best,
            "running": self.running.state(),
            "losses": self.losses.state(),
            "loader": self.loader.state(),
            "random": {"dropout": self.dropout.bit_generator.state},
            **({"auto": self.auto.state()} if self.auto is not None else {}),
        }

    def restore(
        self, tensors: dict[str, np.ndarray], meta: dict[str, Any], where: Path, known: restore.Known | None
    ) -> None:
        """Take over what `tensors` and `meta` returned, and the step.

        Parameters
        ----------
        tensors, meta : dict
            As they were returned, with "step".
        where : Path
            What they are from, to be named.
        known : Known or None
            What they must agree with; None if they are of a process that has looked at that.

        Raises
        ------
        CheckpointError
            If it is no state of this run.
        """
        try:
            if known is not None:
                restore.check_names(meta, self.meta())
                restore.check_meta(meta, known)
            self.fit_modes(under(tensors, "model."))
            restore.check_arrays(tensors, self.tensors(), meta["step"])
            self.model.load_state(under(tensors, "model."))
            self.optimiser.load_state(under(tensors, "optimiser."))
            self.loader.load_state(meta["loader"])
            self.dropout.bit_generator.state = meta["random"]["dropout"]
            self.running.load_state(meta["running"])
            self.losses.load_state(meta.get("losses", self.losses.state()))
            if self.auto is not None:
                self.auto.load_state(under(tensors, "auto."), meta["auto"])
            self.step, self.evaluated, self.best = meta["step"], meta["evaluated"], meta["best"]
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
            what = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{where} does not fit the run ({what})") from error

    def fit_modes(self, state: dict[str, np.ndarray]) -> None:
        """Where the run finds its numbers of modes itself, give the norms those of a network's state."""
        if self.auto is not None:
            self.optimiser.follow(self.model, fit_modes(self.model, state, self.auto.max_modes))
            self.auto.fit()
