"""How functions are compiled and kept on disk: the bits are the same either way."""

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")

from numba.core.dispatcher import Dispatcher

from minidl.engines import numba as engine

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
