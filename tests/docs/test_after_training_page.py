"""docs/after-training.md, word for word: its files are written, its commands run."""

import json
import re

import pytest
from following import DOCS, commands_of, files_of, follow

PAGE = DOCS / "after-training.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the pages are not beside an installed package")


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A folder in which somebody followed the page, and what each command printed."""
    folder = tmp_path_factory.mktemp("page")
    return folder, follow(folder, PAGE.read_text("utf-8"))


def test_the_page_has_its_files_and_commands():
    page = PAGE.read_text("utf-8")
    assert list(files_of(page)) == ["draw_photos.py", "use_it.py"]
    assert len(commands_of(page)) == 7


def test_the_network_learns_what_guessing_cannot_know_and_is_measured_class_by_class(followed):
    folder, printed = followed
    out = printed["python -m minidl.evaluate runs/shapes"]
    assert float(re.search(r"test error (\S+) %", out)[1]) < 100 / 3  # guessing has twice as much
    assert re.search(r"^circle +8 ", out, re.M)
    names = {path.name for path in (folder / "runs" / "shapes" / "evaluation").iterdir()}
    assert names == {"evaluation.json", "classes.csv", "confusion.csv", "confusion.png"}


def test_images_are_told_apart_from_the_command_line_and_from_python(followed):
    _, printed = followed
    lines = printed["python -m minidl.predict runs/shapes photos/circle/00.jpg others/hexagon --top 2"].splitlines()
    assert len(lines) == 41
    kinds = "circle|square|triangle"
    assert all(re.fullmatch(rf"\S+\.jpg: ({kinds}) [01]\.\d{{3}} \(({kinds}) 0\.\d{{3}}\)", line) for line in lines)
    assert re.match(rf"\['({kinds})', '({kinds})'\] \(2, 3\)\n\[\('", printed["python use_it.py"])


def test_the_run_is_made_longer_and_another_starts_from_it(followed):
    folder, printed = followed
    assert (
        "extended from 30e to 60e after update 180"
        in printed["python -m minidl.train --out runs/shapes --resume --epochs 60"]
    )
    assert json.loads((folder / "runs/shapes/summary.json").read_text())["step"] == 360
    there = json.loads((folder / "runs/others/config.json").read_text())
    assert (there["from"]["step"], there["from"]["as_drawn"]) == (360, ["13.bias", "13.weight"])
