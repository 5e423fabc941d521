"""Turn a solved notebook into a page to read: it says what it is, and folds its solutions under their functions."""

from __future__ import annotations

from pathlib import PurePosixPath

from lessons.machinery.notebook import Notebook, label, stub
from lessons.machinery.source import FOLDED, Source, blocks

NOTE = """
:::{{note}}
This is the solved lesson, to read. Each solution is folded under its function. {outputs}
To do the lesson yourself, open `lessons/{name}.ipynb` in a clone ([how to start](index.md)), or download
{{download}}`the exercise <{exercise}>`. It needs Python on your computer; the lessons do not run in a browser.
:::
"""
RAN = "The outputs and plots are those of the solutions."
NOT_RUN = (
    "**The lesson was not run for this site, so its outputs and plots are missing**; "
    "[build the site](../install.md#build-this-site) says how to have them."
)


def page(source: Source, solved: Notebook, ran: bool, exercises: PurePosixPath) -> Notebook:
    """Return the notebook of a lesson's page.

    Parameters
    ----------
    source : of the lesson
    solved : its solved notebook, with or without outputs, which stays as it is
    ran : whether it was run
    exercises : the folder of the learners' notebooks, as seen from the page

    Returns
    -------
    notebook : the title, a note, and the cells of ``solved``. A cell with a solution is folded, and the learner's
        form of it stands above. What a notebook folds is folded here, too.
    """
    cells = []
    shown = [cell for cell in source.cells if cell.tag != "wrong"]
    for number, (cell, made) in enumerate(zip(shown, solved["cells"], strict=True)):
        text = made["source"] if isinstance(made["source"], str) else "".join(made["source"])
        prompt = ""
        if number == 0:
            title, rest = text.split("\n", 1)
            note = NOTE.format(
                name=source.name, exercise=exercises / f"{source.name}.ipynb", outputs=RAN if ran else NOT_RUN
            )
            text = f"{title}\n{note}{rest}"
        elif cell.kind == "code" and cell.tag in FOLDED:
            prompt = "The code of this figure" if cell.tag == "figure" else label(cell).removeprefix("# ")
        elif cell.kind == "code" and (exercise := blocks(source, cell)):
            prompt = "A solution of " + " and ".join(block.function for block in exercise)
            learners = f"```python\n{stub(source, cell)}\n```"
            cells.append({"cell_type": "markdown", "id": f"{made['id']}-stub", "metadata": {}, "source": learners})
        made = made | {"source": text, "metadata": dict(made["metadata"])}
        if prompt:
            made["metadata"]["tags"] = [*made["metadata"].get("tags", []), "hide-input"]
            made["metadata"]["mystnb"] = {"code_prompt_show": prompt, "code_prompt_hide": prompt}
        cells.append(made)
    return solved | {"cells": cells}
