"""The campaign of SIGKILLs: kill training at random moments, resume, and compare the end with that of an unkilled run.

    python tests/campaigns/kills.py --state DIR --kills 500 --seconds 15

works for so many seconds and keeps in DIR what it has done, so that the same command goes on. Each round takes the
next of the settings below, trains it in a process that is killed at a random moment and started again, until one
comes to its end; then the last checkpoint and the log without times must be, byte for byte, those of an undisturbed
run. Most processes are forked from this one, which has everything imported; every eighth round starts Python anew.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))

from tiny_run import make_tiny, result, tiny_config, tiny_task

from minidl import Conv2d, Dropout, GlobalAvgPool2d, Linear, MaxPool2d, ReLU, Residual, Sequential
from minidl.backend import why_no_numba
from minidl.models import MODELS
from minidl.train import Config, Trainer, plots

UPDATES = 80


def make_residual(num_classes, in_channels, norm, rng, dtype):
    """Build a residual network: a strided convolution, two residual branches with norms, dropout."""

    def conv(c, o):
        return [Conv2d(c, o, 3, padding=1, rng=rng, dtype=dtype), *([norm(o, rng)] if norm else [])]

    def block():
        return Residual(Sequential(*conv(6, 6), ReLU(), *conv(6, 6)))

    return Sequential(
        MaxPool2d(4), *conv(in_channels, 6), ReLU(), block(), ReLU(), Dropout(0.2), block(), ReLU(),
        GlobalAvgPool2d(), Dropout(0.25), Linear(6, num_classes, rng=rng, dtype=dtype),
    )  # fmt: skip


NETWORKS = {"tiny": make_tiny, "residual": make_residual}
SETTINGS = [
    {"norm": norm, "model": model, "backend": backend, "threads": 1 + (turn + len(norm)) % 2}
    for turn, (model, backend) in enumerate((m, b) for m in NETWORKS for b in ("numpy", "numba"))
    for norm in ("mn", "bn", "gn", "ln", "in", "mgn", "none")
]


def settings_here():
    """Return the settings whose backend is usable."""
    return [each for each in SETTINGS if each["backend"] == "numpy" or why_no_numba() is None]


def train(settings, folder):
    """Train to the end, in a new folder or where it stopped."""
    MODELS.update(NETWORKS)
    plots.draw_run = lambda *args: None
    own = {"modes": 3 if settings["norm"] in ("mn", "mgn") else Config().modes}
    if settings["norm"] == "gn":
        own["groups"] = 1  # divides every number of channels
    config = tiny_config(**settings, **own, length=f"{UPDATES}u", eval_every=7, checkpoint_every=3, lr_drops=("1/2",))
    resume = (folder / "config.json").exists()
    Trainer(config, folder, resume=resume, quiet=True, task=tiny_task()).run()


def forked(work):
    """Run a function in a child process; return its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


class Campaign:
    """What was done, in `rounds.jsonl`; the results of undisturbed runs, beside it."""

    def __init__(self, state):
        self.state = Path(state)
        self.state.mkdir(parents=True, exist_ok=True)
        self.log = self.state / "rounds.jsonl"
        self.rounds = (
            [json.loads(line) for line in self.log.read_text("utf-8").splitlines()] if self.log.exists() else []
        )
        self.random = random.Random(len(self.rounds))

    def totals(self):
        """Return the counts so far."""
        done = self.rounds
        return {
            "kills": sum(one["kills"] for one in done),
            "kills_within_a_write": sum(one["within_a_write"] for one in done),
            "ends": len(done),
            "identical_ends": sum(one["identical"] for one in done),
            "settings": len({json.dumps(one["settings"], sort_keys=True) for one in done}),
        }

    def is_done(self, kills):
        """Tell whether there were so many kills, and each setting had its turn."""
        return self.totals()["kills"] >= kills and len(self.rounds) >= len(settings_here())

    def in_peace(self, settings):
        """Return the result without kills, and the seconds that it took in a forked process."""
        kept = self.state / ("-".join(map(str, settings.values())) + ".json")
        if not kept.exists():
            folder = self.state / "in-peace"
            shutil.rmtree(folder, ignore_errors=True)
            began = time.monotonic()
            child = forked(partial(train, settings, folder))
            if os.waitpid(child, 0)[1]:
                raise SystemExit(f"the undisturbed run failed: {settings}")
            checkpoint, log = result(folder)
            kept.write_text(json.dumps({"seconds": time.monotonic() - began, "end": [checkpoint.hex(), log]}))
        content = json.loads(kept.read_text("utf-8"))
        return content["end"], content["seconds"]

    def round(self):
        """Kill one run until a process comes to its end."""
        usable = settings_here()
        settings = usable[len(self.rounds) % len(usable)]
        wanted, seconds = self.in_peace(settings)
        folder = self.state / "run"
        shutil.rmtree(folder, ignore_errors=True)
        fresh = len(self.rounds) % 8 == 7
        tries = kills = within = 0
        while True:
            if fresh:
                command = [sys.executable, __file__, "--train", json.dumps(settings), str(folder)]
                child = subprocess.Popen(command).pid
            else:
                child = forked(partial(train, settings, folder))
            tries += 1
            left = set(folder.rglob("*.tmp"))
            # later and later, so that on a busy machine too a process gets beyond its start
            status = self.kill(child, self.random.uniform(0, (0.35 + 0.05 * tries) * seconds + (1.5 if fresh else 0)))
            if status == -signal.SIGKILL:
                kills += (folder / "config.json").exists()  # else training had not begun
                within += bool(set(folder.rglob("*.tmp")) - left)
                continue
            if status:
                raise SystemExit(f"a run failed after {kills} kills: {settings}, kept in {folder}")
            break
        checkpoint, log = result(folder)
        identical = [checkpoint.hex(), log] == wanted
        one = {"settings": settings, "kills": kills, "within_a_write": within, "identical": identical, "fresh": fresh}
        with self.log.open("a") as file:
            file.write(json.dumps(one) + "\n")
        self.rounds.append(one)
        if not identical:
            raise SystemExit(f"another end after {kills} kills: {settings}, kept in {folder}")

    @staticmethod
    def kill(child, seconds):
        """Kill a child after so many seconds, unless it ends before; return its exit status, negative for a signal."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            number, status = os.waitpid(child, os.WNOHANG)
            if number:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main():
    """Go on with the campaign."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--state")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        train(json.loads(args.train[0]), Path(args.train[1]))
        return
    campaign = Campaign(args.state)
    end = time.monotonic() + args.seconds
    while time.monotonic() < end and not campaign.is_done(args.kills):
        campaign.round()
    print(json.dumps(campaign.totals()))


if __name__ == "__main__":
    main()
