"""Commands under mpiexec: how the tests start them, and why they may not."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


def find_mpiexec():
    """Return mpiexec: that beside this Python, which comes with mpich, before any other."""
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec")


MPIEXEC = find_mpiexec()
WHY_NOT = (
    "mpi4py is not installed: pip install 'minidl[mpi]'"
    if find_spec("mpi4py") is None
    else "there is no mpiexec: pip install 'minidl[mpi]'"
    if MPIEXEC is None
    else ""
)
needs_mpi = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


def command(ranks, *words, runner=("-m", "mpi4py")):
    return [MPIEXEC, "-n", str(ranks), sys.executable, *runner, *map(str, words)]


def environment():
    """Return one of a command of its own, on one thread."""
    package = str(Path(__file__).parents[2])
    return {**os.environ, "MINIDL_BACKEND": "numpy", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": package}


def mpi(ranks, *words, runner=("-m", "mpi4py"), timeout=300):
    """Run a Python module or file on so many ranks and return what it did."""
    return subprocess.run(
        command(ranks, *words, runner=runner), capture_output=True, text=True, timeout=timeout, env=environment()
    )


def train_words(out, *words):
    """Return the arguments of a short training run."""
    short = ["--sample", "--batch-size", "6", "--updates", "6", "--eval-every", "3", "--checkpoint-every", "2"]
    return ["-m", "minidl.train", "lenet", "mnist", *short, "--norm", "bn", "--threads", "1", "--out", out, *words]
