"""The campaign of long runs: what a training run holds, and what an update costs, stays flat over many updates.

    python tests/campaigns/steps.py --state DIR --updates 30000

trains each of the settings below in a process of its own, and looks, at thirty marks on the way, at the memory of the
process, at Python's allocated blocks, at minidl's pool of recycled memory and at the processor's time since the mark
before. `shapes` gives a residual network images of a new size at each update. What was found is kept in DIR, a file a
setting, so that the same command goes on.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
sys.path.insert(0, str(Path(__file__).parent))

from kills import make_residual
from tiny_run import tiny_config, tiny_task

from minidl import SGD, SoftmaxCrossEntropy, memory, norm_factory, threads, use_backend
from minidl.backend import why_no_numba
from minidl.models import MODELS
from minidl.train import Trainer, plots

MARKS = 30
SETTINGS = {
    f"{name}-{backend}": {"name": name, "backend": backend}
    for name in ("lenet", "residual", "resnet20", "shapes")
    for backend in ("numpy", "numba")
}
SHARE = {"resnet20": 10}  # a tenth of the updates: one costs as much as ten of the others
MOST_GROWTH = 4 << 20  # bytes, of the last third over the second
MOST_SLOWER = 1.2  # the fastest mark of the last third over that of the second


def settings_here() -> dict[str, dict[str, str]]:
    """Return the settings whose backend is usable."""
    return {key: each for key, each in SETTINGS.items() if each["backend"] == "numpy" or why_no_numba() is None}


def trained(name: str, backend: str, updates: int, marks: int) -> Iterator[None]:
    """Train with `Trainer`, checkpoints and logs included; pause at each mark."""
    MODELS["residual"] = make_residual
    plots.draw_run = lambda *args: None
    every = updates // marks
    given = {
        "lenet": {"model": "lenet", "norm": "mn", "modes": 2},
        "residual": {"model": "residual", "norm": "bn"},
        "resnet20": {"model": "resnet20", "norm": "mn", "modes": 2},
    }[name]
    config = tiny_config(
        **given, backend=backend, length=f"{updates}u", eval_every=every, checkpoint_every=every, log_every=50,
        lr=0.001, lr_drops=(),
    )  # fmt: skip
    trainer = Trainer(config, Path("run"), quiet=True, task=tiny_task())
    for mark in range(marks):
        trainer.run(until=(mark + 1) * every)
        yield


def shapes(backend: str, updates: int, marks: int) -> Iterator[None]:
    """Train a residual network by hand, on images of a new size and batches of a new length each time."""
    rng = np.random.default_rng(0)
    with use_backend(backend), threads(1):
        net = make_residual(4, 3, norm_factory("mn", modes=2), rng, "float32")
        loss, optimiser = SoftmaxCrossEntropy(), SGD(net, lr=0.001, momentum=0.9)
        for _ in range(marks):
            for _ in range(updates // marks):
                n, h, w = (int(k) for k in rng.integers((2, 32, 32), (9, 160, 160)))
                x = rng.random((n, 3, h, w), dtype=np.float32)
                loss.forward(net(x), rng.integers(0, 4, n))
                optimiser.zero_grad()
                net.backward(loss.backward())
                optimiser.step()
            yield


def resident() -> int:
    """Return the bytes of memory that this process has."""
    import resource

    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * resource.getpagesize()


def look(setting: dict[str, str], updates: int, marks: int = MARKS) -> dict[str, list[float]]:
    """Return what was held and spent at each mark."""
    name, backend = setting["name"], setting["backend"]
    steps = shapes(backend, updates, marks) if name == "shapes" else trained(name, backend, updates, marks)
    seen: dict[str, list[float]] = {"resident": [], "blocks": [], "pool": [], "seconds": []}
    began = time.process_time()
    for _ in steps:
        seen["seconds"].append(time.process_time() - began)
        gc.collect()
        seen["resident"].append(resident())
        seen["blocks"].append(sys.getallocatedblocks())
        seen["pool"].append(memory._held)
        began = time.process_time()
    return seen


def summary(seen: dict[str, list[float]]) -> dict[str, float]:
    """Compare the last third of the marks with the second; the first is the start, where caches fill."""
    third = len(seen["seconds"]) // 3
    second, last = slice(third, 2 * third), slice(2 * third, None)
    return {
        "resident_mb": max(seen["resident"]) / 2**20,
        "growth_mb": (max(seen["resident"][last]) - max(seen["resident"][second])) / 2**20,
        "pool_mb": max(seen["pool"]) / 2**20,
        "blocks_a_mark": (seen["blocks"][-1] - seen["blocks"][third]) / (len(seen["blocks"]) - 1 - third),
        "slower": min(seen["seconds"][last]) / min(seen["seconds"][second]),
        "seconds": sum(seen["seconds"]),
    }


def is_flat(found: dict[str, float]) -> bool:
    """Tell whether neither what is held nor what a step costs has grown."""
    return found["growth_mb"] <= MOST_GROWTH / 2**20 and found["slower"] <= MOST_SLOWER


def main() -> None:
    """Go on with the campaign, and print a line a setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--state", required=True, type=Path)
    parser.add_argument("--updates", type=int, default=30000)
    parser.add_argument("--only", choices=SETTINGS, help="this setting alone, in this process")
    args = parser.parse_args()
    least = MARKS * (1 if args.only else max(SHARE.values()))
    if args.updates < least:
        parser.error(f"--updates must be at least {least}, for {MARKS} marks in each setting, got {args.updates}")
    if args.only:
        kept = args.state.resolve() / f"{args.only}-{args.updates}.json"
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            seen = look(SETTINGS[args.only], args.updates)
            os.chdir(kept.parent)
        kept.write_text(json.dumps(seen))
        return
    args.state.mkdir(parents=True, exist_ok=True)
    grown = []
    for key, setting in settings_here().items():
        updates = args.updates // SHARE.get(setting["name"], 1)
        kept = args.state / f"{key}-{updates}.json"
        if not kept.exists():
            command = [sys.executable, __file__, "--state", str(args.state), "--updates", str(updates), "--only", key]
            subprocess.run(command, check=True)
        found = summary(json.loads(kept.read_text("utf-8")))
        print(json.dumps({"setting": key, "updates": updates, **{k: round(v, 3) for k, v in found.items()}}))
        grown += [] if is_flat(found) else [key]
    if grown:
        raise SystemExit(f"not flat: {', '.join(grown)}")


if __name__ == "__main__":
    main()
