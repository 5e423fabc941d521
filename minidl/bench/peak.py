"""Peak memory of a training step, printed by a process of its own: ``python -m minidl.bench.peak SIDE NORM N THREADS``.

A first step on four images brings in all that a library loads or sets up when it is first used. What is resident then
is the baseline; the peak of three steps on N images is read over it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import sys
from pathlib import Path

import numpy as np

from minidl.bench.cases import batch_of, network
from minidl.bench.record import Norm

STATUS = Path("/proc/self/status")


def main(side: str, norm: str, n: str, threads: str) -> None:
    """Print {"baseline_mib", "peak_mib"}."""
    module = importlib.import_module(f"minidl.bench.{side}_side")

    def train(batch: int, steps: int) -> None:
        rng = np.random.default_rng(0)
        net = network("lenet", Norm.parse(norm), rng)
        work = module.step(net, *batch_of(batch, rng), int(threads))
        with work.inside():
            for _ in range(steps):
                work.parts["step"]()

    train(4, 1)
    gc.collect()
    baseline = _restart_peak()
    train(int(n), 3)
    print(json.dumps({"baseline_mib": baseline, "peak_mib": _peak()}))


def _restart_peak() -> float:
    """Let the peak begin anew from what is resident now, where the system can; return that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return _peak()


def _peak() -> float:
    """Return the peak of resident memory in MiB.

    On Linux from the process itself: getrusage also counts what the process held before it became this program.
    """
    if STATUS.exists():
        lines = dict(line.split(":", 1) for line in STATUS.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most / 2**20 if sys.platform == "darwin" else most / 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
