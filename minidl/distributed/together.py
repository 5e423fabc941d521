"""A rank's share in the training loop: its weight in the loss, its gradients and its running statistics."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import Array, default_module, to_device, to_host
from minidl.data.part import part
from minidl.distributed.communicator import Communicator, Pending
from minidl.distributed.draws import PartOfDraws
from minidl.distributed.gradients import GradientSums
from minidl.distributed.synchronise import synchronise
from minidl.layers.base import Layer
from minidl.layers.dropout import Dropout


class Together:
    """What the ranks of a run do together in one update; for a process alone nothing.

    The loss of a batch of N is L = sum_r (n_r/N) L_r, with L_r the mean over the n_r samples of rank r. So each rank
    multiplies its loss's gradient by n_r/N, and gradients are sums over the ranks, whatever the parts.

    Where norms are not synchronised, each rank's running statistics move to its own part's; their mean over the ranks,
    weighted by n_r/N, travels with the loss while backward goes on, so that all ranks hold the same after an update.

    Parameters
    ----------
    across : Communicator
    model, optimiser
    batch_size : int
        N.
    sync_norm : bool
        Whether norms take the statistics of the whole batch.
    """

    def __init__(self, across: Communicator, model: Layer, optimiser: Any, batch_size: int, sync_norm: bool) -> None:
        self.across, self._model = across, model
        self.arrays = across.on_device()
        self._alone = across.size == 1
        which = part(batch_size, across.rank, across.size)
        self.share = (which.stop - which.start) / batch_size
        self._row: Array = None
        self._travelling: Pending | None = None
        if self._alone:
            return
        self._gradients = GradientSums(model, optimiser, self.arrays)
        self._buffers = [] if sync_norm else [b for _, layer in model.named_layers() for b in layer.buffers.values()]
        self._buffers = [buffer for buffer in self._buffers if buffer.dtype.kind == "f"]
        if sync_norm:
            synchronise(model, self.arrays)
        for _, layer in model.named_layers():
            if isinstance(layer, Dropout):
                layer.rng = PartOfDraws(layer.rng, batch_size, which)  # type: ignore[assignment]

    def after_forward(self, loss: Array) -> None:
        """Send the loss and the running statistics."""
        if self._alone:
            return
        xp = default_module()
        row = [xp.asarray(loss, dtype="float64").reshape(1)]
        row += [buffer.astype("float64").reshape(-1) for buffer in self._buffers]
        self._row = xp.concatenate(row) * self.share
        self._travelling = self.arrays.start_total(self._row)

    def cotangent(self, dlogits: Array) -> Array:
        """Return the gradient that backward begins with: of the loss of the whole batch. Gradients travel from now."""
        if self._alone:
            return dlogits
        self._gradients.begin()
        return dlogits * dlogits.dtype.type(self.share)

    def after_backward(self, loss: Array) -> Array:
        """Wait for what travels; return the loss of the whole batch."""
        if self._alone:
            return loss
        self._gradients.finish()
        assert self._travelling is not None
        self._travelling.wait()
        start = 1
        for buffer in self._buffers:
            buffer[...] = self._row[start : start + buffer.size].reshape(buffer.shape)
            start += buffer.size
        return self._row[0].copy()

    def part_ways(self, *batch: Array) -> tuple[Array, ...]:
        """Return the whole batch on rank 0, None elsewhere: one process looks into the network, unsynchronised.

        All ranks call this when a number of an update is not finite.
        """
        if self._alone or batch[0] is None:
            return batch
        synchronise(self._model, None)
        parts = self.across.gather([to_host(each) for each in batch])
        if parts is None:
            return (None,) * len(batch)
        return tuple(to_device(np.concatenate(each), like=batch[0]) for each in zip(*parts, strict=True))
