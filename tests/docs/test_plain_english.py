"""The prose of minidl is British, and says a rate as "per channel" and a thing by its plain name.

Looked at are the pages, the lessons, and of the code its comments, docstrings and messages: what is in backticks or in
a block of code is a name, not prose.
"""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for pattern in ("README.md", ".github/**/*.md", "docs/*.md", "docs/explanation/*.md", "docs/reference/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "check-mutants.md"
] + [ROOT / "docs/results/README.md", ROOT / "lessons/README.md"]
LESSONS = sorted((ROOT / "lessons/src").glob("*.py"))
# variants_*.py name known-wrong layers, and the page lists the names
CODE = [path for path in (ROOT / "minidl").rglob("*.py") if not path.name.startswith("variants_")]

UNITS = (
    "batch|call|case|cell|channel|class|column|element|epoch|evaluation|file|format|group|image|kernel|layer|line|mode|"
    "norm|page|parameter|pixel|process|product|"
    "round|row|run|sample|seed|set|size|source|stage|step|task|test|thread|update|value"
)
COUNTED = (
    "batches|biases|bits|blocks|bytes|calls|centres?|channels?|characters|copies|deviations?|digits|folder|gates|images|kernels|"
    "launches|lines?|logits|means?|memory|milliseconds|ms|one|numbers?|pairs?|parameters|passes|products|reader|rows?|"
    "scores?|seconds|sums|tests?|thread|values?|variances?|weights?|writer|µs"
)
RULES = {
    "a rate is per channel, not a channel": (
        rf"(?<!\w)({COUNTED}) an? ({UNITS})\b(?! (of|that|to|for|has)\b|[- ]mean|'s)"
    ),
    "British spelling": (
        r"behavior|(?<!lower )(?<!upper )\bcenter(s|ed|ing)?\b(?! (left|right))|"
        r"favor(s|ed|ite)?\b|neighbor|(?-i:\bgray)|"
        r"\bcolor|initialize|optimize[^-]|realize|recognize|summarize|(?<!de)serialize|analyze|normalize[sd]?\b(?!\()|"
        r"normalizing|generalize|minimize|maximize|vectorize|visualize|synchronize[sd]?\b|modeling|labeled|labeling|"
        r"canceled|\bfulfill|\bgotten\b|\bfiber|\bmeters?\b|judgment|\blicense[sd]?\b"
    ),
    "no metaphor for the architecture": (
        r"silhouette|\bseams?\b|\bdetour|\bin peace\b|last words|\bbookkeeping\b|\b(heart|soul) of|"
        r"\b(arrays?|modes?|images?|functions?|difference|condition|it|they|those) lives?\b|\bthe walls?\b|\brooms\b"
    ),
    "the subject first": r"\b(NumPy|numbers|shapes|outputs|arrays|settings|data) alone[.,;]|\bwhoever\b|\banybody's\b",
}
NAMES = re.compile(r"``?[^`\n]*``?|:\w+:`[^`]*`")


def prose_of_page(text):
    """Return the page without code, names and addresses, its lines in place."""
    text = re.sub(r"^(```|~~~).*?^\1[ \t]*$", lambda found: "\n" * found[0].count("\n"), text, flags=re.S | re.M)
    return re.sub(r"``?[^`\n]*``?|\]\([^)]*\)|<!--.*?-->|\$[^$\n]*\$", "", text)


def prose_of_code(text):
    """Return the comments, and the strings that have a space in them, each on its line."""
    kinds = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
    lines = [""] * (text.count("\n") + 2)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in kinds and " " in token.string:
            prose = NAMES.sub("", token.string)
            examples = re.sub(r"^\s*(>>>|\.\.\.) .*$", "", prose, flags=re.M)
            for i, line in enumerate(examples.split("\n")):
                lines[token.start[0] - 1 + i] += line + " "
    return "\n".join(lines)


def prose_of_lesson(text):
    """Return the prose of a lesson's cells, each line in its place: of texts as of a page, of code as of code."""
    prose = []
    for cell in re.split(r"^(?=# %%|# ---$)", text, flags=re.M):
        if cell.startswith("# %% [markdown]"):
            shown = re.sub(r"^# ?", "", cell, flags=re.M)
            shown = re.sub(r"\$\$.*?\$\$", lambda found: "\n" * found[0].count("\n"), shown, flags=re.S)
            prose.append(prose_of_page(re.sub(r"(?<!\$)\$[^$]*\$", lambda m: "v" + "\n" * m[0].count("\n"), shown)))
        else:
            lines = [*prose_of_code(cell).split("\n"), *[""] * len(cell)]
            prose += [f"{line}\n" for line in lines[: cell.count("\n")]]
    return "".join(prose)


def found_in(prose):
    """Return each breach of a rule as (line, rule, words)."""
    return [
        (prose.count("\n", 0, match.start()) + 1, rule, match[0])
        for rule, pattern in RULES.items()
        for match in re.finditer(pattern, prose, re.I)
    ]


@pytest.mark.parametrize(
    ("prose", "rules"),
    [
        ("one value a channel", ["a rate is per channel, not a channel"]),
        ("one value per channel", []),
        ("the number of a channel", []),
        ("A color that we normalize", ["British spelling"] * 2),
        ("batch normalization normalises", []),
        ("The seam of the engines, where arrays live", ["no metaphor for the architecture"] * 2),
        ("It needs NumPy alone.", ["the subject first"]),
    ],
)
def test_each_rule_finds_what_it_forbids_and_nothing_else(prose, rules):
    assert [rule for _, rule, _ in found_in(prose)] == rules


def test_code_is_read_without_its_names_and_examples():
    code = '''def f(color):  # a gray one
    """Take `color` a colour.

    >>> f(color="the color of it")
    """
    return g("color", color=f"the {name} center of it")
'''
    assert [line for line, _, _ in found_in(prose_of_code(code))] == [1, 6]


def test_a_lesson_is_read_without_its_formulas_and_each_line_keeps_its_place():
    text = """# %% [markdown]
# One number a channel, $a$
# color $$ x
# color
# $$
# `color`

# %%
color = 1  # a gray one
"""
    assert [line for line, _, _ in found_in(prose_of_lesson(text))] == [2, 3, 9]


@pytest.mark.parametrize("path", [*PAGES, *CODE, *LESSONS], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_prose_is_plain_and_british(path):
    text = path.read_text(encoding="utf-8")
    prose = (prose_of_page if path.suffix == ".md" else prose_of_lesson if path in LESSONS else prose_of_code)(text)
    assert [f"{path.name}:{line}: {words!r} ({rule})" for line, rule, words in found_in(prose)] == []
