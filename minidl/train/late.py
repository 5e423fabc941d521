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
from .places import is_library, place_of, place_of_method

_HERE = Path(__file__).parent
_BATCHES = {  # functions that hold one
    ("trainer.py", "_update"): "update",
    ("evaluate.py", "evaluate"): "evaluation",
    ("classifier.py", "predict"): "prediction",
}


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
    said = (_again(model, x, labels, doing == "update") if alone else None) or _of_suspect(error)
    if said is not None:
        raise LateError(f"{' and '.join(own)}: in {_when(doing, step)}: {said}; mend it and {kept}") from error


def explain_exit(error: SystemExit, own: Sequence[str], step: int, kept: str) -> None:
    """Raise LateError where code of one's own leaves Python within an update or an evaluation: the run is not done.

    Its parameters are those of `explain`.
    """
    found = _batch(error)
    if found is not None:
        raise LateError(
            f"{' and '.join(own) or 'training'}: in {_when(found[0], step)}: {where(error)}, in code of your own; "
            f"mend it and {kept}"
        ) from error


def explain_use(error: Exception | SystemExit, model: Layer, own: Sequence[str]) -> None:
    """Raise LateError where a trained network's own code is at fault for an exception; do nothing where it is not.

    Parameters
    ----------
    error : Exception
        That came out of a prediction or of an evaluation.
    model : Layer
        In evaluation mode.
    own : sequence of str
        As for `explain`.
    """
    if not own or hasattr(error, "exit_status") or isinstance(error, MemoryError | OSError):
        return
    found = _batch(error)
    if found is None:
        return
    doing, x, labels = found
    if _raised_in_own_code(error) or isinstance(error, ReturnedError):
        said: str | None = where(error)
    else:
        said = _again(model, x, labels, training=False) or _of_suspect(error)
    if said is not None:
        raise LateError(f"{' and '.join(own)}: in {doing}: {said}; mend it") from error


def try_loaded(network: Layer, x: Array, num_classes: int, own: Sequence[str]) -> None:
    """Take a batch through a trained network that has parts of one's own, in evaluation mode, and look at each output.

    Raises
    ------
    LateError
        With the layer that gives what it must not, or the line of one's own file that an error comes from.
    ValueError
        If a layer of minidl's cannot take its input, which no layer of one's own gave it.
    """
    what = " and ".join(own)
    rules: Any = None
    try:
        with following(network, warn=False) as rules:
            logits = network.forward(x)
    except LayerError as error:
        raise LateError(f"{what}: {error}; mend it") from error
    except (Exception, SystemExit) as error:
        of_own = _raised_in_own_code(error) or isinstance(error, ReturnedError)
        noticed = None if of_own or rules is None else rules.noticed
        told = f": {where(error)}"
        if noticed is not None and noticed[0] is error:
            of_own = bool(place_of(type(noticed[1])))
            suspect = "" if of_own else rules.shaper
            if not of_own and not suspect and isinstance(error, ValueError):
                raise
            more = f", after {suspect}" if suspect and suspect not in noticed[2] else ""
            told = f"{noticed[2]}{more}: {where(error, last=False)}"
        raise LateError(f"{what}: its forward pass failed on images {x.shape}{told}; mend it") from error
    if logits.shape != (len(x), num_classes):
        raise LateError(
            f"{what}: the network must give {num_classes} logits per image, one per class, got {logits.shape} for "
            f"images {x.shape}{place_of_method(network, 'forward')}; mend it"
        )


def kept(out: str | os.PathLike[str] | None) -> str:
    """Return how training goes on once the code of one's own is mended: from what is saved, if anything is."""
    folder = None if out is None else Path(out)
    if folder is None or not any((folder / "checkpoints").glob("*")):
        return "start anew with another --out; nothing was saved yet"
    return f"go on by --out {folder} --resume --changed-code; what was saved is whole"


def when(error: BaseException) -> str:
    """Return in which update or evaluation of a run an exception came; "" where it came of neither."""
    found = _batch(error)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if found is not None and Path(frame.f_code.co_filename) == _HERE / "trainer.py":
            step = getattr(frame.f_locals.get("self"), "step", None)
            if step is not None:
                return _when(found[0], step)
    return ""


def _when(doing: str, step: int) -> str:
    return f"{doing} {step + 1}" if doing == "update" else f"the evaluation after update {step}"


def _batch(error: BaseException) -> tuple[str, Array, Array] | None:
    """Return what was done when an exception came, with the batch; None where it did not come of one."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        doing = _BATCHES.get((path.name, frame.f_code.co_name)) if path.parent in (_HERE, _HERE.parent) else None
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
    except (Exception, SystemExit) as error:
        noticed = rules.noticed if rules is not None else None
        if noticed is not None and noticed[0] is error:
            return f"{noticed[2].removeprefix(', ')}: {where(error, last=False)}"
    return None


def _of_suspect(error: BaseException) -> str | None:
    suspect = _suspect(error)
    if suspect is None:
        return None
    kind = type(suspect)
    return f"{kind.__name__} gave what the next layer cannot take: {type(error).__name__}: {error}{place_of(kind)}"


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
