"""The compiled code on disk: Numba's cache, whose failures cost the code that they met and never the run."""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

from minidl import hand_over, log
from minidl.files import open_file

_PLACES = Path(hand_over.__file__)  # it has the places of the board, which compiled code has as numbers
_said: set[str] = set()


def cache_of(function: Callable[..., Any]) -> Any:
    """Return what keeps the compiled code of a function; it keeps nothing where no folder can be written."""
    try:
        return _Kept(function)
    except (RuntimeError, OSError):  # no folder can be written
        pass
    try:
        numba.config.CACHE_DIR = _temporary_folder()
        return _Kept(function)
    except (RuntimeError, OSError) as error:
        _say("no folder for compiled code can be written", error)
        return NullCache()


class _Kept(FunctionCache):  # type: ignore[misc]
    """Code is out of date when any file beside the function's or `_PLACES` has changed; unreadable, it is dropped."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        locator = self._impl.locator
        stamp = (locator.get_source_stamp(), _sources(Path(function.__code__.co_filename).parent))
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code for a signature, or None: it then is compiled."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # whatever a damaged pickle raises
            _say(f"compiled code in {self._cache_path} cannot be read and is compiled anew", error)
        try:
            self._cache_file.drop()
        except OSError:
            self.disable()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep code, where there is room for it."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            self.disable()
            _say(f"compiled code cannot be kept in {self._cache_path}: each run compiles anew", error)


class _Files(IndexDataCacheFile):  # type: ignore[misc]
    """Numba's files; code carries a digest, since the linker takes damaged code without a word."""

    def drop(self) -> None:
        """Remove the index: what it names is written anew."""
        Path(self._index_path).unlink(missing_ok=True)

    def _load_index(self) -> Any:
        if os.path.lexists(self._index_path):
            open_file(self._index_path).close()  # a pipe would keep its reader waiting
        return super()._load_index()

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        super()._save_data(name, (_digest(name, content), content))

    def _load_data(self, name: str) -> Any:
        open_file(self._data_path(name)).close()
        digest, content = super()._load_data(name)
        if _digest(name, content) != digest:
            raise ValueError("its digest is another")
        return pickle.loads(content)


def _digest(name: str, content: bytes) -> bytes:
    """Return a digest of code and of the file that it belongs in: that of another function is damage too."""
    return hashlib.sha256(name.encode() + content).digest()


@lru_cache
def _sources(folder: Path) -> bytes:
    """Return a digest of all source files of a folder, and `_PLACES`: a function may use what is in any of them."""
    digest = hashlib.sha256()
    for path in (*sorted(folder.glob("*.py")), _PLACES):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def _say(what: str, error: Exception) -> None:
    """Say a thing once, with its reason."""
    kind = what.partition(" in ")[0]
    if kind not in _said:
        _said.add(kind)
        log.warn("minidl", f"{what} ({str(error).partition(chr(10))[0] or type(error).__name__})")


def _temporary_folder() -> str:
    """Return a folder that this user alone can write, the same in every process."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"minidl-numba-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not folder.is_symlink() and (not hasattr(os, "getuid") or found.st_uid == os.getuid()):
            folder.chmod(0o700)  # the umask may have closed it to its owner
            return str(folder)
    except OSError:
        pass
    return tempfile.mkdtemp(prefix="minidl-numba-")  # somebody else's: compiled anew by each process
