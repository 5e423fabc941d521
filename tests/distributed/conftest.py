"""The tiny run of tests/train, on several processes."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
sys.path.insert(0, str(Path(__file__).parent))

from tiny_run import make_tiny

from minidl.models import MODELS


@pytest.fixture(autouse=True)
def _tiny_model(monkeypatch):
    monkeypatch.setitem(MODELS, "tiny", make_tiny)
    monkeypatch.setenv("MINIDL_BACKEND", "numpy")
