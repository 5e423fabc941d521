"""A C program reads the vectors, computes batch and mode normalization, and is judged by verify."""

import shutil
import subprocess
from pathlib import Path

import pytest

import minidl.check
from minidl import check
from minidl.check.suite import VECTORS

SOURCE = Path(minidl.check.__file__).parent / "examples" / "check_norms.c"
COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


def outputs(folder, bug, layer, pattern):
    program = folder / f"check_norms_{bug}"
    flags = ["-O1", "-Wall", "-Werror", f"-DBUG={bug}", "-o", str(program), str(SOURCE), "-lm"]
    subprocess.run([COMPILER, *flags], check=True, capture_output=True)
    written = folder / f"out_{bug}"
    written.mkdir()
    for vector in sorted((VECTORS / layer).glob(pattern)):
        subprocess.run([program, vector, written / vector.name], check=True, timeout=20)
    return written


@pytest.mark.parametrize("layer", ["batch_norm", "mode_norm"])
def test_a_right_c_program_is_accepted(tmp_path, layer):
    report = check.verify(VECTORS, outputs(tmp_path, 0, layer, "*float32*"), layer)
    assert report.exit_code == 0, report.text()
    assert report.count("passed") > 30


@pytest.mark.parametrize(
    ("bug", "layer", "name"),
    [
        (1, "batch_norm", "momentum swapped"),
        (2, "batch_norm", "running_var biased"),
        (3, "mode_norm", "eps outside the root"),
        (4, "batch_norm", "dx without the mean of dy"),
        (5, "mode_norm", "gate bias ignored"),
        (6, "batch_norm", "training formula in the backward of evaluation"),
    ],
)
def test_a_planted_bug_is_named(tmp_path, bug, layer, name):
    report = check.verify(VECTORS, outputs(tmp_path, bug, layer, "*-shape-*"), layer)
    assert report.exit_code == 1
    assert report.diagnosis[0].startswith(f"{layer}: {name}")
