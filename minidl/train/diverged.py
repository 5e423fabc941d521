"""What a run raises, and keeps, when a number of an update or of an evaluation is not finite."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..backend import Array, to_host
from ..layers.base import Layer
from ..losses import SoftmaxCrossEntropy
from . import checkpoint
from .config import Config
from .finite import BATCH, DivergedError, first_bad
from .record import RunError
from .run_folder import RunFolder
from .running import NotFiniteError


def in_update(
    error: NotFiniteError,
    lr: float,
    model: Layer,
    criterion: Any,
    folder: RunFolder | None,
    random: dict[str, Any],
    x: Array = None,
    labels: Array = None,
    own: Sequence[str] = (),
    cure: str | None = None,
) -> DivergedError:
    """Return what to raise: it names the first layer and tensor that is not finite; the batch is kept.

    Parameters
    ----------
    error : NotFiniteError
        The update, and its loss.
    lr : float
        Of that update.
    model, criterion
        As they were before it.
    folder : RunFolder or None
        Where to keep the network and the batch.
    random : dict
        The states of the generators before the update.
    x, labels
        The batch; None where it is gone.
    own : sequence of str
        The settings that name a norm or a network of one's own, which may have a mistake.
    cure : str, optional
        What to do, in place of a lower rate: of `before_the_rate`.
    """
    kept = _dump(folder, model, random, x, labels, error.update) if x is not None else ""
    where = first_bad(model, criterion, x, labels) if x is not None else None
    if where == BATCH:
        cure = "mend the data, or what makes the batches of it, and start anew with another --out"
    what = "a gradient is not finite" if math.isfinite(error.loss) else f"the loss is {error.loss}"
    return DivergedError(
        f"{what} at update {error.update} (lr {lr:g})"
        + (f", first in {where}" if where else "")
        + f"; {cure or _cure(own)}{kept}"
    )


def in_evaluation(
    loss: float,
    step: int,
    model: Layer,
    batches: Iterable[tuple[Array, Array, Array]],
    own: Sequence[str] = (),
    cure: str | None = None,
) -> DivergedError:
    """Return what to raise for the test loss after `step` updates; `own` and `cure` as in `in_update`."""
    return DivergedError(f"the test loss is {loss} after update {step}{where_in(model, batches)}; {cure or _cure(own)}")


def where_in(model: Layer, batches: Iterable[tuple[Array, Array, Array]]) -> str:
    """Return, for a message, which tensor is not finite first in an evaluation; nothing where all are finite."""
    where = None
    training = model.training
    model.eval()
    for x, labels, _ in batches:
        if where := first_bad(model, SoftmaxCrossEntropy(), x, labels, backward=False):
            break
    model.train(training)
    return f", first in {where}" if where else ""


def before_the_rate(config: Config, began: int, folder: RunFolder | None, own: Sequence[str] = ()) -> str:
    """Return what to do where the weights that training began with give what is not finite: no rate changed them yet.

    Parameters
    ----------
    config : Config
    began : int
        The updates that had been done.
    folder : RunFolder or None
    own
        As in `in_update`.
    """
    if began and folder is not None:
        before = (
            f"remove the newest file in {folder.checkpoints}, and --resume goes on from the one before it, or "
            if len(checkpoint.list_steps(folder.checkpoints)) > 1
            else ""
        )
        return f"what its checkpoint holds is too large; {before}start anew with another --out"
    if config.start_from is not None:
        return (
            f"the weights of {config.start_from} are too large; start --from another run or an earlier checkpoint of "
            "it, with another --out"
        )
    what = f"look for a mistake in {' and '.join(own)}" if own else "check the data and the settings"
    return f"no learning rate has changed the weights yet: {what}, and start anew with another --out"


def check_state(tensors: Mapping[str, np.ndarray], step: int, own: Sequence[str] = ()) -> None:
    """Raise DivergedError unless every array of a run's state is finite."""
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise DivergedError(f"{name} is not finite after update {step}; {_cure(own)}")


def _cure(own: Sequence[str]) -> str:
    mistake = f", or look for a mistake in {' and '.join(own)}," if own else ""
    return f"lower --lr{mistake} and start anew with another --out"


def _dump(folder: RunFolder | None, model: Layer, random: dict[str, Any], x: Array, labels: Array, update: int) -> str:
    """Keep the network, as it was before the update, and the batch: what is needed to see it happen again."""
    if folder is None:
        return ""
    tensors = {f"model.{name}": array for name, array in model.state().items()}
    tensors |= {"batch.x": to_host(x), "batch.labels": to_host(labels)}
    try:
        folder.check()
        path = checkpoint.save(folder.path / "crash", update, tensors, {"random": random})
    except (OSError, RunError):
        return ""
    return f" ({path} has the batch and the network)"
