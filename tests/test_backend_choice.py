"""Which backend and which GPU are chosen, by whom, and what is said where one cannot be used."""

import importlib
import os
import subprocess
import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import strict

from minidl import BackendError, Linear, backend, use_backend
from minidl.train import Config, ConfigError

PIP = "pip install 'minidl[cuda12x]' (or cuda13x, to match the driver)"

pytestmark = pytest.mark.usefixtures("plain_environment")


def fake_cupy(monkeypatch, available=True, failure=None):
    """Put a cupy that this machine may lack into sys.modules."""
    cupy = ModuleType("cupy")
    cupy.is_available = lambda: available

    def arange(n):
        if failure is not None:
            raise failure
        return np.arange(n)

    cupy.arange = arange
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy


def test_the_default_is_numpy():
    assert backend.resolve() == "numpy"
    assert backend.default_module() is np


@pytest.mark.parametrize("ask", [lambda: backend.resolve("torch"), lambda: use_backend("torch").__enter__()])
def test_an_unknown_backend_is_refused(ask):
    with pytest.raises(BackendError) as caught:
        ask()
    assert str(caught.value) == "backend must be one of numpy, numba, cupy, auto, got 'torch'; choose one of them"


def test_the_variable_is_asked_where_nobody_says_otherwise(monkeypatch):
    cupy = fake_cupy(monkeypatch)
    monkeypatch.setenv("MINIDL_BACKEND", "cupy")
    assert backend.resolve() == "cupy"
    assert backend.default_module() is cupy
    assert backend.resolve("numpy") == "numpy"
    with use_backend("numpy"):
        assert backend.default_module() is np
    monkeypatch.setenv("MINIDL_BACKEND", "nonsense")
    assert backend.default_module() is cupy  # read once, when first needed
    backend._of_environment.cache_clear()
    with pytest.raises(BackendError, match=r"^MINIDL_BACKEND must be one of numpy, .* got 'nonsense'"):
        backend.default_module()
    with pytest.raises(BackendError, match=r"^backend must be one of numpy, .* got 'torch'"):
        backend.resolve("torch")
    with pytest.raises(ConfigError, match=r"^unknown backend 'nonsense'; .*; MINIDL_BACKEND names it$"):
        Config(backend="nonsense")
    with pytest.raises(ConfigError, match=r"^unknown backend 'gpu'; choose from numpy, numba, cupy, auto$"):
        Config(backend="gpu")


def test_use_backend_holds_inside_the_block_alone(monkeypatch):
    cupy = fake_cupy(monkeypatch)
    with use_backend("cupy") as xp:
        assert xp is cupy is backend.default_module()
        with use_backend("numpy") as inner:
            assert inner is np is backend.default_module()
        assert backend.default_module() is cupy
    assert backend.default_module() is np
    with pytest.raises(KeyError), use_backend("cupy"):
        raise KeyError
    assert backend.default_module() is np


NO_CUPY = {
    "not installed": (None, f"cupy is not installed (import of cupy halted; None in sys.modules); {PIP}"),
    "no device": (
        {"available": False},
        "cupy finds no CUDA device; install the NVIDIA driver or run on a machine with a GPU",
    ),
    "no compiler": (
        {"failure": RuntimeError("CuPy failed to load libnvrtc.so\nand says more")},
        f"cupy cannot run a kernel (RuntimeError: CuPy failed to load libnvrtc.so); {PIP}",
    ),
    "an error without a word": (
        {"failure": MemoryError()},
        f"cupy cannot run a kernel (MemoryError: ); {PIP}",
    ),
}


@pytest.mark.parametrize("what", NO_CUPY)
def test_a_cupy_that_cannot_be_used_is_an_error_with_reason_and_cure_and_never_a_silent_fallback(what, monkeypatch):
    settings, reason = NO_CUPY[what]
    if settings is None:
        monkeypatch.setitem(sys.modules, "cupy", None)
    else:
        fake_cupy(monkeypatch, **settings)
    for ask in (lambda: backend.resolve("cupy"), lambda: use_backend("cupy").__enter__()):
        with pytest.raises(BackendError) as caught:
            ask()
        assert str(caught.value) == f"backend cupy cannot be used: {reason}"
    assert backend.default_module() is np


def test_auto_falls_back_and_says_so(monkeypatch, capsys):
    fake_cupy(monkeypatch, available=False)
    monkeypatch.setattr(backend, "has_gpu", lambda: False)
    monkeypatch.setitem(sys.modules, "numba", None)
    with use_backend("auto") as xp:
        assert xp is np
        Linear(3, 4)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "minidl: backend auto: numpy, since "
        "numba cannot be imported (import of numba halted; None in sys.modules); pip install 'minidl[fast]'\n"
    )


@pytest.mark.parametrize("gpu", [False, True])
def test_auto_takes_numba_before_numpy_and_says_so_and_why_not_the_gpu_that_is_there(monkeypatch, capsys, gpu):
    fake_cupy(monkeypatch, available=False)
    monkeypatch.setattr(backend, "has_gpu", lambda: gpu)
    fake = ModuleType("numba")
    fake.__dict__.update(njit=None, config=SimpleNamespace(DISABLE_JIT=0, CPU_NAME=None, CPU_FEATURES=None))
    registry = SimpleNamespace(cpu_target=SimpleNamespace(target_context=SimpleNamespace(refresh=lambda: None)))
    for name, module in (("numba", fake), ("numba.core", fake), ("numba.core.registry", registry)):
        monkeypatch.setitem(sys.modules, name, module)
    with use_backend("auto") as xp:
        assert xp is np
        assert backend.default_name() == "numba"
        assert backend.engine_name(np) == "numba"
    why = ", since cupy finds no CUDA device; install the NVIDIA driver or run on a machine with a GPU"
    assert capsys.readouterr().err == f"minidl: backend auto: numba{why * gpu}\n"
    assert backend.engine_name(np) == "numpy"


def test_numba_is_numpy_arrays_and_without_it_an_error_with_reason_and_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(BackendError) as caught:
        backend.resolve("numba")
    assert str(caught.value) == (
        "backend numba cannot be used: numba cannot be imported (import of numba halted; None in sys.modules); "
        "pip install 'minidl[fast]'"
    )


def test_a_numba_that_was_told_not_to_compile_is_named_and_auto_takes_numpy(monkeypatch, capsys):
    numba = pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    monkeypatch.setattr(backend, "why_no_cupy", lambda: "no CuPy")
    monkeypatch.setattr(backend, "has_gpu", lambda: False)
    with pytest.raises(BackendError) as caught:
        backend.resolve("numba")
    why = "numba does not compile, since NUMBA_DISABLE_JIT is set; unset it"
    assert str(caught.value) == f"backend numba cannot be used: {why}"
    assert backend.resolve("auto") == "numpy"
    assert capsys.readouterr().err == f"minidl: backend auto: numpy, since {why}\n"


def test_a_variable_that_numba_cannot_read_is_not_called_a_missing_numba():
    pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")
    code = "from minidl import backend; print(backend.why_no_numba())"
    env = {**os.environ, "NUMBA_NUM_THREADS": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.startswith("numba cannot be imported (")
    assert done.stdout.endswith("; look at the NUMBA_ variables\n")


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_folder_or_file_that_has_the_name_of_numba_is_not_taken_for_it(monkeypatch, tmp_path, what):
    place = tmp_path / ("numba" if what == "folder" else "numba.py")
    place.mkdir() if what == "folder" else place.touch()
    for name in [each for each in sys.modules if each.partition(".")[0] == "numba"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    reason = backend.why_no_numba()
    del sys.modules["numba"]
    assert reason == f"{place} has the name of Numba and is not Numba; rename it, or pip install 'minidl[fast]'"


def test_auto_takes_cupy_where_it_works(monkeypatch, capsys):
    cupy = fake_cupy(monkeypatch)
    with use_backend("auto") as xp:
        assert xp is cupy
    assert capsys.readouterr().err == ""


def test_auto_in_the_variable_says_so_once_however_many_parameters_there_are():
    without = "import sys; sys.modules |= {'cupy': None, 'numba': None}; "
    program = without + "import minidl; minidl.LeNet(norm=minidl.norm_factory('mn'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MINIDL_BACKEND": "auto"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("minidl: backend auto: numpy, since ")
    assert ("cupy is not installed" in done.stderr) == backend.has_gpu()


def test_a_gpu_is_there_where_its_driver_is(monkeypatch):
    monkeypatch.setattr("os.path.exists", lambda path: path == "/proc/driver/nvidia/version")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert backend.has_gpu()
    monkeypatch.setattr("os.path.exists", lambda path: False)
    assert not backend.has_gpu()
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name == "nvidia-smi" else None)
    assert backend.has_gpu()


# -- the device --------------------------------------------------------------------------------------------------------


def test_use_device_chooses_the_gpu_for_this_thread_inside_the_block():
    current = strict.cuda.runtime.getDevice
    with strict.as_cupy(), use_backend("cupy"):
        with backend.use_device(1):
            assert current() == 1
            with backend.use_device(0):
                assert current() == 0
            with backend.use_device(None):
                assert current() == 1
            others = []
            thread = threading.Thread(target=lambda: others.append(current()))
            thread.start()
            thread.join()
            assert others == [0]
        assert current() == 0
        with pytest.raises(KeyError), backend.use_device(1):
            raise KeyError
        assert current() == 0


@pytest.mark.parametrize("index", [2, -1])
def test_a_gpu_that_is_not_there_is_an_error_that_says_how_many_are(index):
    with strict.as_cupy(), use_backend("cupy"), pytest.raises(BackendError) as caught, backend.use_device(index):
        raise AssertionError("computing on another device than was asked for")
    assert str(caught.value) == f"device must be in [0, 2), got {index}; nvidia-smi lists the GPUs"


def test_a_device_asked_of_numpy_is_an_error_and_none_is_not():
    with backend.use_device(None):
        pass
    with pytest.raises(BackendError) as caught, backend.use_device(0):
        raise AssertionError("computing with numpy where a GPU was asked for")
    assert str(caught.value) == "device 0 cannot be used: the backend is numpy; ask for cupy (--backend cupy)"
