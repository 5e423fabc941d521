"""Batch and mode normalization by the statistics of the whole batch, not of a rank's part of it."""

from __future__ import annotations

from minidl.distributed.communicator import Communicator
from minidl.layers.base import Layer
from minidl.norm.base import BatchStatistics
from minidl.norm.mode import ModeNorm


def synchronise(model: Layer, across: Communicator | None) -> None:
    """Let the norms of a network with running statistics take each batch's over all ranks.

    Only sums travel, in float64: forward, each rank gives its count, means and variances of channels, (2C + 1) numbers,
    for MN of each mode, K(2C + 1); backward 2C + 1, for MN 2KC. GN, LN, IN and MGN normalise each sample by itself and
    need nothing.

    Parameters
    ----------
    model : Layer
    across : Communicator or None
        Its ranks must all run each forward and backward in training, each with at least one sample. None separates the
        ranks again.

    Raises
    ------
    ValueError
        If a layer with running statistics does not derive from `BatchStatistics`, or the gates of an MN depend on the
        batch in another way too: these cannot be synchronised.

    Examples
    --------
    >>> from minidl import BatchNorm
    >>> from minidl.distributed import ALONE
    >>> norm = BatchNorm(3)
    >>> synchronise(norm, ALONE)
    >>> norm.across is ALONE
    True
    """
    for path, layer in model.named_layers():
        if isinstance(layer, ModeNorm) and across is not None and (layer.gate_input != "plain" or layer.gate_penalty):
            raise ValueError(
                f"synchronise: gates must see plain means, without a penalty, got {path} with an input that is "
                f"{layer.gate_input} and a penalty of {layer.gate_penalty}; leave out --sync-norm, or --gate-input"
            )
        if isinstance(layer, BatchStatistics):
            layer.across = across
        elif layer.buffers and across is not None:
            raise ValueError(
                f"synchronise: layers with running statistics must derive from BatchStatistics, got {path} "
                f"({type(layer).__name__}); leave out --sync-norm, or derive it from BatchNorm"
            )
