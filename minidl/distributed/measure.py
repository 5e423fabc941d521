"""What an update on several processes costs: `mpiexec -n 2 python -m mpi4py -m minidl.distributed.measure lenet`.

For each network one line: the time of an update where each rank trains its part alone, where gradients and running
statistics travel, and where norms are synchronised besides; with the messages and bytes that a rank sends in one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from minidl.backend import NAMES, of_commands, resolve, use_backend
from minidl.command_line import Parser, say
from minidl.data.part import part
from minidl.distributed.communicator import ALONE, Communicator
from minidl.distributed.launch import communicator
from minidl.distributed.together import Together
from minidl.losses import SoftmaxCrossEntropy
from minidl.models import MODELS
from minidl.norm import norm_factory
from minidl.optim import SGD
from minidl.parallel import threads

KINDS = ("alone", "gradients", "sync-norm")


@dataclass(frozen=True)
class Measured:
    """An update of one kind on one rank: the median time, and what the rank gave to collective calls."""

    network: str
    norm: str
    kind: str
    ranks: int
    batch_size: int
    seconds: float
    messages: int
    bytes: int


def image_size(network: str) -> int:
    """Return the side of a network's images."""
    return 224 if network == "resnet18" else 32


class Updates:
    """One rank's updates of a network on random images."""

    def __init__(self, network: str, norm: str, kind: str, batch_size: int, world: Communicator) -> None:
        rng = np.random.default_rng(0)
        classes = {"lenet": 40, "resnet18": 1000}.get(network, 10)
        self.model = MODELS[network](num_classes=classes, norm=norm_factory(norm), rng=rng, dtype="float32")
        self.optimiser = SGD(self.model, 1e-3, momentum=0.9)
        which = part(batch_size, world.rank, world.size)
        size = image_size(network)
        self.x = rng.standard_normal((which.stop - which.start, 3, size, size), dtype=np.float32)
        self.labels = rng.integers(0, classes, len(self.x))
        self.loss = SoftmaxCrossEntropy()
        across = ALONE if kind == "alone" else world
        self.together = Together(across, self.model, self.optimiser, batch_size, kind == "sync-norm")

    def one(self) -> None:
        """Take one."""
        loss = self.loss.forward(self.model.forward(self.x), self.labels)
        self.together.after_forward(loss)
        self.optimiser.zero_grad()
        self.model.backward(self.together.cotangent(self.loss.backward()))
        self.together.after_backward(loss)
        self.optimiser.step()


def measure(network: str, norm: str, batch_size: int, rounds: int, world: Communicator) -> list[Measured]:
    """Return an update of each kind; the kinds take turns, so that what else the machine does falls on all alike.

    Parameters
    ----------
    network, norm : str
        As `python -m minidl.train --list` prints them.
    batch_size : int
        Of all ranks together.
    rounds : int
        Updates of each kind, after two that are not counted.
    world : Communicator
    """
    updates = [Updates(network, norm, kind, batch_size, world) for kind in KINDS]
    seconds: list[list[float]] = [[] for _ in KINDS]
    sent = [(0, 0)] * len(KINDS)
    for _ in range(rounds + 2):
        for i, each in enumerate(updates):
            world.barrier()
            before, start = (world.messages, world.bytes), time.perf_counter()
            each.one()
            seconds[i].append(time.perf_counter() - start)
            sent[i] = world.messages - before[0], world.bytes - before[1]
    return [
        Measured(network, norm, kind, world.size, batch_size, float(np.median(seconds[i][2:])), *sent[i])
        for i, kind in enumerate(KINDS)
    ]


def describe(found: Sequence[Measured]) -> str:
    """Return a row of a table."""
    alone, gradients, synchronised = found
    return (
        f"| {alone.network} | {alone.norm} | {alone.ranks} | {alone.batch_size} | "
        + " | ".join(f"{1e3 * each.seconds:.1f}" for each in found)
        + f" | {gradients.messages} | {gradients.bytes} | {synchronised.messages} | {synchronised.bytes} |"
    )


HEAD = (
    "| network | norm | ranks | N | alone (ms) | gradients (ms) | sync-norm (ms) | messages | bytes | "
    "messages, sync | bytes, sync |\n|" + "---|" * 11
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and return its exit status."""
    parser = Parser(prog="python -m minidl.distributed.measure", description=__doc__)
    parser.add_argument("networks", nargs="+", choices=MODELS, metavar="NETWORK", help=f"some of: {', '.join(MODELS)}")
    parser.add_argument("--norm", nargs="+", default=["bn", "mn"], help="norms (bn mn)")
    parser.add_argument("--batch-size", type=int, default=128, metavar="N", help="images of all ranks together (128)")
    parser.add_argument("--rounds", type=int, default=20, help="updates of each kind (20)")
    parser.add_argument("--backend", choices=NAMES, help="where to compute (MINIDL_BACKEND, else auto)")
    parser.add_argument("--json", action="store_true", help="print JSON, a line for each kind of update")
    args = parser.parse_args(argv)
    world = communicator("minidl.distributed.measure")
    backend = world.of_first(lambda: resolve(args.backend or of_commands()))
    if world.rank == 0 and not args.json:
        say(HEAD)
    with use_backend(backend), threads(1):
        for network in args.networks:
            for norm in args.norm:
                found = measure(network, norm, args.batch_size, args.rounds, world)
                if world.rank == 0:
                    say(_lines(found) if args.json else describe(found))
    return 0


def _lines(found: Sequence[Measured]) -> str:
    import json

    rows: list[dict[str, Any]] = [asdict(each) for each in found]
    return "\n".join(map(json.dumps, rows))


if __name__ == "__main__":
    sys.exit(main())
