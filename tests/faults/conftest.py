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


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that stopped after an evaluation."""
    from tiny_run import make_tiny, train

    from minidl.models import MODELS

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "tiny", make_tiny)
        folder = tmp_path_factory.mktemp("stopped")
        train(folder / "run", until=11)
    return folder / "run"
