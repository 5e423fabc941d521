"""What modes cost: the time of a training step of LeNet with BN and with MN for several K, and the parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.bench import minidl_side
from minidl.bench.cases import batch_of, network
from minidl.bench.record import Norm
from minidl.bench.timing import Plan, interleave, median, ratio

BATCH_SIZE = 128
NORMS = ("bn", "mn1", "mn2", "mn4", "mn6", "mn8", "mn16")


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Measure the norms in turn on one thread; return a row for each norm, BN first.

    Parameters
    ----------
    plan : Plan
        How long to measure.

    Returns
    -------
    list of dict
        ``norm``; ``milliseconds``, the median over all calls; ``ratio_to_bn``, the median of the ratios of each round,
        with its quartiles ``ratio_low`` and ``ratio_high``; ``parameters``, the number of trainable ones.
    """
    rng = np.random.default_rng(0)
    x, labels = batch_of(BATCH_SIZE, rng)
    nets = {norm.label: network("lenet", norm, rng) for norm in map(Norm.parse, NORMS)}
    works = {label: minidl_side.step(net, x, labels, num_threads=1) for label, net in nets.items()}
    taken = interleave(works, plan)
    times = {label: taken[label]["step"] for label in nets}
    baseline = next(iter(times.values()))
    rows = []
    for label, net in nets.items():
        middle, low, high = ratio(times[label], baseline)
        milliseconds = 1e3 * median(times[label])
        ratios = {"ratio_to_bn": middle, "ratio_low": low, "ratio_high": high}
        rows.append({"norm": label, "milliseconds": milliseconds, **ratios, "parameters": net.num_params()})
    return rows
