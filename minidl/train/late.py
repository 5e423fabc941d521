"""A layer of one's own that goes wrong in the middle of a run: whose output it was, found after an exception."""

from __future__ import annotations

import copy
import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import Array
from ..layers.base import Layer
from ..losses import SoftmaxCrossEntropy
from ..norm.base import ReturnedError
from .layer_rules import LayerError, following
from .named import where
from .places import is_library, place_of

_HERE = Path(__file__).parent
_BATCHES = {("trainer.py", "_update"): "update", ("evaluate.py", "evaluate"): "evaluation"}  # functions that hold one


class LateError(LayerError):
    """A layer of one's own gave what it must not, in an update or an evaluation; the message is one line."""

    exit_status = 1


def explain(error: Exception, model: Layer, own: Sequence[str], step: int, alone: bool, kept: str) -> None:
    """Raise LateError where an exception came of what a layer of one's own gave; do nothing where it did not.

    The batch goes once more through a copy of the network, which is looked at as in the trial before the run. Where
    all is well then, the layer before the one that the exception came out of is named.

    Parameters
    ----------
    error : Exception
        That came out of an update or of an evaluation.
    model : Layer
        As it is now.
    own : sequence of str
        The settings that name a norm or a network of one's own; without them nothing is done.
    step : int
        Updates done.
    alone : bool
        Whether no other process takes part in the update. If one does, the batch does not go through again.
    kept : str
        What to do next.
    """
    if not own or hasattr(error, "exit_status") or isinstance(error, MemoryError | OSError | ReturnedError):
        return
    found = _batch(error)
    if found is None or _raised_in_own_code(error):
        return
    doing, x, labels = found
    when = f"{doing} {step + 1}" if doing == "update" else f"the evaluation after update {step}"
    said = _again(model, x, labels, doing == "update") if alone else None
    if said is None and (suspect := _suspect(error)) is not None:
        kind = type(error).__name__
        said = (
            f"{type(suspect).__name__} gave what the next layer cannot take: {kind}: {error}{place_of(type(suspect))}"
        )
    if said is not None:
        raise LateError(
            f"{' and '.join(own)}: in {when}: {said}; mend it and start anew with another --out{kept}"
        ) from error


def kept(out: str | os.PathLike[str] | None) -> str:
    """Return how a run in a new folder starts with what is saved in another; its code may have changed since."""
    folder = None if out is None else Path(out)
    if folder is None or not any((folder / "checkpoints").glob("*")):
        return "; nothing was saved yet"
    return f"; what was saved is whole, and --from {folder} starts with its weights"


def _batch(error: BaseException) -> tuple[str, Array, Array] | None:
    """Return what was done when an exception came, with the batch; None where it did not come of one."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        doing = _BATCHES.get((path.name, frame.f_code.co_name)) if path.parent == _HERE else None
        if doing is not None and all(name in frame.f_locals for name in ("x", "labels")):
            return doing, frame.f_locals["x"], frame.f_locals["labels"]
    return None


def _raised_in_own_code(error: BaseException) -> bool:
    """Whether it was raised by a line of one's own, or by what that called outside of minidl's layers."""
    raised = False
    for frame, _ in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not is_library(file):
            raised = True
        elif isinstance(frame.f_locals.get("self"), Layer) or Path(file).name == "losses.py":
            raised = False
    return raised


def _again(model: Layer, x: Array, labels: Array, training: bool) -> str | None:
    """Take a batch through a copy of a network once more; return what is wrong with a layer's output, if anything."""
    twin: Any = copy.deepcopy(model).train(training)
    loss = SoftmaxCrossEntropy()
    rules: Any = None
    try:
        with np.errstate(all="ignore"), following(twin) as rules:
            logits = twin.forward(x)
            if len(logits) != len(labels):
                return f"{type(model).__name__} gave {len(logits)} rows of logits for {len(labels)} images"
            loss.forward(logits, labels)
            if training:
                twin.backward(loss.backward())
    except LayerError as error:
        return str(error)
    except Exception as error:
        noticed = rules.noticed if rules is not None else None
        if noticed is not None and noticed[0] is error:
            return f"{noticed[2].removeprefix(', ')}: {where(error, last=False)}"
    return None


def _suspect(error: BaseException) -> Layer | None:
    """Return the last layer of one's own that had its turn before the one that an exception came out of."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        layers, layer = frame.f_locals.get("layers"), frame.f_locals.get("layer")
        if frame.f_code.co_name not in ("forward_through", "backward_through") or layer is None or layers is None:
            continue
        order = [*layers] if frame.f_code.co_name == "forward_through" else [*reversed(layers)]
        before = order[: order.index(layer) + 1]
        found = next((each for each in reversed(before) if place_of(type(each))), found)
    return found
