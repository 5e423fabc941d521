"""Promise 15: what is printed may go nowhere, or lack letters, and the picture fail: the run is the same."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_run import train

import minidl
from minidl.train import plots

PYTHON = shlex.quote(sys.executable)
RUN = "lenet mnist --sample --norm none --updates 3 --eval-every 1 --batch-size 8 --threads 1"


def shell(folder, command, **environment):
    """Run a line of bash in a folder; `T` in it is the training command."""
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1]), **environment}
    line = command.replace("T ", f"{PYTHON} -m minidl.train ", 1)
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, errors="replace", timeout=300
    )


def finished(folder):
    return json.loads((folder / "summary.json").read_text("utf-8"))["status"] == "finished"


def test_a_run_whose_reader_left_goes_on_to_its_end(tmp_path):
    done = shell(tmp_path, f"T {RUN} --out R | head -1; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")
    assert finished(tmp_path / "R")


@pytest.mark.parametrize("argument", ["--list", "--help"])
def test_a_listing_that_nobody_reads_ends_quietly(tmp_path, argument):
    done = shell(tmp_path, f"set -o pipefail; T {argument} | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")


LISTINGS = ["minidl", "minidl.train --list", "minidl.reproduce table1 --help", "minidl.check list"]


@pytest.mark.parametrize("what", LISTINGS)
def test_a_listing_that_cannot_be_printed_is_one_line_and_one_that_nobody_reads_is_none(tmp_path, what):
    status = 2 if what == "minidl.check list" else 1
    done = shell(tmp_path, f"{PYTHON} -m {what} > /dev/full")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1), done.stderr
    assert done.stderr.endswith("standard output: No space left on device; free some space\n")
    done = shell(tmp_path, f"{PYTHON} -m {what} | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_mistake_that_cannot_be_told_has_its_status(tmp_path):
    done = shell(tmp_path, "T lenet mnist --sample --norm none --updates none 2> /dev/full")
    assert (done.returncode, done.stdout) == (2, "")


def test_without_standard_error_or_output_the_run_is_whole(tmp_path):
    done = shell(tmp_path, f"T {RUN} --out R 2>&- >&-")
    assert done.returncode == 0
    assert finished(tmp_path / "R")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_an_encoding_lacks_is_replaced(tmp_path, encoding):
    done = shell(tmp_path, f"T {RUN} --out 'ö一'", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert finished(tmp_path / "ö一")


def test_a_picture_that_cannot_be_drawn_is_a_warning(tmp_path, monkeypatch, capsys):
    def fail(*args):
        raise RuntimeError("no\nfonts")

    monkeypatch.setattr(plots, "draw_run", fail)
    trainer = train(tmp_path / "run")
    assert (tmp_path / "run" / "summary.json").exists()
    assert trainer.run()["status"] == "finished"
    err = capsys.readouterr().err
    assert "curves.png could not be drawn (RuntimeError: no fonts); the run itself is whole" in err


def test_a_home_that_is_not_there_costs_no_word_of_matplotlibs_cache(tmp_path):
    home = {"HOME": "/dev/null/none", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "", "MPLCONFIGDIR": ""}
    done = shell(tmp_path, f"T {RUN} --out R", MINIDL_BACKEND="numpy", **home)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "R" / "curves.png").exists()


@pytest.mark.parametrize("setting", [{"text.usetex": True}, {"font.family": ["No Such Font"]}])
def test_the_users_own_settings_of_matplotlib_do_not_matter(tmp_path, setting):
    import matplotlib

    with matplotlib.rc_context(setting):
        train(tmp_path / "run")
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_backend_is_our_own_choice(tmp_path):
    args = [
        "lenet",
        "mnist",
        "--sample",
        "--norm",
        "none",
        "--updates",
        "1",
        "--batch-size",
        "8",
        "--quiet",
        "--out",
        "R",
    ]
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1]), "MPLBACKEND": "module://absent.backend"}
    command = [sys.executable, "-m", "minidl.train", *args]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "R" / "curves.png").exists()


def test_the_users_own_settings_of_matplotlib_do_not_matter_to_a_measurement_and_a_table(tmp_path):
    import matplotlib

    from minidl.bench import plot, record
    from minidl.reproduce.drawing import draw_table

    rounds = [np.array([0.001]), np.array([0.002])]
    records = [record.header([], against_torch=False), record.record("steps", "step", None, 4, 2, rounds, rounds)]
    cell = SimpleNamespace(column="BN", paper=(1.0, 0.1), runs={}, field="", sample=lambda when: None)
    results = SimpleNamespace(rows={"row": {"BN": cell}}, table=SimpleNamespace(title="title"))
    with matplotlib.rc_context({"text.usetex": True, "font.family": ["No Such Font"]}):
        plot.draw(records, tmp_path / "bench.png")
        table = draw_table(results, [], {"reported by": "minidl"})
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert table.startswith(b"\x89PNG")
