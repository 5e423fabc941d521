"""What modes cost: the time of a training step of LeNet with BN and with MN for several K, and the parameters."""

import os
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np

from minidl.bench import minidl_side
from minidl.bench.record import Norm
from minidl.bench.timing import Plan, Rounds, interleave, median, ratio
from minidl.models import LeNet
from minidl.reproduce import origin
from minidl.reproduce.markdown import grid
from minidl.reproduce.markdown import origin as origin_list
from minidl.reproduce.published import OVERHEAD
from minidl.reproduce.report import write_files
from minidl.reproduce.sheets import to_csv

BATCH_SIZE = 128
NORMS = ("bn", "mn1", "mn2", "mn4", "mn6", "mn8", "mn16")
FULL = Plan(rounds=40)


def write_overhead(folder: Path, command: str, scale: Decimal, stem: str, plan: Plan = FULL) -> tuple[str, list[Path]]:
    """Measure, write Markdown and CSV, and return the table and the files; `scale` shortens the measurement."""
    plan = replace(plan, rounds=max(2, round(plan.rounds * scale)))
    start, loads = time.monotonic(), os.getloadavg() if hasattr(os, "getloadavg") else ()
    norms = [Norm.parse(name) for name in NORMS]
    times, parameters = _measure(norms, plan)
    baseline = times[norms[0].label]
    rows = []
    for norm in norms:
        middle, low, high = ratio(times[norm.label], baseline)
        rows.append(
            {
                "norm": norm.label,
                "milliseconds": 1e3 * median(times[norm.label]),
                "ratio_to_bn": middle,
                "ratio_low": low,
                "ratio_high": high,
                "paper_percent": OVERHEAD.get(norm.label),
                "parameters": parameters[norm.label],
            }
        )
    about = {
        "command": command,
        "measured": f"{plan.rounds} rounds, the norms in turn, N = {BATCH_SIZE}, one thread, images of noise",
        "machine": origin.machine(),
        "load before": ", ".join(f"{load:.1f}" for load in loads) or "unknown",
        "total time": origin.duration(time.monotonic() - start),
        "version": origin.version(commit=origin.git_commit()),
    }
    table = _table(rows)
    warnings = [f"Shortened: {scale} of the full number of rounds."] if scale != 1 else []
    text = (
        "A training step (forward, loss, backward, SGD) of LeNet: median time, median of the rounds' ratios to BN with "
        "their quartiles, trainable parameters. The paper says that MN with K = 6 takes about 5 % more time."
    )
    page = ["# The cost of modes", *(f"**{line}**" for line in warnings), text, table, "## Where it comes from"]
    page.append(origin_list(about))
    files = {f"{stem}.md": ("\n\n".join(page) + "\n").encode(), f"{stem}.csv": to_csv(rows, about).encode()}
    return "\n\n".join([*warnings, table]), write_files(folder, files)


def _measure(norms: list[Norm], plan: Plan) -> tuple[dict[str, Rounds], dict[str, int]]:
    rng = np.random.default_rng(0)
    x, labels = minidl_side.normal((BATCH_SIZE, 3, 32, 32), rng), rng.integers(0, 40, BATCH_SIZE)
    nets = {norm.label: LeNet(40, norm=norm.factory(), rng=rng) for norm in norms}
    works = {label: minidl_side.step(net, x, labels, num_threads=1) for label, net in nets.items()}
    taken = interleave(works, plan)
    return {label: taken[label]["step"] for label in nets}, {label: net.num_params() for label, net in nets.items()}


def _table(rows: list[dict[str, object]]) -> str:
    def added(value: object) -> str:
        return "" if value is None else f"{100 * (float(str(value)) - 1):+.1f} %"

    body = []
    for row in rows:
        paper = row["paper_percent"]
        body.append(
            [
                str(row["norm"]),
                f"{row['milliseconds']:.2f}",
                f"{added(row['ratio_to_bn'])} ({added(row['ratio_low'])} to {added(row['ratio_high'])})",
                f"about +{paper:.0f} %" if paper else "",
                str(row["parameters"]),
            ]
        )
    return grid(["norm", "ms", "over BN (quartiles)", "paper", "parameters"], body)
