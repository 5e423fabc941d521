"""The time of an update on R ranks against bandwidth and latency: `python -m minidl.distributed.simulate resnet18`.

What is simulated is what `minidl.distributed` does: forward, with a blocking exchange at each synchronised norm;
backward, last layer first, with another; a bucket of gradients starts its way when its layers are done, and buckets
travel one after the other; the update waits for the last.

Assumptions:

- Every rank is as fast as the others, and computes n images in n times the time of one.
- Backward takes twice as long as forward, and each layer's share is that of its multiplications.
- A message of s bytes takes L + s/B from any rank to any other, at all times: full bisection, no other traffic.
- A sum of s bytes over R ranks takes the least of log2 R · (L + s/B), doubling distances, and
  2 log2 R · L + 2 (R − 1)/R · s/B, a reduce-scatter and an allgather.
- Gathering s bytes from each of R ranks takes log2 R · L + (R − 1) s/B.
- What travels does not slow what is computed, and the library moves it all the time.
- Data is there when it is needed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minidl.command_line import Parser, say
from minidl.distributed.gradients import BUCKET
from minidl.distributed.measure import image_size
from minidl.layers.base import Layer
from minidl.models import MODELS
from minidl.norm import norm_factory
from minidl.norm.base import BatchStatistics
from minidl.norm.mode import ModeNorm

DOUBLE = 8  # bytes


@dataclass(frozen=True)
class Stage:
    """A layer with parameters: its share of the time, the bytes of its gradients, of its norm's two exchanges."""

    share: float
    gradient: int
    forward: int
    backward: int
    running: int


@dataclass(frozen=True)
class Network:
    """Layers that carry parameters, in the order of forward.

    Parameters
    ----------
    name : str
    stages : tuple of Stage
    """

    name: str
    stages: tuple[Stage, ...]

    @property
    def gradient(self) -> int:
        """Bytes of all gradients."""
        return sum(stage.gradient for stage in self.stages)

    @property
    def exchanged(self) -> int:
        """Bytes that a rank gives to the exchanges of synchronised norms."""
        return sum(stage.forward + stage.backward for stage in self.stages)

    @property
    def statistics(self) -> int:
        """Bytes of the message with the loss and the running statistics, where norms are not synchronised."""
        return DOUBLE + sum(stage.running for stage in self.stages)


@dataclass(frozen=True)
class Link:
    """Between any two ranks.

    Parameters
    ----------
    bandwidth : float
        Bytes a second.
    latency : float
        Seconds.
    """

    bandwidth: float
    latency: float

    def total(self, size: float, ranks: int) -> float:
        """Return the seconds of a sum of `size` bytes over the ranks.

        Examples
        --------
        >>> Link(bandwidth=1e9, latency=1e-5).total(8, 2) < 1.1e-5
        True
        """
        if ranks == 1:
            return 0.0
        rounds = math.ceil(math.log2(ranks))
        doubling = rounds * (self.latency + size / self.bandwidth)
        scattered = 2 * rounds * self.latency + 2 * (ranks - 1) / ranks * size / self.bandwidth
        return min(doubling, scattered)

    def each(self, size: float, ranks: int) -> float:
        """Return the seconds until all ranks have the `size` bytes of each."""
        if ranks == 1:
            return 0.0
        return math.ceil(math.log2(ranks)) * self.latency + (ranks - 1) * size / self.bandwidth


def network(name: str, norm: str = "bn", modes: int = 2) -> Network:
    """Return what travels in an update of a network, counted from the network itself, with 32-bit gradients."""
    model: Layer = MODELS[name](
        num_classes={"lenet": 40, "resnet18": 1000}.get(name, 10),
        norm=norm_factory(norm, modes=modes),
        rng=np.random.default_rng(0),
    )
    work: dict[int, int] = {}
    layers = [layer for _, layer in model.named_layers() if layer.params]
    for layer in layers:
        _count_multiplications(layer, work)
    size = 64 if image_size(name) == 224 else 32  # shares hardly depend on it, the time to find them does
    model.eval().forward(np.zeros((1, 3, size, size), np.float32))
    in_all = sum(work.values())
    found = []
    for layer in layers:
        sums = 0
        if isinstance(layer, BatchStatistics):
            sums = layer.num_features * (layer.num_modes if isinstance(layer, ModeNorm) else 1)
        counts = layer.num_modes if isinstance(layer, ModeNorm) else 1
        of_bn = 0 if isinstance(layer, ModeNorm) else 1
        found.append(
            Stage(
                work.get(id(layer), 0) / in_all,
                sum(4 * param.size for param in layer.params.values()),
                DOUBLE * (2 * sums + counts) if sums else 0,
                DOUBLE * (2 * sums + of_bn) if sums else 0,
                DOUBLE * 2 * sums,
            )
        )
    return Network(name, tuple(found))


def _count_multiplications(layer: Layer, work: dict[int, int]) -> None:
    """Let a layer's next forward note its multiplications."""
    forward = layer.forward

    def counted(x: np.ndarray) -> np.ndarray:
        y: np.ndarray = forward(x)
        weight = layer.params["weight"]
        work[id(layer)] = weight.size * math.prod(y.shape[2:]) if weight.ndim > 1 and weight.shape[0] > 1 else y.size
        if isinstance(layer, BatchStatistics):
            work[id(layer)] = y.size
        return y

    vars(layer)["forward"] = counted


def update(
    net: Network, seconds: float, ranks: int, link: Link, sync_norm: bool = False, bucket: int = BUCKET
) -> float:
    """Return the seconds of an update.

    Parameters
    ----------
    net : Network
    seconds : float
        Of forward and backward of a rank's part of the batch, alone.
    ranks : int
    link : Link
    sync_norm : bool
    bucket : int
        Bytes of gradients that travel together, at least.

    Examples
    --------
    >>> round(update(network("lenet"), 0.01, 1, Link(1e9, 1e-5)), 9)
    0.01
    """
    now = 0.0
    for stage in net.stages:
        now += seconds / 3 * stage.share
        if sync_norm and stage.forward:
            now += link.each(stage.forward, ranks)
    free = now  # when what travels has arrived
    if not sync_norm:
        free += link.total(net.statistics, ranks)
    waiting = 0
    for i, stage in enumerate(reversed(net.stages)):
        now += 2 * seconds / 3 * stage.share
        if sync_norm and stage.backward:
            now += link.total(stage.backward, ranks)
        waiting += stage.gradient
        if waiting >= bucket or i == len(net.stages) - 1:
            free = max(free, now) + link.total(waiting, ranks)
            waiting = 0
    return max(now, free) + link.total(DOUBLE, ranks)  # the last: whether anybody was asked to stop


def table(net: Network, images_per_second: float, images: int, links: Sequence[Link], sync_norm: bool) -> str:
    """Return a table of efficiencies: the share of the time that is computing, for each link and number of ranks."""
    seconds = images / images_per_second
    counts = (2, 8, 64, 1024)
    head = f"| bandwidth, latency | {' | '.join(f'{ranks} ranks' for ranks in counts)} |\n|---|" + "---|" * len(counts)
    rows = [
        f"| {8e-9 * link.bandwidth:g} Gbit/s, {1e6 * link.latency:g} µs | "
        + " | ".join(f"{100 * seconds / update(net, seconds, ranks, link, sync_norm):.0f} %" for ranks in counts)
        + " |"
        for link in links
    ]
    return "\n".join([head, *rows])


LINKS = tuple(
    Link(gigabits * 1e9 / 8, latency) for gigabits, latency in ((1, 50e-6), (10, 20e-6), (100, 3e-6), (400, 3e-6))
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and return its exit status."""
    parser = Parser(
        prog="python -m minidl.distributed.simulate",
        description="Simulate the time of an update on several ranks; the module says what is assumed.",
    )
    parser.add_argument("network", choices=MODELS, metavar="NETWORK", help=f"one of: {', '.join(MODELS)}")
    parser.add_argument("--norm", default="bn", choices=("bn", "mn"), help="bn or mn, of two modes (bn)")
    parser.add_argument("--images", type=int, default=32, metavar="N", help="images of each rank (32)")
    parser.add_argument("--speed", type=float, required=True, metavar="S", help="images a second of a rank alone")
    args = parser.parse_args(argv)
    net = network(args.network, args.norm)
    say(f"{args.network}, {args.norm}: {net.gradient} bytes of gradients, {net.statistics} of running statistics")
    say(f"and the loss; synchronised norms exchange {net.exchanged} bytes instead of the latter\n")
    for sync_norm in (False, True):
        say(f"{'synchronised' if sync_norm else 'local'} statistics, share of the time that is computing:\n")
        say(table(net, args.speed, args.images, LINKS, sync_norm) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
