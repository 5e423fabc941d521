"""Writing a table from the runs that are there: Markdown, CSV, a picture."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from minidl.files import make_folder, read_file
from minidl.outputs import OutputError
from minidl.reproduce import provenance
from minidl.reproduce.csv_output import cell_rows, run_rows, to_csv
from minidl.reproduce.drawing import draw_table
from minidl.reproduce.markdown import main_tables, table_markdown
from minidl.reproduce.plan import Run, Table
from minidl.reproduce.results import Results
from minidl.reproduce.store import Data, ReproduceError, Store, StoredRun
from minidl.writing import write_together

_COMMAND = b"python -m minidl.reproduce "


def write_table(
    table: Table, planned: Sequence[Run], store: Store, data: Data, command: str, scale: Decimal, stem: str
) -> tuple[str, list[Path]]:
    """Write the table from the finished ones of its planned runs; return its main part and the files.

    Parameters
    ----------
    table, planned, store, data
        What the table is, its runs, where they are, and what they were trained on.
    command : str
        What regenerates it.
    scale : Decimal
        Said in every output where it is not 1.
    stem : str
        The files' names up to the suffix.

    Raises
    ------
    ReproduceError
        If none of the runs is finished.
    """
    if table.needs_all and (parts := provenance.missing_data(table.config.task, data)):
        table = replace(table, title=f"{table.title}, on {', '.join(parts)} alone: not the paper's", paper={})
    if scale != 1:
        table = replace(table, title=f"{table.title}, {scale} of the length")
    results = Results(table, planned, store.read(), data)
    if not results.runs:
        raise ReproduceError(f"{store.runs} has no finished run of this table; run the command again to train")
    warnings = warnings_of(scale, data, table.config.task)
    warnings += _incomplete(results)
    if empty := _empty_rows(results):  # named above; a table and a panel without a number would say nothing more
        rows = {name: row for name, row in table.rows.items() if name not in empty}
        planned = [run for run in planned if run.row in rows]
        results = Results(replace(table, rows=rows), planned, store.read(), data)
    about = about_runs(results.runs, table.config.task, data, command, results.seeds)
    contents = [
        table_markdown(results, warnings, about).encode(),
        to_csv(cell_rows(results), about).encode(),
        to_csv(run_rows(results), about).encode(),
        draw_table(results, warnings, about),
    ]
    files = dict(zip(table_files(stem), contents, strict=True))
    return "\n\n".join([*warnings, *main_tables(results)]), write_files(store.folder, files)


def table_files(stem: str) -> list[str]:
    """Return the names of the files of a table."""
    return [f"{stem}.md", f"{stem}.csv", f"{stem}-runs.csv", f"{stem}.png"]


def refuse_others(folder: Path, names: Iterable[str]) -> None:
    """Raise OutputError where one of these names is that of a file of somebody else: it would be lost.

    What this command writes says by which command, in a line of a page or a table, or in the metadata of a picture.
    """
    for name in names:
        if os.path.lexists(folder / name) and not _is_own(folder / name):
            raise OutputError(
                f"--out {folder} has a {name} that this command did not write; move it, or give another folder"
            )


def _is_own(path: Path) -> bool:
    with suppress(OSError):
        content = read_file(path)
        if path.suffix == ".png":
            return content.startswith(b"\x89PNG") and b"command: " + _COMMAND in content
        if path.suffix == ".csv":
            return content.startswith(b"# command: " + _COMMAND)
        return b"## Where it comes from\n\n- command: `" + _COMMAND in content
    return False


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write files into a folder, each whole or not at all and all where there is room, and return their paths.

    Raises
    ------
    OutputError
        As `refuse_others`: none is written then.
    """
    refuse_others(folder, files)
    make_folder(folder)
    write_together({folder / name: content for name, content in files.items()})
    return [folder / name for name in files]


def about_runs(runs: Sequence[StoredRun], task: str, data: Data, command: str, seeds: int) -> dict[str, str]:
    """Return what every output says of where it comes from."""
    seconds = sum(run.result()["seconds"] for run in runs)
    return {
        "command": command,
        "data": "; ".join(provenance.data_lines(task, data)),
        "data sha256": data["data_sha256"],
        "seeds": ", ".join(map(str, range(seeds))),
        "trained by": "; ".join(provenance.versions_of(runs)),
        "machine": "; ".join(provenance.machines_of(runs)),
        "training time": f"{provenance.duration(seconds)} in {len(runs)} runs, each counted alone",
        "reported by": provenance.version(commit=provenance.git_commit()),
    }


def warnings_of(scale: Decimal, data: Data, task: str) -> list[str]:
    """Return what keeps the numbers from being the paper's experiment: a shorter run, less data."""
    found = []
    if scale != 1:
        found.append(f"Shortened: each run is {scale} of its full length, so these are not the paper's experiment.")
    if parts := provenance.missing_data(task, data):
        found.append(f"Not all of the paper's training images: {', '.join(parts)}.")
    return found


def _incomplete(results: Results) -> list[str]:
    own = [cell for cell in results.cells if cell.row not in results.table.measures]
    missing = sum(results.seeds - len(cell.runs) for cell in own)
    all_of = f", all those of {' and '.join(empty)}" if (empty := _empty_rows(results)) else ""
    return [f"Incomplete: {missing} of {results.seeds * len(own)} runs are missing{all_of}."] if missing else []


def _empty_rows(results: Results) -> list[str]:
    """Return the rows of which no run is finished."""
    return [row for row in results.table.rows if not any(cell.runs for cell in results.cells if cell.row == row)]
