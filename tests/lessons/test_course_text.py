"""What the lessons' cells give away, and whose a choice is: the paper's, minidl's, the released code's."""

import ast
import json
import re
from pathlib import Path

import pytest
import tiny_lesson

from lessons.machinery.source import blocks, read

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "lessons" / "src").glob("*.py"))
OPEN = 45  # lines that a cell may have that draws and stands open, what it computes included
DRAWN = 10  # of which as many may draw


def notebook(path):
    return json.loads((ROOT / "lessons" / f"{path.stem}.ipynb").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_check_cells_and_long_figure_cells_are_folded(path):
    cells = [cell for cell in notebook(path)["cells"] if cell["cell_type"] == "code"]
    folded = [cell for cell in cells if cell["metadata"].get("jupyter", {}).get("source_hidden")]
    seen = ["".join(cell["source"]) for cell in cells if cell not in folded]
    assert len(folded) >= read(path).checks
    assert [text for text in seen if "lesson.check(" in text] == []
    drawing = [[line for line in text.split("\n") if line.strip()] for text in seen if "plt.show()" in text]
    assert [lines[0] for lines in drawing if len(lines) > OPEN] == []
    words = re.compile(r"\b(ax|axes|figure|plt)\b")
    assert [lines[0] for lines in drawing if sum(bool(words.search(line)) for line in lines) > DRAWN] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_folded_cell_shows_what_it_is_and_nothing_of_what_it_holds(path):
    # JupyterLab shows a folded cell's first line. It once was the answer of the exercise above, and too wide.
    cells = [cell for cell in notebook(path)["cells"] if cell["metadata"].get("jupyter", {}).get("source_hidden")]
    for cell in cells:
        first = cell["source"][0].strip()
        checks = re.findall(r'lesson\.check\(\s*"([^"]+)"', "".join(cell["source"]))
        named = " and ".join(f'"{name}"' for name in checks)
        assert first == (f"# The check {named}" if checks else "# Makes this output")
        assert len(first) <= 50


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_last_cell_lists_what_passed_and_does_nothing_else(path):
    last = notebook(path)["cells"][-1]
    assert last["source"] == ["lesson.done()"]
    assert "source_hidden" not in last["metadata"].get("jupyter", {})


def test_a_file_of_minidl_that_a_lesson_names_is_there():
    for path in SOURCES:
        named = re.findall(r"`((?:minidl|tests|docs|lessons)/[\w/]+\.\w+)", path.read_text(encoding="utf-8"))
        assert [name for name in named if not (ROOT / name).exists()] == [], path.name


def formulas(text):
    """Return the expressions of a code with two operations on three names, a product or a power among them."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.BinOp | ast.Call):
            parts = list(ast.walk(node))
            count = sum(isinstance(one, ast.BinOp | ast.Call) for one in parts)
            names = {one.id for one in parts if isinstance(one, ast.Name)}
            made = any(isinstance(one, ast.Mult | ast.Div | ast.MatMult | ast.Pow) for one in parts)
            found |= {ast.unparse(node)} if made and count >= 2 and len(names) >= 3 else set()
    return found


def given_away(source):
    """Return (line of a check, formula) where a check holds a formula that first stands in a later exercise."""
    found, met = [], set()
    for place, cell in enumerate(source.cells):
        if cell.kind == "code" and cell.tag == "check":
            later = [one for one in source.cells[place:] if one.kind == "code" and not one.tag and blocks(source, one)]
            own = formulas(cell.text) - met
            found += [(cell.line, one) for exercise in later for one in sorted(own & formulas(exercise.text))]
        elif cell.kind == "code" and cell.tag != "wrong":
            met |= formulas(cell.text)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_check_gives_away_a_formula_of_a_later_exercise(path):
    assert given_away(read(path)) == []


def test_a_formula_that_a_check_gives_away_is_found(tmp_path):
    mistake = 'def mistake(x, dy, part):\n    return part * 2 * np.sum(dy * x)\n\n\nlesson.check("double",'
    path = tiny_lesson.lesson(
        tmp_path,
        ('lesson.check("double",', mistake),
        ("        return 2 * self.x * dy\n", "        x = self.x\n        return x - np.sum(dy * x)\n"),
    )
    assert [formula for _, formula in given_away(read(path))] == ["np.sum(dy * x)"]


def paragraphs(path):
    """Return the paragraphs of a lesson's text, each in one line."""
    texts = [cell.text for cell in read(path).cells if cell.kind == "markdown"]
    return [" ".join(one.split()) for text in texts for one in re.split(r"\n\s*\n", text)]


WHOSE = [  # lesson, words of the place, what the same paragraph says of whose it is
    (
        "08",
        "You write mode normalization",
        "The equations are the paper's; where a choice is minidl's or the released code's",
    ),
    ("08", r"$\Psi:\mathcal X\to\mathbb R^K$", "The paper defines"),
    ("08", "channel means, and not at the", "is a choice of minidl"),
    (
        "08",
        "keep them in float64, and clamp at 0",
        "Both are minidl's choices. The paper is silent there, and the code that",
    ),
    ("08", r"$\langle x^2\rangle_k - \langle x\rangle_k^2$. Multiply", "The paper writes the variance as"),
    (
        "09",
        "a **softmax over the batch** of",
        "The paper is silent on empty modes, and the released code divides 0 by 0: this is",
    ),
    ("09", "passes over the pixels for every mode", "The paper's algorithm, taken to the letter"),
    ("10", "the $m_{nc}$ alone and $v$ is left out", "Which one is the default is minidl's choice"),
    ("10", r"0.01\,\mathcal N(0,1)$", "The paper names no start: the released code draws MN's gates so"),
    ("10", "PyTorch has no MGN", "the code that the paper's authors released has none either"),
    ("05", "PyTorch normalises with divisor $M$ and stores", "minidl does so by default"),
    ("11", "the best *and* the last epoch", "The paper's figures are of the best epoch"),
    ("12", "Others add a penalty for unequal use", "The paper says that it needs none"),
]


@pytest.mark.parametrize(("number", "place", "whose"), WHOSE, ids=[f"{row[0]} {row[2][:30]}" for row in WHOSE])
def test_a_lesson_says_whose_a_choice_is(number, place, whose):
    (path,) = [path for path in SOURCES if path.name.startswith(number)]
    there = [text for text in paragraphs(path) if place in text]
    assert there
    assert [text for text in there if whose not in text] == []


def test_no_lesson_says_that_all_of_its_layer_is_the_papers():
    said = [(path.stem, text) for path in SOURCES for text in paragraphs(path) if "as its paper defines" in text]
    assert said == []
