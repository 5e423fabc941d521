"""A C program reads the vectors, computes batch and mode normalization, and is judged by verify."""

import os
import shutil
import subprocess
import sys
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
        subprocess.run([program, vector, written / vector.name], check=True, timeout=300)
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


def test_the_recipe_of_the_guide_accepts_a_right_program_word_for_word(tmp_path):
    guide = (Path(__file__).parents[2] / "docs" / "check-your-layer.md").read_text("utf-8")
    lines = [line[2:] for line in guide.partition("## Another language")[2].splitlines() if line.startswith("$ ")]
    assert [line.split()[0] for line in lines[:4]] == ["python", "mkdir", "for", "python"]
    program = tmp_path / "my_program"
    subprocess.run(
        [COMPILER, "-O1", "-DBUG=0", "-o", str(program), str(SOURCE), "-lm"], check=True, capture_output=True
    )
    folders = [
        str(Path(sys.executable).parent),
        os.environ.get("PATH", ""),
        str(Path(minidl.check.__file__).parents[2]),
    ]
    paths = {"PATH": os.pathsep.join(folders[:2]), "PYTHONPATH": folders[2]}
    script = "set -e\n" + "\n".join(lines[:4])
    ran = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env={**os.environ, **paths}, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " 0 failed" in ran.stdout.splitlines()[-1]


def test_outputs_are_graded_by_the_dtype_the_program_computes_in(tmp_path):
    written = outputs(tmp_path, 0, "batch_norm", "*-shape-*")
    assert check.verify(VECTORS, written, "batch_norm", dtype="float64").exit_code == 0
    for path in written.iterdir():
        from minidl.check import safetensors

        tensors, _ = safetensors.read(path)
        narrow = {name: value.astype("float32").astype("float64") for name, value in tensors.items()}
        path.write_bytes(safetensors.dumps(narrow, {}))
    assert check.verify(VECTORS, written, "batch_norm", dtype="float64").exit_code == 1
    assert check.verify(VECTORS, written, "batch_norm", dtype="float32").exit_code == 0
