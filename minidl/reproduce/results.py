"""The cells of a table, filled with the finished runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.reproduce.plan import Run, Table
from minidl.reproduce.published import Error
from minidl.reproduce.statistics import Difference, Sample, paired_difference, sample
from minidl.reproduce.store import Data, StoredRun, run_hash

WHEN = ("best", "last")  # the evaluation with the lowest test error, and the one at the end


@dataclass(frozen=True)
class Cell:
    """One norm in one row: what the paper has, if anything, and minidl's finished runs by seed."""

    row: str
    column: str
    paper: Error | None
    runs: Mapping[int, StoredRun]
    field: str = "test_error"  # of an evaluation

    def errors(self, when: str, source: str | None = None) -> dict[int, float]:
        """Return each seed's test error in percent, on all images or on those of one dataset."""
        lines = {seed: run.result()[when] for seed, run in self.runs.items()}
        return {seed: line["test_errors"][source] if source else line[self.field] for seed, line in lines.items()}

    def sample(self, when: str, source: str | None = None) -> Sample | None:
        """Return mean and deviation of `errors`."""
        return sample(list(self.errors(when, source).values()))

    def mode_use(self) -> dict[str, dict[str, Any]]:
        """Return how the modes of each layer are used at the end: means over the seeds, {} without modes.

        The order of the modes means nothing, so each run's usage is sorted before it is averaged. Where the runs end
        with different numbers of modes, what a run lacks counts as 0.
        """
        ends = [run.result()["last"].get("gates", {}) for run in self.runs.values()]
        found = {}
        for layer in ends[0] if ends else ():
            shares = [sorted(end[layer]["usage"], reverse=True) for end in ends]
            most = max(map(len, shares))
            usage = np.mean([share + [0.0] * (most - len(share)) for share in shares], axis=0)
            entropies = {
                name: float(np.mean([end[layer][name] for end in ends])) for name in ("entropy", "sample_entropy")
            }
            found[layer] = {"usage": usage.tolist(), **entropies}
        return found

    def mode_numbers(self) -> dict[str, list[int]]:
        """Return the number of modes that each layer ends with, by seed, of runs that find it themselves."""
        ends = [run.result()["last"].get("modes", {}) for _, run in sorted(self.runs.items())]
        return {layer: [end[layer] for end in ends] for layer in (ends[0] if ends else {})}


class Results:
    """All cells of a table.

    Parameters
    ----------
    table : Table
    planned : sequence of Run
        The runs that the table is made of.
    stored : {hash: StoredRun}
        Those that are there.
    data : Data
        What they were trained on.
    """

    def __init__(self, table: Table, planned: Sequence[Run], stored: Mapping[str, StoredRun], data: Data) -> None:
        self.table = table
        self.seeds = 1 + max(run.seed for run in planned)
        self.sources = list(data["test_images"])
        runs: dict[tuple[str, str], dict[int, StoredRun]] = {}
        for run in planned:
            found = stored.get(run_hash(run.config, data))
            if found is not None and found.summary is not None:
                runs.setdefault((run.row, run.column), {})[run.seed] = found
        self.rows = {
            row: {
                column: Cell(row, column, table.paper.get(row, {}).get(column), runs.get((of, column), {}), field)
                for column in table.columns
            }
            for row in table.rows
            for of, field in [table.measures.get(row, (row, "test_error"))]
        }

    @property
    def cells(self) -> list[Cell]:
        """All cells, row by row."""
        return [cell for row in self.rows.values() for cell in row.values()]

    @property
    def runs(self) -> list[StoredRun]:
        """All finished runs."""
        return [run for cell in self.cells if cell.row not in self.table.measures for run in cell.runs.values()]

    def against(self, baseline: str, cell: Cell, when: str) -> Difference | None:
        """Return how much more error a cell has than the baseline in the same row, seed by seed."""
        return paired_difference(cell.errors(when), self.rows[cell.row][baseline].errors(when))

    def paper_against(self, baseline: str, cell: Cell) -> float | None:
        """Return the same difference of the published means."""
        base = self.rows[cell.row][baseline].paper
        return None if cell.paper is None or base is None else cell.paper[0] - base[0]
