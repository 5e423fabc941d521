"""One update of a network with parts of one's own, tried on a copy before anything of a run is written."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import Array, to_device
from ..layers.base import Layer
from ..losses import SoftmaxCrossEntropy
from .config import Config
from .finite import watching
from .layer_rules import LayerError, Rules, following
from .named import own_places, own_settings, where
from .places import place_of, place_of_method
from .saved import warn_of_unsaved
from .span import ConfigError

_FEW = 2  # images that a loaded network is tried on: as `minidl.load` does


def try_out(
    model: Layer,
    config: Config,
    shape: tuple[int, ...],
    num_classes: int,
    last: int,
    again: Callable[[], Layer] | None = None,
) -> None:
    """Take a copy of the network through training and evaluation, a batch each, where a part is one's own.

    It goes forward and back on a batch of training, and in evaluation forward on one of as many images and on one of
    another number: that of the last batch of the test set, or where it is the same, one fewer. Then its state is put
    into the network as it is made, and where that gives other outputs in evaluation, there is a warning.

    Parameters
    ----------
    model : Layer
        It stays as it is, and so do the generators that it draws from.
    config : Config
        Its norm or model may be `module:Name`; otherwise nothing is tried.
    shape : tuple of int
        Of an input, such as (3, 32, 32).
    num_classes : int
    last : int
        The images of the last batch of the test set.
    again : callable, optional
        Makes the network anew, as loading does; a copy of `model` takes its place.

    Raises
    ------
    ConfigError
        If something goes wrong on the way: with the error, and the line of one's own file that it comes from. Also if
        a layer gives what it must not, or a number is not finite.
    """
    own = own_settings(config)
    if not own:
        return
    rng = np.random.default_rng(0)
    N = config.batch_size
    other = last if last != N else max(N - 1, 1)
    x, few = (to_device(rng.standard_normal((n, *shape)).astype(config.dtype)) for n in (N, other))
    labels = to_device(rng.integers(0, num_classes, N))
    loss = SoftmaxCrossEntropy()
    what, on = " and ".join(own), f"images {x.shape}"
    doing = "making a copy of it"
    rules = None

    def refuse(bad: list[str]) -> None:
        if bad:
            raise ConfigError(
                f"{what}: {doing} gives numbers that are not finite on {on}, first in {bad[0]}; "
                f"mend {own_places(config)}"
            )

    def check(logits: Array, images: int) -> None:
        if logits.shape != (images, num_classes):
            raise ConfigError(
                f"{config.model} must give {num_classes} logits per image, one per class, got {logits.shape} for {on}"
                f"{place_of_method(model, 'forward')}; make it for num_classes, and for any number of images"
            )

    try:
        twin = copy.deepcopy(model)
        with np.errstate(all="ignore"), following(twin) as rules, watching(twin) as bad:
            doing = "its forward pass in training"
            logits = twin.forward(x)
            check(logits, N)
            refuse(bad)
            loss.forward(logits, labels)
            doing = "its backward pass"
            twin.backward(loss.backward())
            refuse(bad)
            rules.warn_of_untrained(twin)
            doing = "its forward pass in evaluation"
            check(twin.eval().forward(x), N)
            refuse(bad)
            on = f"images {few.shape} of another batch size"
            check(twin.forward(few), other)
            refuse(bad)
            told = rules.told
        on = f"images {(_FEW, *shape)}"
        doing = "its forward pass in evaluation, saved and loaded,"
        images = to_device(rng.standard_normal((_FEW, *shape)).astype(config.dtype))
        with np.errstate(all="ignore"):
            warn_of_unsaved(twin, again or (lambda: model), images, told)
    except ConfigError:
        raise
    except LayerError as error:
        raise ConfigError(f"{what}: {'' if rules is None else f'{doing} failed on {on}: '}{error}; mend it") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{what}: {doing} failed on {on}{_told(error, rules)}; mend it") from error


def _told(error: BaseException, rules: Any) -> str:
    """Return an error with the line of one's own code, and the layer it came out of where that is one of minidl's."""
    noticed = rules.noticed if isinstance(rules, Rules) else None
    if noticed is None or noticed[0] is not error or place_of(type(noticed[1])):
        return f": {where(error)}"
    return f"{noticed[2]}: {where(error, last=False)}"
