"""Settings for the whole suite: hypothesis repeats the same examples in CI, and looks for new ones elsewhere.

A test that is marked `layer_runs.EACH_LIBRARY` runs once on NumPy and once on `strict`, the stand-in for CuPy: what
it makes and moves with minidl is then of that library. Marked `EACH_ENGINE` it runs on the compiled engine besides.
"""

import os
import signal
from collections.abc import Iterator

import pytest
import strict
from hypothesis import settings

from minidl import backend, log, use_backend

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(autouse=True)
def _plain_log() -> Iterator[None]:
    """Show what minidl says as a command does: pytest's own handler would take it from the outputs."""
    with log.plainly():
        yield


@pytest.fixture(autouse=True, scope="session")
def _compiled_without_a_word() -> Iterator[None]:
    """Leave out the line about compiling: said once in a process, it would come in whichever test compiles first."""
    warn = log.warn

    def warn_of_the_rest(name: str, line: str) -> None:
        if not line.startswith("compiling for this processor"):
            warn(name, line)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "warn", warn_of_the_rest)
        yield


@pytest.fixture(autouse=True)
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    """Make parameters with this library, or compute with this engine, during the test."""
    name = getattr(request, "param", None)
    if name == "strict":
        with strict.as_cupy(), use_backend("cupy"):
            yield name
    elif name == "numba":
        pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")
        with use_backend("numba"):
            yield name
    elif name == "numpy":
        with use_backend("numpy"):  # whatever MINIDL_BACKEND says
            yield name
    else:
        yield "numpy"


@pytest.fixture
def foreground() -> Iterator[None]:
    """Take signals as in the foreground of a terminal: under `nohup`, or with `&` in a script, some are ignored."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    ignored = [signum for signum in usual if signal.getsignal(signum) is signal.SIG_IGN]
    for signum in ignored:
        signal.signal(signum, usual[signum])
    yield
    for signum in ignored:
        signal.signal(signum, signal.SIG_IGN)


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Choose backends as where MINIDL_BACKEND is not set."""
    monkeypatch.delenv("MINIDL_BACKEND", raising=False)
    backend._of_environment.cache_clear()
    yield
    backend._of_environment.cache_clear()
