"""The tiny network under a name that configurations can give, and what its run gives."""

from collections.abc import Iterator

import pytest
from tiny_fixtures import _tiny_model, no_curves, uninterrupted

__all__ = ["_numpy_by_default", "_tiny_model", "no_curves", "uninterrupted"]


@pytest.fixture(scope="package", autouse=True)
def _numpy_by_default() -> Iterator[None]:
    """Let commands of this folder compute with numpy, here and in processes of their own, where none is named."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIDL_BACKEND", "numpy")
        yield


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A new working folder, with a cache of decoded data of its own."""
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path
