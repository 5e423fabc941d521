"""The page to explore the modes, in a real browser: what it shows is what the committed results say."""

import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DATA = json.loads((DOCS / "play" / "modes.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "play.html"
    subprocess.run([sys.executable, DOCS / "play" / "make_page.py", path], check=True)
    return path


def shown(browser: str, page: Path, choice: str = "") -> str:
    """What the page holds after its script ran, as HTML."""
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--virtual-time-budget=2000",
    ]
    own = f"--user-data-dir={page.parent / 'profile'}"
    command = [browser, *options, own, "--dump-dom", f"{page.as_uri()}#{choice}"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    return re.sub(r'<script id="data".*?</script>', "", done.stdout, flags=re.S)


class Texts(HTMLParser):
    """The texts of all elements of one kind."""

    def __init__(self, html: str, tag: str) -> None:
        super().__init__()
        self.tag, self.depth, self.found = tag, 0, []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == self.tag:
            self.depth += 1
            self.found.append("")
        elif self.depth and tag == "br":
            self.found[-1] += " "

    def handle_endtag(self, tag):
        self.depth -= tag == self.tag

    def handle_data(self, data):
        if self.depth:
            self.found[-1] += data


def results(part: str) -> list[dict[str, str]]:
    lines = (DOCS / "results" / f"figure2-{part}.csv").read_text("utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


@pytest.mark.parametrize(
    ("choice", "norm", "layer", "mode"), [("0/0/0/1", "MN K=2", "1", "2"), ("0/2/1/4", "MN K=6", "5", "5")]
)
def test_a_choice_shows_what_the_results_hold(browser, page, choice, norm, layer, mode) -> None:
    html = shown(browser, page, choice)
    own = {"norm": norm, "layer": layer, "mode": mode}
    images = [row for row in results("images") if own.items() <= row.items()]
    captions = Texts(html, "figcaption").found
    assert captions == [f"{row['class']} gate {float(row['gate']):.3f}" for row in images]
    assert len(captions) == 10
    shares = [row for row in results("datasets") if own.items() <= row.items()]
    cells = Texts(html[html.index('id="shares"') :], "td").found[1::3]
    for cell, row in zip(cells, shares, strict=True):
        assert float(cell.removesuffix(" %")) == pytest.approx(100 * float(row["mean_gate"]), abs=0.51)
    assert Texts(html, "h1").found == ["What the modes find"]


def test_a_short_run_shows_how_its_gates_moved(browser, page) -> None:
    number = next(i for i, run in enumerate(DATA["runs"]) if "course" in run["layers"][0]["modes"][0])
    networks = list(dict.fromkeys(run["network"] for run in DATA["runs"]))
    html = shown(browser, page, f"{networks.index(DATA['runs'][number]['network'])}/0/1/0")
    paths = re.findall(r'<path d="(M[^"]*)"', html)
    assert len(paths) == len(DATA["datasets"])
    mode = DATA["runs"][number]["layers"][1]["modes"][0]
    assert [path.count("L") for path in paths] == [len(gates) - 1 for gates in mode["course"]]


def test_an_address_that_chooses_nothing_there_is_shows_the_nearest(browser, page) -> None:
    html = shown(browser, page, "99/99/99/99")
    assert len(Texts(html, "figcaption").found) == 10


def test_the_data_is_whole() -> None:
    for run in DATA["runs"]:
        for layer in run["layers"]:
            for part in ("mean", "taken"):
                for d in range(len(DATA["datasets"])):
                    assert sum(mode[part][d] for mode in layer["modes"]) == pytest.approx(1, abs=1e-3)
            for mode in layer["modes"]:
                gates = [gate for _, _, gate in mode["images"]]
                assert gates == sorted(gates, reverse=True)
                for moved, mean in zip(mode.get("course", []), mode["mean"], strict="course" in mode):
                    assert moved[-1] == mean


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = (DOCS / "play" / "page.html").read_text("utf-8")
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", text)
    assert DATA["sheet"].startswith("data:image/webp;base64,")
