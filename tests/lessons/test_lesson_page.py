"""A lesson's page on the site says that it is solved, leads to the exercise, and keeps the outputs."""

import copy
from pathlib import PurePosixPath

import pytest
import tiny_lesson

from lessons.machinery.notebook import build
from lessons.machinery.page import page
from lessons.machinery.source import read

PICTURE = {"output_type": "display_data", "data": {"image/png": "AAAA"}, "metadata": {}}


@pytest.fixture
def source(tmp_path):
    return read(tiny_lesson.lesson(tmp_path))


def cells_of(source, solved, ran=True):
    return page(source, solved, ran, PurePosixPath("../../lessons"))["cells"]


def text(cell):
    return "".join(cell["source"])


def test_the_page_begins_with_its_title_and_a_note_that_leads_to_the_exercise(source):
    first = text(cells_of(source, build(source, True))[0])
    assert first.startswith("# 02 · Tiny\n\n:::{note}\nThis is the solved lesson")
    assert "`lessons/02_tiny.ipynb`" in first
    assert "{download}`the exercise <../../lessons/02_tiny.ipynb>`" in first
    assert first.endswith("**Goal.** Double and square. **You need.** Lesson 01. **Time.** Five minutes.")


def test_a_page_of_a_lesson_that_was_not_run_says_so_and_how_to_run_it(source):
    ran, not_run = (text(cells_of(source, build(source, True), ran)[0]) for ran in (True, False))
    assert "outputs and plots are missing" in not_run
    assert "install.md#build-this-site" in not_run
    assert "missing" not in ran


def test_a_solution_is_folded_and_the_function_to_write_stands_above_it(source):
    cells = cells_of(source, build(source, True))
    where = next(i for i, cell in enumerate(cells) if "two = 2" in text(cell))
    above, folded = cells[where - 1], cells[where]
    assert above["cell_type"] == "markdown"
    assert text(above).startswith("```python\ndef double(x):")
    assert 'raise NotImplementedError("your turn: double")' in text(above)
    assert "hide-input" in folded["metadata"]["tags"]
    assert folded["metadata"]["mystnb"]["code_prompt_show"] == "A solution of double"
    shown = "\n".join(text(cell) for cell in cells if "hide-input" not in cell["metadata"].get("tags", []))
    assert "return 2 * self.x * dy" not in shown
    assert "return x * x" not in shown


def test_a_check_is_folded_under_its_name_and_outputs_stay(source):
    solved = build(source, True)
    where = next(i for i, cell in enumerate(solved["cells"]) if 'lesson.check("double"' in text(cell))
    solved["cells"][where]["outputs"] = [PICTURE]
    before = copy.deepcopy(solved)
    cell = next(cell for cell in cells_of(source, solved) if 'lesson.check("double"' in text(cell))
    assert cell["outputs"] == [PICTURE]
    assert "hide-input" in cell["metadata"]["tags"]
    assert cell["metadata"]["mystnb"]["code_prompt_show"] == 'The check "double"'
    assert solved == before
