"""How functions are compiled and kept on disk: the bits are the same either way."""

import errno
import importlib
import os
import pkgutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")

import numba
from numba.core.caching import CacheImpl
from numba.core.dispatcher import Dispatcher

from minidl.engines import numba as engine
from minidl.engines.numba import kept

CONVOLUTION = """
import hashlib
import numpy as np
import minidl

def bits(x):
    return hashlib.sha256(np.ascontiguousarray(x)).hexdigest()

with minidl.use_backend("numba"):
    rng = np.random.default_rng(0)
    layer = minidl.Conv2d(16, 16, 3, 1, 1, rng=rng)
    x = rng.standard_normal((64, 16, 8, 8)).astype("f4")
    y = layer.forward(x)
    dx = layer.backward(rng.standard_normal(y.shape).astype("f4"))
print(bits(y), bits(dx), bits(layer.grads["weight"]))
"""


def output(program: str, cache: Path) -> str:
    """Run a program in a process of its own, which keeps its compiled code in a folder."""
    env = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_run_that_compiles_gives_the_bits_of_every_later_one(tmp_path):
    assert output(CONVOLUTION, tmp_path) == output(CONVOLUTION, tmp_path)


def test_what_a_compiled_function_calls_becomes_part_of_it():
    seen = 0
    for found in pkgutil.iter_modules(engine.__path__):
        module = importlib.import_module(f"{engine.__name__}.{found.name}")
        for name, function in vars(module).items():
            if isinstance(function, Dispatcher) and function.py_func.__module__ == module.__name__:
                called = (function.py_func.__globals__.get(each) for each in function.py_func.__code__.co_names)
                for each in called:
                    if isinstance(each, Dispatcher):
                        seen += 1
                        options = each.targetoptions
                        in_order = options.get("no_cpython_wrapper") and "reassoc" not in options["fastmath"]
                        assert options.get("forceinline") or in_order, f"{module.__name__}.{name} calls {each}"
    assert seen > 50


INNER = "from minidl.engines.numba.compile import jit\n\n\n@jit(inner=True)\ndef twice(x):\n    return 2 * x\n"
OUTER = (
    "from inner import twice\nfrom minidl.engines.numba.compile import jit\n\n\n@jit\ndef f(x):\n    return twice(x)\n"
)


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """Return a function that loads two files as a new process would; it returns a value and how often it compiled."""
    (tmp_path / "inner.py").write_text(INNER)
    (tmp_path / "outer.py").write_text(OUTER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.setattr(kept, "_said", set())

    def load() -> tuple[float, int]:
        kept._sources.cache_clear()
        for name in ("inner", "outer"):
            sys.modules.pop(name, None)
        outer = importlib.import_module("outer")
        return outer.f(3.0), sum(outer.f.stats.cache_misses.values())

    yield load
    for name in ("inner", "outer"):
        sys.modules.pop(name, None)


def test_code_on_disk_is_out_of_date_when_a_file_that_it_calls_has_changed(loaded, tmp_path):
    assert loaded() == (6, 1)
    assert loaded() == (6, 0)
    (tmp_path / "inner.py").write_text(INNER.replace("2 * x", "5 * x"))
    assert loaded() == (15, 1)


def test_code_on_disk_is_out_of_date_when_the_places_of_the_board_have_changed(loaded, tmp_path, monkeypatch):
    places = tmp_path / "elsewhere" / "hand_over.py"
    places.parent.mkdir()
    places.write_text("CODE = 56\n")
    monkeypatch.setattr(kept, "_PLACES", places)
    assert loaded() == (6, 1)
    assert loaded() == (6, 0)
    places.write_text("CODE = 57\n")
    assert loaded() == (6, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_that_is_forked_while_another_thread_compiles_compiles_too(tmp_path):
    (tmp_path / "outer.py").write_text(
        """
import os, signal, threading, time, warnings
from numba.core.compiler_lock import global_compiler_lock
from minidl.engines.numba.compile import jit
warnings.simplefilter("ignore")  # newer Pythons warn of forking with threads: that is what is tried here
compiles = threading.Event()

@jit
def f(x):
    return 2 * x

def compile():
    with global_compiler_lock:
        compiles.set()
        time.sleep(1)  # the longer, the surer is what this test finds

thread = threading.Thread(target=compile)
thread.start()
compiles.wait()
if (child := os.fork()) == 0:
    signal.alarm(120)  # ends what hangs
    os._exit(f(3) != 6)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert f(3) == 6
thread.join()
"""
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    subprocess.run([sys.executable, tmp_path / "outer.py"], check=True, timeout=400, env=environment)


DAMAGE = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "garbage": lambda content: b"garbage" * 99,
    "one bit": lambda content: content[:-3000] + bytes([content[-3000] ^ 1]) + content[-2999:],
}


@pytest.mark.parametrize(
    ("damage", "ending"),
    [(damage, ending) for damage in DAMAGE for ending in ("nbc", "nbi") if (damage, ending) != ("one bit", "nbi")],
)
def test_damaged_code_on_disk_is_dropped_and_compiled_anew_with_one_line(damage, ending, loaded, tmp_path, caplog):
    assert loaded() == (6, 1)
    (path,) = tmp_path.glob(f"kept/*/*.{ending}")
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    caplog.clear()
    assert loaded() == (6, 1)
    (said,) = (record.getMessage() for record in caplog.records if "compiled anew" in record.getMessage())
    assert str(path.parent) in said
    assert loaded() == (6, 0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
@pytest.mark.parametrize("ending", ["nbc", "nbi"])
@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a link to nothing"])
def test_what_is_no_file_in_the_place_of_code_hangs_nothing(kind, ending, loaded, tmp_path):
    assert loaded() == (6, 1)
    (path,) = tmp_path.glob(f"kept/*/*.{ending}")
    path.unlink()
    {"a pipe": os.mkfifo, "a folder": os.mkdir, "a link to nothing": lambda p: p.symlink_to("gone")}[kind](path)
    before = signal.signal(signal.SIGALRM, lambda *args: pytest.fail("it waits for a pipe"))
    signal.alarm(60)
    try:
        assert loaded() == (6, 1)
        assert loaded() == (6, int(kind == "a folder"))  # which stays, and nothing is kept in its place
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_code_of_another_function_is_damage(loaded, tmp_path):
    (tmp_path / "outer.py").write_text(OUTER + "\n\n@jit\ndef g(x):\n    return 7 * x\n")
    outer = loaded() and sys.modules["outer"]
    assert outer.g(3.0) == 21
    f, g = sorted(tmp_path.glob("kept/*/*.nbc"))
    f.write_bytes(g.read_bytes())
    assert loaded() == (6, 1)


def test_a_full_disk_costs_the_code_on_it_and_one_line(loaded, monkeypatch, caplog):
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(kept._Files, "_dump", full)
        assert loaded() == loaded() == (6, 1)
    (said,) = (record.getMessage() for record in caplog.records if "cannot be kept" in record.getMessage())
    assert os.strerror(errno.ENOSPC) in said
    assert loaded() == (6, 1)
    assert loaded() == (6, 0)


def test_where_no_folder_can_be_written_each_run_compiles(loaded, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    (own,) = (each for each in CacheImpl._locator_classes if each.__name__.endswith("UserProvidedCacheLocator"))
    monkeypatch.setattr(CacheImpl, "_locator_classes", [own])  # older Numbas have an underscore before its name
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file" / "kept"))
    monkeypatch.setattr(kept, "_temporary_folder", lambda: str(tmp_path / "file" / "temporary"))
    assert loaded() == loaded() == (6, 1)
    assert [record.getMessage() for record in caplog.records if "no folder" in record.getMessage()]
