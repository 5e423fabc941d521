"""Fixtures of the tiny run, for the folders that break it and for those that do not."""

import pytest
from tiny_run import make_tiny, result, train

from minidl.models import MODELS
from minidl.train import plots


@pytest.fixture(autouse=True)
def _tiny_model():
    with pytest.MonkeyPatch.context() as patch:  # its own, so that a test may undo what it patched
        patch.setitem(MODELS, "tiny", make_tiny)
        yield


@pytest.fixture
def no_curves(monkeypatch):
    """Leave out the drawing, which takes longer than a tiny run."""
    monkeypatch.setattr(plots, "draw_run", lambda *args: None)


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """What the tiny run gives when nothing happens to it."""
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "tiny", make_tiny)
        patch.setattr(plots, "draw_run", lambda *args: None)
        train(out)
    return result(out)
