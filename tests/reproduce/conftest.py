"""The tiny table in Table 1's place, and its runs, trained once."""

import shutil

import pytest
from tiny_table import SHORT, TINY

from minidl.reproduce import plan
from minidl.reproduce.__main__ import main


@pytest.fixture(scope="session")
def _trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plan.TABLES, "table1", TINY)
        assert main(["table1", *SHORT, "--seeds", "2", "--jobs", "2", "--out", str(out)]) == 0
    return out


@pytest.fixture
def tiny(monkeypatch):
    """Put the tiny table in Table 1's place."""
    monkeypatch.setitem(plan.TABLES, "table1", TINY)
    return TINY


@pytest.fixture
def trained(_trained, tiny, tmp_path):
    """A copy of the results folder with the tiny table's four runs, and its outputs."""
    return shutil.copytree(_trained, tmp_path / "trained")
