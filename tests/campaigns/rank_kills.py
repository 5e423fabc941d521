"""The campaign of SIGKILLs on several ranks: kill one rank at a random moment, resume, and compare the end.

    python tests/campaigns/rank_kills.py --state DIR --kills 50 --seconds 600

trains on two and three ranks. At a random moment one of them is killed, which must end the whole job with a status
that is not 0; the same command with --resume goes on, until a job comes to its end. Its last checkpoint must be, byte
for byte, that of an undisturbed job. DIR keeps what was done, so that the same command goes on.
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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "distributed"))

from mpi_runs import command, environment, train_words

SETTINGS = [(2, ("--sync-norm",)), (2, ("--norm", "mn")), (3, ("--norm", "mn", "--sync-norm")), (2, ("--norm", "mgn"))]
UPDATES = "200"


def start(ranks, folder, *words):
    """Start a job into this folder, or go on with the one there."""
    resume = ["--resume"] if (folder / "config.json").exists() else []
    given = [*train_words(folder, *words), "--updates", UPDATES, "--augment", "flip-crop", *resume]
    with (folder.parent / "log.txt").open("a") as log:
        return subprocess.Popen(command(ranks, *given), env=environment(), stdout=log, stderr=log)


def end_of(folder):
    """Return the bytes of the last checkpoint."""
    return max((folder / "checkpoints").iterdir()).read_bytes()


def ranks_of(job):
    """Return the processes that train, those of no child of their own: mpiexec and its proxies stand above them."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text("utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, look = [], [job.pid]
    while look:
        below = children.get(look.pop(), [])
        look += below
        found += [one for one in below if b"minidl.train" in _words(one) and b"mpiexec" not in _words(one)]
    return [one for one in found if b"hydra" not in _words(one)]


def _words(process):
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def one_round(state, number, chance):
    """Kill one run's ranks until a job comes to its end; return what happened."""
    ranks, words = SETTINGS[number % len(SETTINGS)]
    peace = state / f"peace-{number % len(SETTINGS)}"
    began = time.monotonic()
    if not (peace / "summary.json").exists():
        shutil.rmtree(peace, ignore_errors=True)
        if start(ranks, peace, *words).wait():
            raise SystemExit(f"the undisturbed job failed: {state}/log.txt")
    kept = state / f"seconds-{number % len(SETTINGS)}"
    if not kept.exists():
        kept.write_text(str(time.monotonic() - began))
    seconds = float(kept.read_text("utf-8"))
    folder = state / "run"
    shutil.rmtree(folder, ignore_errors=True)
    kills = tries = 0
    while True:
        job, tries = start(ranks, folder, *words), tries + 1
        end = time.monotonic() + chance.uniform(0.3, 1.0) * seconds * (1 + tries / 8)
        while job.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        at_work = ranks_of(job) if job.poll() is None else []
        if at_work:
            os.kill(chance.choice(at_work), signal.SIGKILL)
        status = job.wait(timeout=300)
        if status == 0:
            break
        if not at_work:
            raise SystemExit(f"a job failed by itself after {kills} kills: {words}, {state}/log.txt")
        kills += (folder / "config.json").exists()
    if end_of(folder) != end_of(peace):
        raise SystemExit(f"another end after {kills} kills: {ranks} ranks, {words}, kept in {folder}")
    return {"ranks": ranks, "words": words, "kills": kills}


def main():
    """Go on with the campaign."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=600)
    args = parser.parse_args()
    args.state.mkdir(parents=True, exist_ok=True)
    log, end = args.state / "rounds.jsonl", time.monotonic() + args.seconds
    done = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
    while time.monotonic() < end and sum(one["kills"] for one in done) < args.kills:
        done.append(one_round(args.state, len(done), random.Random(len(done))))
        with log.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
    print(json.dumps({"kills": sum(one["kills"] for one in done), "identical_ends": len(done)}))


if __name__ == "__main__":
    main()
