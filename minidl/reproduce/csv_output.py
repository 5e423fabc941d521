"""The same results as CSV: one line per cell, and one line per run. Lines with # say where they come from."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from minidl.printable import no_formula
from minidl.reproduce.results import WHEN, Results


def to_csv(rows: Sequence[Mapping[str, Any]], about: Mapping[str, str]) -> str:
    """Return rows of one shape as CSV below "# name: text" lines; floats have six decimals, None is left empty.

    Examples
    --------
    >>> print(to_csv([{"a": 1, "b": None}], {"seeds": "0"}), end="")
    # seeds: 0
    a,b
    1,
    """
    text = io.StringIO()
    for name, line in about.items():
        text.write(f"# {name}: {line}\n")
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writerow({name: no_formula(name) for name in writer.fieldnames})
    for row in rows:
        writer.writerow({name: _cell(x) for name, x in row.items()})
    return text.getvalue()


def _cell(x: Any) -> Any:
    """Return a value as it is written."""
    if isinstance(x, float):
        return round(x, 6)
    return no_formula(x) if isinstance(x, str) else x


def cell_rows(results: Results) -> list[dict[str, Any]]:
    """Return what the Markdown page has, one line per cell."""
    rows = []
    for cell in results.cells:
        row: dict[str, Any] = {"row": cell.row, "norm": cell.column, "seeds": len(cell.runs)}
        if results.table.paper:
            mean, std = cell.paper or (None, None)
            row |= {"paper_best_mean": mean, "paper_best_std": std}
        for when in WHEN:
            row |= _mean_std(when, cell.sample(when))
        for baseline, columns in results.table.compared.items():
            for when in WHEN:
                found = results.against(baseline, cell, when) if cell.column in columns else None
                low, high = (found and found.interval) or (None, None)
                name = f"minus_{re.sub(r'[^a-z0-9]+', '_', baseline.lower())}_{when}"
                row |= {f"{name}_mean": found and found.mean, f"{name}_low": low, f"{name}_high": high}
        for when in WHEN:
            for source in results.sources:
                row |= _mean_std(f"{when}_{source}", cell.sample(when, source))
        rows.append(row)
    return rows


def run_rows(results: Results) -> list[dict[str, Any]]:
    """Return one line a finished run."""
    rows = []
    for cell in results.cells:
        for seed, run in cell.runs.items():
            result = run.result()
            row: dict[str, Any] = {"row": cell.row, "norm": cell.column, "seed": seed}
            for when in WHEN:
                row |= {f"{when}_epoch": result[when]["epoch"], f"{when}_error": result[when]["test_error"]}
                row |= {f"{when}_{source}": result[when]["test_errors"][source] for source in results.sources}
            row |= {"parameters": result["parameters"], "seconds": result["seconds"], "folder": run.path.name}
            rows.append(row)
    return rows


def _mean_std(name: str, found: Any) -> dict[str, Any]:
    return {f"{name}_mean": found and found.mean, f"{name}_std": found and found.std}
