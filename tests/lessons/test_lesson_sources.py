"""The form of a lesson's source: every rule has one line, with file and line number, for who breaks it."""

import re

import pytest
import tiny_lesson

from lessons.machinery.source import SourceError, read


def test_a_source_is_read_with_its_header_and_cells(tmp_path):
    source = read(tiny_lesson.lesson(tmp_path))
    assert (source.number, source.title, source.minutes, source.needs, source.checks) == ("02", "Tiny", 5, ("01",), 2)
    assert [cell.tag for cell in source.cells if cell.tag] == ["start", "wrong", "check", "wrong", "check"]
    assert [(cell.check, cell.says) for cell in source.tagged("wrong")] == [
        ("double", "You squared it."),
        ("square", "WRONG dx"),
    ]


BROKEN = [  # what is replaced, by what, the first words of the line that is blamed, what is said
    ("#     minutes: 5\n", "", "# ---", "the header must be"),
    ('["01"]', '["02"]', "# ---", "needs must be earlier lessons, got 02"),
    ("#     checks: 2", "#     checks: 3", "lesson = Lesson", 'must read `lesson = Lesson("02", checks=3)`'),
    ("title: Tiny", "title: Small", "# # 02", "begins `# 02 · Small`"),
    ("**Time.**", "Time.", "# # 02", "says **Time.**"),
    ("run `pip install -e '.[train]'`", "pip install it", '        "this lesson needs', "the start cell must read"),
    ('# %% tags=["start"]', "# %%", "try:", 'the first code cell, and no other, has tags=["start"]'),
    ("import numpy as np\n", "import numpy as np\nimport pandas\n", "import pandas", "got pandas"),
    ("import numpy as np\n", "import numpy as np\nfrom lessons import build\n", "from lessons", "got lessons"),
    ("rng = np", "return 1\nrng = np", "return 1", "not Python: 'return' outside function"),
    ("import numpy as np\n", "%matplotlib inline\n", "%matplotlib", "not Python"),
    ('# %% tags=["check"]', '# %% tags=["chekc"]', '# %% tags=["chekc"]', "got `# %% tags"),
    ("# %% [markdown]\n# One.", "# %% [markdown]\nOne.", "One.", "a markdown cell's line begins with `# `, got `One.`"),
    ("# %% [markdown]\n# One.", "# %%[markdown]\n# One.", "# %%[markdown]", "a cell begins"),
    ("# %% [markdown]\n# One.\n", "# %% tags=[]\n", "# %% tags=[]", "a cell begins"),
    ("# %% [markdown]\n# One.\n", "# %% \n", "# %% ", "the cell is empty"),
    ("# ---\n\n# %% [markdown]\n# # 02", "# ---\n\nx = 1\n# %% [markdown]\n# # 02", "x = 1", "text outside a cell"),
    ('lesson.check("double", lambda', 'lesson.check("dou" + "ble", lambda', 'lesson.check("dou"', "name, a string"),
    (
        'lesson.check("square",',
        'lesson.check("double",',
        'lesson.check("double", both',
        'the check "double" is in line 4',
    ),
    ('lesson.check("double",', 'print("double",', 'print("double",', "a check cell holds one lesson.check(...), got 0"),
    ("own = np.random.default_rng(2)", "own = rng", "own = rng", "a check draws from a generator of its own"),
    ("class Square:", "z = rng.random()\n\n\nclass Square:", "z = rng", "a check draws from a generator of its own"),
    (
        'wrong={"You squared it.": lambda: x**2})',
        'wrong={"You squared it.": lambda: x**2})\ndouble(x)',
        'lesson.check("double"',
        "lesson.check ends its cell",
    ),
    ("rng = np", 'lesson.check("z", lambda: x, x, 1)\nrng = np', 'lesson.check("z"', "belongs in a cell with tags"),
    ("# check: double", "# check: dx", "# check: dx", 'no check is called "dx"; there are double, square'),
    ("# says: You squared it.\n", "", "# check: double", "a wrong answer begins with"),
    ("    ### END SOLUTION\n\n\n# %% tags", "\n\n# %% tags", "    ### BEGIN", "must follow each other in pairs"),
    ("    ### BEGIN SOLUTION\n    two", "    ### BEGIN SOLUTION:\n    two", "    ### BEGIN", "a solution's marker is"),
    ("rng =", "### BEGIN SOLUTION\nrng =", "### BEGIN", "must follow each other in pairs"),
    ("rng = np", "### BEGIN SOLUTION\ny = 1\n### END SOLUTION\nrng = np", "### BEGIN", "in the body of a function"),
    ("    ### BEGIN SOLUTION\n    two", "### BEGIN SOLUTION\n    two", "### BEGIN", "indented as the body is"),
    ("    two = 2\n    return two * x\n    ### END SOLUTION", "    ### END SOLUTION", "    ### BEGIN", "in the body"),
    (
        "dy = own",
        "def f():\n    ### BEGIN SOLUTION\n    y = 1\n    ### END SOLUTION\n\n\ndy = own",
        "    ### BEGIN",
        "a check cell",
    ),
    ("# %% [markdown]\n# One.\n\n# %% [markdown]\n# Two.\n", "", "# ---", "got 14"),
    ("rng = np", "y = 1\n" * 260 + "rng = np", "# ---", "at most 250 lines of code that stand open, got 2"),
    ("# %%\nlesson.done()", "# %%\nprint()", "print()", "the last code cell calls lesson.done()"),
    ("# %%\nlesson.done()", "# %%\nx = 1\nlesson.done()", "x = 1", "gives another value to x, which the cell in line"),
]


@pytest.mark.parametrize(("old", "new", "place", "words"), BROKEN, ids=[row[3] for row in BROKEN])
def test_a_broken_rule_is_one_line_with_its_place(tmp_path, old, new, place, words):
    path = tiny_lesson.lesson(tmp_path, (old, new))
    with pytest.raises(SourceError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert words in text
    line = int(re.match(rf"{re.escape(str(path))}:(\d+): ", text)[1])
    assert path.read_text("utf-8").splitlines()[line - 1].startswith(place), text


def test_a_header_that_counts_other_checks_than_there_are_is_refused(tmp_path):
    path = tiny_lesson.lesson(tmp_path, ("checks: 2", "checks: 3"), ("checks=2", "checks=3"))
    with pytest.raises(SourceError, match=r"02_tiny\.py:7: the header declares 3 checks, the lesson has 2"):
        read(path)


def test_a_title_may_be_quoted(tmp_path):
    path = tiny_lesson.lesson(
        tmp_path, ("title: Tiny", 'title: "Tiny: a lesson"'), ("02 · Tiny", "02 · Tiny: a lesson")
    )
    assert read(path).title == "Tiny: a lesson"


def test_a_file_of_another_name_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"must be called NN_name\.py"):
        read(tiny_lesson.lesson(tmp_path, name="tiny"))


def test_too_many_cells_are_refused(tmp_path):
    end = "# %%\nlesson.done()"
    path = tiny_lesson.lesson(tmp_path, (end, "# %%\ny = 1\n\n" * 12 + end))
    with pytest.raises(SourceError, match=r"15 to 26 cells, got (2[7-9]|3\d)"):
        read(path)


def test_jupytext_reads_the_same_cells(tmp_path):
    jupytext = pytest.importorskip("jupytext", reason="pip install -e '.[lessons]'")
    path = tiny_lesson.lesson(tmp_path)
    theirs = jupytext.reads(path.read_text("utf-8"), fmt="py:percent").cells
    ours = read(path).cells
    assert [(cell.cell_type, cell.source) for cell in theirs] == [(cell.kind, cell.text) for cell in ours]
