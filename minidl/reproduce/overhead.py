"""What modes cost, as `minidl.bench.overhead` measures it, beside what the paper says."""

import os
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from minidl.bench.overhead import BATCH_SIZE, measure
from minidl.bench.timing import Plan
from minidl.reproduce import provenance
from minidl.reproduce.csv_output import to_csv
from minidl.reproduce.markdown import as_list, grid
from minidl.reproduce.published import OVERHEAD
from minidl.reproduce.report import write_files

FULL = Plan(rounds=40)


def overhead_files(stem: str) -> list[str]:
    """Return the names of the files."""
    return [f"{stem}.md", f"{stem}.csv"]


def write_overhead(folder: Path, command: str, scale: Decimal, stem: str, plan: Plan = FULL) -> tuple[str, list[Path]]:
    """Measure, write Markdown and CSV, and return the table and the files; `scale` shortens the measurement."""
    plan = replace(plan, rounds=max(2, round(plan.rounds * scale)))
    start, loads = time.monotonic(), os.getloadavg() if hasattr(os, "getloadavg") else ()
    rows = [_with_paper(row) for row in measure(plan)]
    about = {
        "command": command,
        "measured": f"{plan.rounds} rounds, the norms in turn, N = {BATCH_SIZE}, one thread, images of noise",
        "machine": provenance.machine(),
        "load before": ", ".join(f"{load:.1f}" for load in loads) or "unknown",
        "total time": provenance.duration(time.monotonic() - start),
        "version": provenance.version(commit=provenance.git_commit()),
    }
    table = _table(rows)
    warnings = [f"Shortened: {scale} of the full number of rounds."] if scale != 1 else []
    text = (
        "A training step (forward, loss, backward, SGD) of LeNet: median time, median of the rounds' ratios to BN with "
        "their quartiles, trainable parameters. The paper says that MN with K = 6 takes about 5 % more time."
    )
    page = ["# The cost of modes", *(f"**{line}**" for line in warnings), text, table, "## Where it comes from"]
    page.append(as_list(about))
    contents = [("\n\n".join(page) + "\n").encode(), to_csv(rows, about).encode()]
    files = dict(zip(overhead_files(stem), contents, strict=True))
    return "\n\n".join([*warnings, table]), write_files(folder, files)


def _with_paper(row: dict[str, object]) -> dict[str, object]:
    """Return the row with what the paper says of its norm, before the number of parameters."""
    parameters = {"parameters": row.pop("parameters")}
    return row | {"paper_percent": OVERHEAD.get(str(row["norm"]))} | parameters


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
