"""The site: `sphinx-build -W docs docs/_build/html` makes it of these pages, the solved lessons and the docstrings.

Lessons are shown as `python lessons/build.py --execute docs/_lessons` left them; one that is not there, or whose source
has changed since, is shown without its outputs, and says so, so that a build takes seconds.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import latex2mathml.converter

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "play")]

from make_page import write_page  # noqa: E402

import minidl  # noqa: E402
from lessons.build import LESSONS, sources  # noqa: E402
from lessons.machinery.notebook import build as notebook  # noqa: E402
from lessons.machinery.page import page as page_of  # noqa: E402
from lessons.machinery.source import Source, diagnoses, name_of  # noqa: E402

project = "minidl"
author = "The minidl authors"
project_copyright = "the minidl authors, MIT licence"
version = release = minidl.__version__
language = "en_GB"

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "_lessons", "play", "images", "results/*.csv"]

myst_enable_extensions = ["dollarmath", "attrs_inline", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_output_stderr = "show"
default_role = "literal"  # `backward` of a docstring is code: its dashes and quotes stay as they are
highlight_language = "none"  # a block without a language is output or a formula
autodoc_typehints = "none"  # the Parameters section says it
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# every object of the reference is public, and its docstring is held to the checks of pyproject.toml
_lint = tomllib.loads((DOCS.parent / "pyproject.toml").read_text("utf-8"))["tool"]["numpydoc_validation"]
numpydoc_validation_checks = set(_lint["checks"])
numpydoc_validation_exclude = set(_lint["exclude"])
numpydoc_validation_overrides = {"PR01": _lint["override_PR01"]}

html_theme = "furo"
html_title = f"minidl {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
html_math_renderer = "mathml"


ON_THE_SITE = (
    "**On this site each title leads to the solved lesson, to read.** It has outputs and plots, and says how to "
    "open the exercise."
)


def lessons_as_pages() -> None:
    """Write the solved lessons and their table of contents into docs/tutorials."""
    folder = DOCS / "tutorials"
    folder.mkdir(exist_ok=True)
    names = []
    for source in sources(LESSONS, ()):
        solved: dict[str, Any] = notebook(source, with_solutions=True)
        path = DOCS / "_lessons" / f"{source.name}.ipynb"
        there = json.loads(path.read_text("utf-8")) if path.exists() else {"metadata": {}}
        ran = there["metadata"].get("minidl") == solved["metadata"]["minidl"]
        made = page_of(source, there if ran else solved, ran, PurePosixPath("../../lessons"))
        text = json.dumps(made, ensure_ascii=False).replace("](../docs/", "](../")
        write(folder / f"{source.name}.ipynb", re.sub(r"\[(`[^`]*`)\]\(\.\./minidl/[^)]*\)", r"\1", text))
        names.append(source.name)
    contents = (LESSONS / "README.md").read_text("utf-8").replace("](../docs/", "](../")
    contents = contents.replace("\n| | lesson |", f"\n{ON_THE_SITE}\n\n| | lesson |")
    toctree = "\n".join(["```{toctree}", ":hidden:", *names, "checks", "```"])
    write(folder / "checks.md", what_checks_find(sources(LESSONS, ())))
    write(folder / "index.md", f"{contents}\n{toctree}\n")


def what_checks_find(found: list[Source]) -> str:
    """Return the page that lists, for teachers, the mistakes that each check names."""
    lines = [
        "# What each check finds",
        "",
        "For teachers: this page gives answers away. A check that lists no mistake says where the values",
    ]
    lines += ["differ and what their pattern shows."]
    for source in found:
        lines += ["", f"## {source.number} · {source.title}", ""]
        for cell in source.tagged("check"):
            known = [f"  - {one}" for one in diagnoses(cell)]
            lines += [f"- **{name_of(cell)}**", *known]
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file if that changes it: Sphinx then reads again only what is new."""
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


TO_PLAY = ("index", "explore")  # the pages that lead to play.html, which no source has


def complete(app: Any, docname: str, text: list[str]) -> None:
    """Lead links to lessons to their pages; leave out what an index has with a question mark and is not there yet.

    The pages of results get what they are, and their pictures. What a page says for the repository alone goes.
    """
    folder = (DOCS / docname).parent
    up = "../" * docname.count("/")
    text[0] = re.sub(rf"\]\({up}\.\./lessons/README\.md", f"]({up}tutorials/index.md", text[0])
    text[0] = re.sub(rf"\]\({up}\.\./lessons/(\d\d_\w+\.ipynb)", rf"]({up}tutorials/\1", text[0])
    text[0] = re.sub(rf"\[(\w+\.md)\]\(({up}\.\./\.github/\1)\)", r"{download}`\1 <\2>`", text[0])
    text[0] = re.sub(
        r"^([\w./-]+)\?\n", lambda m: f"{m[1]}\n" if (folder / f"{m[1]}.md").exists() else "", text[0], flags=re.M
    )
    text[0] = re.sub(r"^\*On a code-hosting site\*.*?\n\n", "", text[0], flags=re.M | re.S)
    if docname in TO_PLAY:
        text[0] = text[0].replace("`play.html`", '<a href="play.html">play.html</a>')
    if docname == "results/README":
        pages = sorted(path.stem for path in folder.glob("*.md") if path.stem != "README")
        text[0] += "\n".join(["\n```{toctree}", ":hidden:", *pages, "```", ""])
    elif docname.startswith("results/"):
        text[0] = introduced(text[0])
        own = re.compile(re.escape(Path(docname).name) + r"(-mn\d.*)?")
        pictures = [path for path in sorted(folder.glob("*.png")) if own.fullmatch(path.stem)]
        shown = [f"\n[![{in_words(path.stem, text[0])}]({path.name})]({path.name})\n" for path in pictures]
        text[0] += "\n## Pictures\n\nA click shows a picture in its full size.\n" * bool(pictures) + "".join(shown)


def in_words(stem: str, page: str) -> str:
    """Return what a picture of a page of results shows, for those who do not see it."""
    found = re.search(r"-mn(\d+)-(datasets|images)$", stem)
    if not found:
        title = page.split("\n", 1)[0].removeprefix("# ")
        return f"{title}: the best test error of each seed by norm, and the mean error after each epoch"
    if found[2] == "images":
        return f"MN with K = {found[1]}: the images of the largest gate of each mode, by layer"
    return f"MN with K = {found[1]}: the mean gate of each mode over each dataset, by layer, and its course in training"


def introduced(text: str) -> str:
    """Return a page of results that begins with what it is and the command that makes it again."""
    title, rest = text.split("\n", 1)
    command = re.search(r"^- command: (`.*`)$", text, re.M)
    again = f" To make it again, type {command[1]}." if command else ""
    return f"{title}\n\nOne of the [measured results](README.md), where you read what it shows.{again}\n{rest}"


SHORT = 26  # characters of a word of code that stay on one line
TEXT = 100  # characters of a cell, for which a table of three or more columns is given room on a phone


def room(app: Any, doctree: Any) -> None:
    """Mark the code that is broken between words alone, and the tables that scroll before a cell gets too tall."""
    from docutils import nodes

    for code in doctree.findall(nodes.literal):
        if max(map(len, code.astext().split()), default=0) <= SHORT:
            code["classes"].append("short")
    for table in doctree.findall(nodes.table):
        columns = table.next_node(nodes.tgroup)["cols"]
        if columns > 2 and any(len(cell.astext()) > TEXT for cell in table.findall(nodes.entry)):
            table["classes"].append("wide")


LONG = 30  # characters of TeX, above which a formula in a sentence may be wider than a phone


def mathml(text: str, display: str) -> str:
    """Return a formula as MathML, which browsers draw themselves: no script, no connection."""
    text = text.replace("{aligned}", "{align*}").replace(r"\operatorname*", r"\operatorname")
    text = text.replace(r"\mathrel{+}=", r"\;\text{+=}\;")
    made = latex2mathml.converter.convert(text, display=display)
    made = re.sub(r"<m[io]>(ln|log|exp|sin|cos|max|min)</m[io]>", r'<mo lspace="0.17em" rspace="0.17em">\1</mo>', made)
    return made.replace('<menclose notation="box">', '<mrow class="boxed">').replace("</menclose>", "</mrow>")


def visit_inline(self: Any, node: Any) -> None:
    """A formula in a sentence."""
    from docutils import nodes

    text = node.astext()
    made = mathml(text, "inline")
    self.body.append(made if len(text) < LONG else f'<span class="long formula">{made}</span>')
    raise nodes.SkipNode


def visit_block(self: Any, node: Any) -> None:
    """A formula of its own, which scrolls where the page is narrow."""
    from docutils import nodes

    self.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def write_page_to_explore(app: Any, error: Exception | None) -> None:
    """Write play.html: the page with its data in it."""
    if error is None:
        write_page(Path(app.outdir) / "play.html")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("source-read", complete)
    app.connect("doctree-read", room)
    app.connect("build-finished", write_page_to_explore)
    lessons_as_pages()
