"""The number of modes of each norm, found while a network trains: see docs/how-many-modes.md.

`AutoModes` is told of every update. Three ways, one of which it is given by name:

    entropy   begin with many modes; a penalty on the entropy of the mean gate lets some fall out of use
    prune     begin with many modes, and no penalty
    split     begin with one; split it where that lowers the loss of a held-out half of a batch

In each of them a mode that has fallen out of use is taken out: `minidl.auto.prune`.
"""

from minidl.auto.controller import WAYS, AutoModes

__all__ = ["WAYS", "AutoModes"]
