"""A table as Markdown: ours under the paper's, by dataset, against BN, the modes, and where it comes from."""

import math
from collections.abc import Container, Iterable, Iterator, Mapping

from minidl.reproduce.results import WHEN, Cell, Results
from minidl.reproduce.statistics import Difference, Sample

NONE = "–"
LAYERS = (
    "A layer is named by its place in the network, counted from 0: in LeNet layer 1 is the first norm and layer 5 the "
    "second."
)


def table_markdown(results: Results, warnings: Iterable[str], about: Mapping[str, str]) -> str:
    """Return the whole page."""
    beside = ", minidl beside the paper" if results.table.paper else ""
    parts = [f"# {results.table.title}{beside}", *(f"**{line}**" for line in warnings)]
    parts.append(
        "Test error in percent: mean ± sample standard deviation over the seeds. *Best* is each run's evaluation with "
        "the lowest test error, chosen on the test set as in the paper; *last* is the one at the end of training."
    )
    parts += main_tables(results)
    if len(results.sources) > 1:
        parts += ["## By dataset", "Test error in percent of the best evaluation.", _by_dataset(results)]
    for baseline, columns in results.table.compared.items():
        parts += [
            f"## Against {baseline}",
            f"Error minus that of {baseline} with the same seed: mean [95 % confidence interval, Student's t] over the "
            f"seeds that both have. Below zero is better than {baseline}.",
            _against(baseline, columns, results),
        ]
    if modes := list(_modes(results)):
        parts += [
            "## Use of the modes",
            "At the end of training, over the test set: the mean gate of each mode (sorted in each run, then averaged "
            "over the seeds), the entropy of these, and the mean entropy of a single sample's gates. Entropies are "
            "divided by ln K: 1 is even use. A sample entropy near 0 means that each sample chooses one mode. "
            + LAYERS,
            grid(["", "norm", "layer", "mean gates", "entropy", "sample entropy"], modes),
        ]
    if numbers := list(_numbers(results)):
        parts += [
            "## Modes at the end",
            "The number of modes of each layer at the end of training, one number per seed, in their order. In the "
            "table above, K is the largest of all seeds; a mode that a run does not have counts there as not used.",
            grid(["", "norm", "layer", "modes", "mean"], numbers),
        ]
    parts += ["## Where it comes from", as_list(about)]
    return "\n\n".join(parts) + "\n"


def main_tables(results: Results) -> list[str]:
    """Return a table for each row: the paper's numbers, ours, the seeds; for ours alone, one table of the best."""
    if results.table.paper:
        return [_beside_paper(row, list(cells.values())) for row, cells in results.rows.items()]
    found = []
    for when in WHEN:
        rows = [[row, *(mean_std(cell.sample(when)) for cell in cells.values())] for row, cells in results.rows.items()]
        found.append(grid([f"{when} (seeds: {_seeds(results)})", *results.table.columns], rows))
    return found


def _beside_paper(row: str, cells: list[Cell]) -> str:
    rows = [["paper, best", *(mean_std(Sample(5, *cell.paper) if cell.paper else None) for cell in cells)]]
    rows += [[f"minidl, {when}", *(mean_std(cell.sample(when)) for cell in cells)] for when in WHEN]
    rows += [["seeds", *(str(len(cell.runs)) for cell in cells)]]
    return grid([row, *(cell.column for cell in cells)], rows)


def _seeds(results: Results) -> str:
    fewest, most = (limit(len(cell.runs) for cell in results.cells) for limit in (min, max))
    return str(most) if fewest == most else f"{fewest} to {most}"


def _by_dataset(results: Results) -> str:
    rows = [
        [*_name(cell), *(mean_std(cell.sample("best", source)) for source in results.sources)] for cell in results.cells
    ]
    return grid(["", "norm", *results.sources], rows)


def _against(baseline: str, columns: Container[str], results: Results) -> str:
    rows = []
    for cell in results.cells:
        if cell.column in columns:
            best, last = (results.against(baseline, cell, when) for when in WHEN)
            published = results.paper_against(baseline, cell)
            paper = [] if published is None else [f"{published:+.2f}"]
            rows += [[*_name(cell), str(best.n if best else 0), _interval(best), _interval(last), *paper]]
    head = ["", "norm", "seeds", "minidl, best", "minidl, last"]
    return grid([*head, "paper, difference of means"] if results.table.paper else head, rows)


def _modes(results: Results) -> Iterator[list[str]]:
    for cell in results.cells:
        for layer, use in cell.mode_use().items():
            shares = " ".join(f"{share:.2f}" for share in use["usage"])
            even = math.log(len(use["usage"]))  # 0 for the one mode of K = 1
            entropies = [f"{use[name] / even:.2f}" if even else NONE for name in ("entropy", "sample_entropy")]
            yield [*_name(cell), layer, shares, *entropies]


def _numbers(results: Results) -> Iterator[list[str]]:
    for cell in results.cells:
        for layer, numbers in cell.mode_numbers().items():
            yield [*_name(cell), layer, " ".join(map(str, numbers)), f"{sum(numbers) / len(numbers):.1f}"]


def _name(cell: Cell) -> list[str]:
    return [cell.row, cell.column]


def mean_std(found: Sample | None) -> str:
    """Return such as "26.91 ± 1.08".

    Examples
    --------
    >>> mean_std(Sample(2, 26.914, 1.08)), mean_std(Sample(1, 26.914, None)), mean_std(None)
    ('26.91 ± 1.08', '26.91', '–')
    """
    if found is None:
        return NONE
    return f"{found.mean:.2f}" + (f" ± {found.std:.2f}" if found.std is not None else "")


def _interval(found: Difference | None) -> str:
    if found is None:
        return NONE
    return f"{found.mean:+.2f}" + (" [{:+.2f}, {:+.2f}]".format(*found.interval) if found.interval else "")


def as_list(about: Mapping[str, str]) -> str:
    """Return where a result comes from as a list."""
    return "\n".join(f"- {name}: {f'`{text}`' if name == 'command' else text}" for name, text in about.items())


def grid(head: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table.

    Examples
    --------
    >>> print(grid(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
