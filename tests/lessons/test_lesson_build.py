"""The build: what a learner's notebook holds, that it is the same every time, and that it spares a learner's work."""

import ast
import json

import pytest
import tiny_lesson

from lessons import build as command
from lessons.machinery import notebook as notebooks
from lessons.machinery.source import read


@pytest.fixture
def built(tmp_path):
    """The folder of a course of one lesson, built."""
    tiny_lesson.lesson(tmp_path)
    assert command.main(["--folder", str(tmp_path)]) == 0
    return tmp_path


def texts(notebook, kind="code"):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_the_stub_asks_for_each_solution_and_shows_it_folded(built):
    notebook = json.loads((built / "02_tiny.ipynb").read_text("utf-8"))
    code = "\n".join(texts(notebook))
    assert code.count("raise NotImplementedError") == 3
    for name in ("double", "Square.forward", "Square.backward"):
        assert f'raise NotImplementedError("your turn: {name}")' in code
    assert "two" not in code
    assert "SOLUTION" not in code
    after = [cell["cell_type"] for cell in notebook["cells"]]
    where = next(i for i, cell in enumerate(notebook["cells"]) if "your turn: double" in "".join(cell["source"]))
    assert after[where + 1] == "markdown"
    answer = "".join(notebook["cells"][where + 1]["source"])
    assert answer.startswith(
        "<details>\n<summary>A solution of <code>double</code></summary>\n\n```python\ndef double(x):"
    )
    assert "    two = 2\n    return two * x\n```\n\n</details>" in answer


def test_no_notebook_holds_a_wrong_answer(built):
    source = read(built / "src" / "02_tiny.py")
    for notebook in (notebooks.build(source), notebooks.build(source, with_solutions=True)):
        assert "says:" not in notebooks.dumps(notebook)
        assert "self.x * dy" not in notebooks.dumps(notebook).replace("2 * self.x * dy", "")


def test_the_solved_notebook_is_the_source_without_markers(built):
    source = read(built / "src" / "02_tiny.py")
    code = "\n".join(texts(notebooks.build(source, with_solutions=True)))
    assert "your turn" not in code
    assert "SOLUTION" not in code
    kept = [cell for cell in source.cells if cell.kind == "code" and cell.tag != "wrong"]
    assert ast.dump(ast.parse(code)) == ast.dump(ast.parse("\n".join(cell.text for cell in kept)))


def test_the_build_is_the_same_every_time_and_has_no_outputs(built):
    path = built / "02_tiny.ipynb"
    first = path.read_bytes()
    path.unlink()
    assert command.main(["--folder", str(built)]) == 0
    assert path.read_bytes() == first
    cells = json.loads(first)["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")
    ids = [cell["id"] for cell in cells]
    assert len(set(ids)) == len(ids)


def test_another_text_in_one_cell_leaves_the_ids_of_the_others(built):
    before = json.loads((built / "02_tiny.ipynb").read_text("utf-8"))
    tiny_lesson.lesson(built, ("# One.", "# First."))
    after = notebooks.build(read(built / "src" / "02_tiny.py"))
    changed = {cell["id"] for cell in before["cells"]} ^ {cell["id"] for cell in after["cells"]}
    assert len(changed) == 2


def test_jupyter_finds_the_notebook_valid_and_saves_it_unchanged(built):
    nbformat = pytest.importorskip("nbformat", reason="pip install -e '.[lessons]'")
    text = (built / "02_tiny.ipynb").read_text("utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert nbformat.writes(notebook).rstrip("\n") == text.rstrip("\n")


def test_check_passes_on_the_build_and_names_what_differs(built, capsys):
    check = ["--check", "--folder", str(built)]
    assert command.main(check) == 0
    path = built / "02_tiny.ipynb"
    path.write_text(path.read_text("utf-8").replace("One.", "One!"))
    before = path.read_bytes()
    assert command.main(check) == 1
    assert f"{path} is not what " in capsys.readouterr().err
    assert path.read_bytes() == before
    path.unlink()
    assert command.main(check) == 1
    assert not path.exists()


def test_check_names_a_notebook_without_a_source(built, capsys):
    stray = built / "03_gone.ipynb"
    stray.write_text("{}")
    assert command.main(["--check", "--folder", str(built)]) == 1
    assert f"{stray} has no source" in capsys.readouterr().err


def test_one_lesson_can_be_built_alone(built, capsys):
    other = built / "src" / "03_other.py"
    other.write_text("not a lesson")
    assert command.main(["--only", "02", "--folder", str(built)]) == 0
    assert command.main(["--only", "04", "--folder", str(built)]) == 1
    assert "--only must be a lesson's number (02, 03), got 04" in capsys.readouterr().err


def worked_in(path, change):
    notebook = json.loads(path.read_text("utf-8"))
    change(notebook)
    path.write_text(json.dumps(notebook))
    return path.read_bytes()


def a_solution(notebook):
    notebook["cells"][3]["source"] = ["def double(x):\n", "    return x + x"]


def an_output(notebook):
    notebook["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["ok"]}]


def a_run(notebook):
    notebook["cells"][2]["execution_count"] = 1


def a_new_cell(notebook):
    notebook["cells"].append({"cell_type": "markdown", "id": "mine", "metadata": {}, "source": ["My notes."]})


def no_digest(notebook):
    a_solution(notebook)
    del notebook["metadata"]["minidl"]


@pytest.mark.parametrize("change", [a_solution, an_output, a_run, a_new_cell, no_digest])
@pytest.mark.parametrize("source_changed", [False, True])
def test_a_learners_notebook_is_never_written_over(built, capsys, change, source_changed):
    path = built / "02_tiny.ipynb"
    mine = worked_in(path, change)
    if source_changed:
        tiny_lesson.lesson(built, ("# One.", "# First."))
    assert command.main(["--folder", str(built)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{path} holds somebody's work; move it elsewhere (`mv {path} my_02_tiny.ipynb`)" in said
    assert path.read_bytes() == mine


def test_a_file_that_is_no_notebook_is_never_written_over(built, capsys):
    path = built / "02_tiny.ipynb"
    for mine in (b"", b"my notes", b"[1]", b"\xff\xfe", b'{"cells": 3, "metadata": {"minidl": {"built": 1}}}'):
        path.write_bytes(mine)
        assert command.main(["--folder", str(built)]) == 1
        assert path.read_bytes() == mine


def test_force_writes_over_it(built):
    path = built / "02_tiny.ipynb"
    right = path.read_bytes()
    worked_in(path, a_solution)
    assert command.main(["--force", "--folder", str(built)]) == 0
    assert path.read_bytes() == right


def test_one_learners_notebook_does_not_keep_the_others_from_being_built(built, capsys):
    second = tiny_lesson.SOURCE.replace("# # 02", "# # 03").replace('Lesson("02"', 'Lesson("03"')
    (built / "src" / "03_tiny.py").write_text(second)
    mine = worked_in(built / "02_tiny.ipynb", a_solution)
    assert command.main(["--folder", str(built)]) == 1
    assert (built / "03_tiny.ipynb").exists()
    assert (built / "02_tiny.ipynb").read_bytes() == mine


def test_an_older_build_in_which_nobody_worked_is_brought_up_to_date(built):
    tiny_lesson.lesson(built, ("# One.", "# First."))
    path = built / "02_tiny.ipynb"
    # Opening and saving in Jupyter adds metadata, and no work.
    worked_in(path, lambda notebook: notebook["metadata"]["language_info"].update(version="3.11.7"))
    assert command.main(["--folder", str(built)]) == 0
    assert "First." in path.read_text("utf-8")


def test_solved_notebooks_go_elsewhere(built, capsys):
    before = (built / "02_tiny.ipynb").read_bytes()
    assert command.main(["--solved", str(built / "out"), "--folder", str(built)]) == 0
    assert "two = 2" in (built / "out" / "02_tiny.ipynb").read_text("utf-8")
    for option in ("--solved", "--execute"):
        assert command.main([option, str(built), "--folder", str(built)]) == 1
        assert "holds the learners' notebooks; give another folder" in capsys.readouterr().err
    assert (built / "02_tiny.ipynb").read_bytes() == before


def test_a_write_that_fails_leaves_the_old_file_whole(built, monkeypatch):
    path = built / "02_tiny.ipynb"
    before = path.read_bytes()
    tiny_lesson.lesson(built, ("# One.", "# First."))

    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr(notebooks.os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        command.main(["--folder", str(built)])
    assert path.read_bytes() == before
    assert [p.name for p in built.glob("*.ipynb*")] == ["02_tiny.ipynb"]
