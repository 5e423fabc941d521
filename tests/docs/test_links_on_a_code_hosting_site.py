"""A reader on a code-hosting site sees the files of the repository: each link in them leads to such a file."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT = ("docs/tutorials", "docs/_build", "docs/_lessons")  # not in the repository
PAGES = [
    path
    for pattern in ("*.md", ".github/**/*.md", "docs/**/*.md", "lessons/*.md")
    for path in sorted(ROOT.glob(pattern))
    if not path.relative_to(ROOT).as_posix().startswith(BUILT)
]


def links_of(text):
    """Return the relative links of a page, without the place that they name; code has none."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.S | re.M)
    found = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [link.partition("#")[0] for link in found if not re.match(r"#|\w+:", link)]


def dead(path):
    """Return the links of a page that lead to nothing that is in the repository."""
    targets = {link: (path.parent / link).resolve() for link in links_of(path.read_text("utf-8"))}
    built = tuple(str(ROOT / folder) for folder in BUILT)
    return [link for link, target in targets.items() if not target.exists() or str(target).startswith(built)]


def test_a_dead_link_is_found_and_a_link_in_code_is_none(tmp_path):
    (tmp_path / "there.md").touch()
    (tmp_path / "page.md").write_text("[a](there.md#x) [b](gone.md) `[c](code.md)` [d](https://x.org) [e](#here)")
    assert dead(tmp_path / "page.md") == ["gone.md"]


def test_a_page_of_which_a_code_hosting_site_shows_names_alone_says_where_the_texts_are():
    pages = [path for path in PAGES if "eval-rst" in path.read_text("utf-8")]
    assert [path.stem for path in pages if "*On a code-hosting site*" not in path.read_text("utf-8")] == []


@pytest.mark.skipif(len(PAGES) < 20, reason="the pages are not beside an installed package")
def test_each_link_leads_to_a_file_of_the_repository():
    assert {str(path.relative_to(ROOT)): dead(path) for path in PAGES if dead(path)} == {}
