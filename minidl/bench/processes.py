"""What needs fresh processes: the time of an import, and peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

import minidl
from minidl.backend import default_name
from minidl.bench.cases import Settings, norms_of
from minidl.bench.record import OURS_TO_TORCH, Record, ratio_fields, record
from minidl.bench.timing import Rounds

REPEATS = 3  # of a memory measurement, which hardly varies


def imports(settings: Settings) -> Iterator[Record]:
    """Starting Python with an import, less starting it without, in turn."""
    programs = {"nothing": "pass", "numpy": "import numpy", "minidl": "import minidl"}
    if "torch" in settings.sides:
        programs["torch"] = "import torch"
    taken: dict[str, Rounds] = {name: [] for name in programs}
    for i in range(settings.plan.rounds + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            _python("-c", program)
            if i:  # the first round only fills the caches
                taken[name].append(np.array([time.perf_counter() - start]))
    net = {name: [a - b for a, b in zip(taken[name], taken["nothing"], strict=True)] for name in taken}
    numpy_ms = 1e3 * float(np.median(net["numpy"]))
    yield record("import", "import minidl", None, None, None, net["minidl"], net.get("torch"), numpy_ms=numpy_ms)


def memory(settings: Settings) -> Iterator[Record]:
    """Peak resident memory of a training step of LeNet, over what is resident before it (see `peak`)."""
    for norm in norms_of(settings, "bn", "mn2", "mn6"):
        for n in settings.batches or (128, 512):
            label = f"{norm.name}{norm.modes or ''}"
            net: dict[str, Rounds] = {side: [] for side in settings.sides}
            row = record("memory", "lenet step", norm, n, settings.threads, unit="MiB")
            for _ in range(1 if settings.quick else REPEATS):
                for side in settings.sides:
                    found = _measured(side, label, n, settings.threads)
                    net[side].append(np.array([found["peak_mib"] - found["baseline_mib"]]))
                    row[f"{side}_baseline_mib"] = found["baseline_mib"]
            row |= {f"{side}_mib": float(np.median(values)) for side, values in net.items()}
            if "torch" in net and np.all(np.concatenate(net["minidl"]) > 0):  # a tiny step may fit into the baseline
                row |= ratio_fields(net["torch"], net["minidl"], OURS_TO_TORCH)
            yield row


def _measured(side: str, norm: str, n: int, threads: int) -> Mapping[str, float]:
    out = _python("-m", "minidl.bench.peak", side, norm, str(n), str(threads))
    return json.loads(out)  # type: ignore[no-any-return]


def _python(*arguments: str) -> str:
    """Run Python with this minidl on its path, and this backend; return what it prints."""
    path = [str(Path(minidl.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "MINIDL_BACKEND": default_name()}
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"a process that measures alone failed: {why}")
    return done.stdout
