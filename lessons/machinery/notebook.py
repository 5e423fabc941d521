"""Turn a source into notebooks, byte for byte the same every time, and never write over somebody's work."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from lessons.machinery.source import BEGIN, END, FOLDED, Cell, Source, blocks

Notebook = dict[str, Any]
Shown = tuple[str, str, str]  # kind, tag, text


class WorkError(Exception):
    """A file holds somebody's work; one sentence that names it and the cure."""


def stub(source: Source, cell: Cell) -> str:
    """Return a code cell as the learner gets it: ``raise NotImplementedError`` for each solution."""
    lines = cell.text.split("\n")
    for block in reversed(blocks(source, cell)):
        lines[block.begin : block.end + 1] = [f'{block.indent}raise NotImplementedError("your turn: {block.function}")']
    return "\n".join(lines)


def solved(cell: Cell) -> str:
    """Return a code cell with its solutions and without their markers."""
    return "\n".join(line for line in cell.text.split("\n") if line.strip() not in (BEGIN, END))


def folded(source: Source, cell: Cell) -> str:
    """Return the markdown cell that shows a code cell's solution when it is opened."""
    names = " and ".join(f"<code>{block.function}</code>" for block in blocks(source, cell))
    return f"<details>\n<summary>A solution of {names}</summary>\n\n```python\n{solved(cell)}\n```\n\n</details>"


def label(cell: Cell) -> str:
    """Return the line that stands for a folded cell: what it is, and nothing of what it holds."""
    if cell.tag == "figure":
        return "# Makes this output"
    names = re.findall(r'lesson\.check\(\s*"([^"]+)"', cell.text)
    return "# The check " + " and ".join(f'"{name}"' for name in names)


def shown(source: Source, with_solutions: bool) -> list[Shown]:
    """Return the cells of the learner's notebook, or of the solved one."""
    result: list[Shown] = []
    for cell in source.cells:
        if cell.tag == "wrong":
            continue
        if cell.kind == "markdown" or with_solutions:
            result.append((cell.kind, cell.tag, solved(cell) if cell.kind == "code" else cell.text))
            continue
        if cell.tag in FOLDED:
            result.append((cell.kind, cell.tag, f"{label(cell)}\n{cell.text}"))
            continue
        result.append((cell.kind, cell.tag, stub(source, cell)))
        if blocks(source, cell):
            result.append(("markdown", "", folded(source, cell)))
    return result


def build(source: Source, with_solutions: bool = False) -> Notebook:
    """Return a notebook without outputs; its metadata holds the digest of its cells."""
    cells, ids = [], set()
    for kind, tag, text in shown(source, with_solutions):
        number = 0
        while (name := _sha(source.number, kind, text, str(number))[:12]) in ids:
            number += 1
        ids.add(name)
        cell: Notebook = {"cell_type": kind, "id": name, "metadata": {"tags": [tag]} if tag else {}}
        if tag in FOLDED:
            cell["metadata"]["jupyter"] = {"source_hidden": True}
        cell["source"] = text.splitlines(keepends=True)
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        cells.append(cell)
    notebook: Notebook = {"cells": cells, "nbformat": 4, "nbformat_minor": 5}
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "minidl": {"built": digest(notebook), "lesson": source.number},
        "title": source.title,
    }
    return notebook


def _sha(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def digest(notebook: Notebook) -> str:
    """Return a digest of what the cells say; outputs and the program that saved the file do not count."""
    parts = []
    for cell in notebook["cells"]:
        text = cell["source"]
        parts += [cell["cell_type"], text if isinstance(text, str) else "".join(text)]
    return _sha(*parts)


def dumps(notebook: Notebook) -> str:
    """Return the file's text, in the very form in which Jupyter saves it."""
    return json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def untouched(text: str, outputs_count: bool) -> bool:
    """Whether a file is a build, of this source or an older one, in which nobody has worked."""
    try:
        notebook = json.loads(text)
        same = notebook["metadata"]["minidl"]["built"] == digest(notebook)
        ran = any(cell.get("outputs") or cell.get("execution_count") for cell in notebook["cells"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return same and not (ran and outputs_count)


def write(path: Path, text: str, force: bool = False, outputs_count: bool = True) -> bool:
    """Write a notebook, whole or not at all; return whether the file changed.

    Parameters
    ----------
    path : of the notebook
    text : its new text
    force : write over somebody's work
    outputs_count : whether a notebook that has been run counts as somebody's work

    Raises
    ------
    WorkError
        If somebody has worked in the file that is there.
    """
    if path.exists():
        old = path.read_text(encoding="utf-8", errors="replace")
        if old == text:
            return False
        if not force and not untouched(old, outputs_count):
            raise WorkError(
                f"{path} holds somebody's work; move it elsewhere (`mv {path} my_{path.name}`) and build again, "
                "or give --force to write over it"
            )
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text, encoding="utf-8", newline="\n")
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
    return True
