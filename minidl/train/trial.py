"""One update of a network with parts of one's own, tried on a copy before anything of a run is written."""

from __future__ import annotations

import copy

import numpy as np

from ..backend import to_device
from ..layers.base import Layer
from ..losses import SoftmaxCrossEntropy
from .config import Config
from .finite import watching
from .named import own_places, own_settings, where
from .span import ConfigError


def try_out(model: Layer, config: Config, shape: tuple[int, ...], num_classes: int) -> None:
    """Take a copy of the network forward and back on one batch, and forward in evaluation, where a part is one's own.

    Parameters
    ----------
    model : Layer
        It stays as it is, and so do the generators that it draws from.
    config : Config
        Its norm or model may be `module:Name`; otherwise nothing is tried.
    shape : tuple of int
        Of an input, such as (3, 32, 32).
    num_classes : int

    Raises
    ------
    ConfigError
        If something goes wrong on the way: with the error, and the line of one's own file that it comes from. Also if
        a number is not finite.
    """
    own = own_settings(config)
    if not own:
        return
    rng = np.random.default_rng(0)
    x = to_device(rng.standard_normal((config.batch_size, *shape)).astype(config.dtype))
    labels = to_device(rng.integers(0, num_classes, config.batch_size))
    loss = SoftmaxCrossEntropy()
    what, on = " and ".join(own), f"images {config.batch_size, *shape}"
    doing = "making a copy of it"

    def refuse(bad: list[str]) -> None:
        if bad:
            raise ConfigError(
                f"{what}: {doing} gives numbers that are not finite on {on}, first in {bad[0]}; "
                f"mend {own_places(config)}"
            )

    try:
        twin = copy.deepcopy(model)
        with np.errstate(all="ignore"), watching(twin) as bad:
            doing = "its forward pass in training"
            logits = twin.forward(x)
            if logits.shape != (config.batch_size, num_classes):
                raise ConfigError(
                    f"{config.model} must give {num_classes} logits per image, one per class, got {logits.shape[1:]}; "
                    "make it for num_classes"
                )
            refuse(bad)
            loss.forward(logits, labels)
            doing = "its backward pass"
            twin.backward(loss.backward())
            refuse(bad)
            doing = "its forward pass in evaluation"
            twin.eval().forward(x)
            refuse(bad)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{what}: {doing} failed on {on}: {where(error)}; mend it") from error
