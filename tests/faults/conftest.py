"""The tiny run of tests/train and the small files of tests/data, to break in every way."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).parents[1] / "train"))

from tiny_fixtures import _tiny_model, no_curves, uninterrupted

__all__ = ["_numpy_by_default", "_tiny_model", "no_curves", "uninterrupted"]


@pytest.fixture(autouse=True)
def _numpy_by_default(monkeypatch):
    monkeypatch.setenv("MINIDL_BACKEND", "numpy")  # else a command says which it took
