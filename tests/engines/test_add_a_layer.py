"""docs/add-a-layer.md works as it stands: its file, its row and its twin, through the checks of every layer."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from layer_cases import CASES, Case
from layer_check import check_slopes
from layer_runs import run
from tolerance import assert_close, unit

from engines import test_engines
from minidl import norm
from minidl.engine import NUMPY, WRITTEN
from minidl.norm import norm_factory
from minidl.train.__main__ import main

PAGE = Path(__file__).parents[2] / "docs" / "add-a-layer.md"


def code(after: str) -> str:
    """Return the block of Python below a marker of the page."""
    found = re.search(rf"<!-- {re.escape(after)} -->\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found, f"no block after <!-- {after} -->"
    return found.group(1)


@pytest.fixture
def page(monkeypatch):
    """Run the page's file and row; return their names, with the row in the table under "RMSNorm"."""
    module = ModuleType("minidl.norm.rms")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code("file: minidl/norm/rms.py"), "minidl/norm/rms.py", "exec"), module.__dict__)
    names = {**vars(module), "np": np, "Case": Case, "NUMPY": NUMPY}
    exec(code("row"), names)
    monkeypatch.setitem(CASES, "RMSNorm", names["ROW"])
    return names


@pytest.mark.usefixtures("page")
def test_the_new_norm_gives_what_its_row_says():
    case = CASES["RMSNorm"]
    x, dy = case.arrays()
    layer = case.layer()
    want_y, want = case.wanted(layer, x, dy)
    y, got = run(layer, x, dy)
    assert_close(y, want_y, 64 * unit("float64") * np.abs(want_y).max(), "y")
    for key in want:
        assert_close(got[key], want[key], 256 * unit("float64") * np.abs(want[key]).max(), key)


@pytest.mark.usefixtures("page")
def test_its_backward_is_the_slope_of_its_forward():
    check_slopes("RMSNorm")


@pytest.mark.usefixtures("page")
def test_its_lines_in_the_package_train_with_it(monkeypatch, tmp_path):
    source = Path(norm.__file__).read_text("utf-8")
    for marker, before in (
        ("import", "from minidl.norm.mode import"),
        ("name", '    "none": "no'),
        ("maker", '        "none":'),
    ):
        assert source.count(before) == 1
        source = source.replace(before, code(marker) + before)
    changed = ModuleType("changed")
    exec(compile(source, "minidl/norm/__init__.py", "exec"), changed.__dict__)
    assert type(changed.norm_factory("rms")(4, np.random.default_rng(0))).__name__ == "RMSNorm"
    monkeypatch.setitem(norm.NORMS, "rms", changed.NORMS["rms"])
    for module in list(sys.modules.values()):
        if module.__name__.startswith("minidl.") and getattr(module, "norm_factory", None) is norm_factory:
            monkeypatch.setattr(module, "norm_factory", changed.norm_factory)
    command = ["lenet", "mnist", "--norm", "rms", "--sample", "--updates", "1", "--batch-size", "4", "--quiet"]
    assert main([*command, "--backend", "numpy", "--out", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("backend", test_engines.ENGINES)
@pytest.mark.usefixtures("page")
def test_it_runs_on_every_engine(backend):
    program = test_engines.layer("RMSNorm")
    with test_engines.computing("numpy", WRITTEN):
        want = program("float32", "float64")
    with test_engines.computing(backend):
        got = program("float32", "float32")
    for key in want:
        assert_close(got[key], want[key], 256 * unit("float32") * np.abs(want[key]).max(), key)


def test_its_twin_stands_in_and_agrees(page, monkeypatch):
    monkeypatch.setattr(NUMPY, "twins", dict(NUMPY.twins))
    program = test_engines.layer("RMSNorm")
    want = program("float64", "float64")
    exec(code("twin"), page)
    with test_engines.computing("numpy") as noting:
        got = program("float64", "float64")
    assert page["RMSNorm"].small in noting.met & noting.twins.keys()
    for key in want:
        assert_close(got[key], want[key], 64 * unit("float64") * np.abs(want[key]).max(), key)


def test_a_wrong_backward_of_the_page_is_found(page):
    module = page["RMSNorm"].small_backward.__globals__
    right = module["rms_norm_backward"]

    def wrong(ds, du, kept):
        dm, dv, *rest = right(ds, du, kept)
        return dm, 0 * dv, *rest

    module["rms_norm_backward"] = wrong
    with pytest.raises(AssertionError):
        check_slopes("RMSNorm")
