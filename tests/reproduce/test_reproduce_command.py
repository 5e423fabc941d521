"""`python -m minidl.reproduce`: figure2, overhead, and the answers to mistakes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_tables import read_csv
from tiny_table import SHORT

import minidl
from minidl.bench.timing import QUICK
from minidl.reproduce import overhead
from minidl.reproduce.__main__ import main
from minidl.reproduce.store import Store


def test_figure_2_draws_the_modes_of_finished_runs(trained, capsys):
    assert main(["figure2", *SHORT, "--out", str(trained)]) == 0
    assert "1 runs in" in (out := capsys.readouterr().out)
    assert "1 done, 0 to be resumed, 0 to be run" in out
    stem = "figure2-sample-scale0.1"
    for name in (f"{stem}-mn2-images.png", f"{stem}-mn2-datasets.png"):
        assert (trained / name).read_bytes().startswith(b"\x89PNG")
    rows, about = read_csv(trained / f"{stem}-datasets.csv")
    (run,) = (r for r in Store(trained).read().values() if r.config.norm == "mn" and r.config.seed == 0)
    usage = run.result()["last"]["gates"]
    assert len(rows) == 2 * 2 * 4  # layers, modes, datasets of 290 images each
    for layer in usage:
        for k in range(2):
            gates = [float(row["mean_gate"]) for row in rows if (row["layer"], row["mode"]) == (layer, str(k + 1))]
            assert sum(gates) / 4 == pytest.approx(usage[layer]["usage"][k], abs=1e-5)  # the file has six decimals
    images, _ = read_csv(trained / f"{stem}-images.csv")
    assert len(images) == 2 * 2 * 10
    assert [float(row["gate"]) for row in images[:10]] == sorted(
        (float(row["gate"]) for row in images[:10]), reverse=True
    )
    assert about["command"] == "python -m minidl.reproduce figure2 --sample --scale 0.1"
    page = (trained / f"{stem}.md").read_text("utf-8")
    assert "| MN K=2 | 5 | " in page
    assert "**Shortened: " in page
    assert main(["figure2", *SHORT, "--out", str(trained), "--only", "MN K=2"]) == 0
    _, about = read_csv(trained / f"{stem}-datasets.csv")
    assert about["command"] == "python -m minidl.reproduce figure2 --sample --scale 0.1 --only 'MN K=2'"


def test_overhead_times_every_norm_and_counts_its_parameters(tmp_path, monkeypatch):
    monkeypatch.setattr(overhead.write_overhead, "__defaults__", (QUICK,))
    assert main(["overhead", "--scale", "0.5", "--out", str(tmp_path)]) == 0
    rows, about = read_csv(tmp_path / "overhead-scale0.5.csv")
    assert [row["norm"] for row in rows] == ["BN", *(f"MN K={k}" for k in (1, 2, 4, 6, 8, 16))]
    assert float(rows[0]["ratio_to_bn"]) == 1
    assert all(float(row["milliseconds"]) > 0 for row in rows)
    for row, k in zip(rows, (0, 1, 2, 4, 6, 8, 16), strict=True):
        assert int(row["parameters"]) == int(rows[0]["parameters"]) + k * (6 + 1 + 16 + 1)  # Psi: C weights, a bias
    assert rows[4]["paper_percent"] == "5.0"
    page = (tmp_path / "overhead-scale0.5.md").read_text("utf-8")
    assert "**Shortened: 0.5 of the full number of rounds.**" in page
    assert f"- machine: {about['machine']}" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: WHAT"),
        (["table6"], "invalid choice: 'table6'"),
        (["table1", "--seeds", "0"], "argument --seeds: must be a whole number from 1 up, got '0'"),
        (["table1", "--jobs", "1.5"], "argument --jobs: must be a whole number from 1 up, got '1.5'"),
        (["table2", "--scale", "0"], "argument --scale: must be above 0 and at most 1, such as 0.1, got '0'"),
        (["table2", "--scale", "2"], "at most 1, such as 0.1, got '2'"),
        (["table2", "--scale", "nan"], "at most 1, such as 0.1, got 'nan'"),
        (["table2", "--scale", "half"], "at most 1, such as 0.1, got 'half'"),
        (["table5", "--sample", "--data-dir", "x"], "not allowed with argument"),
        (["table5", "--backend", "torch"], "invalid choice: 'torch'"),
        (["figure2", "--seeds", "3"], "unrecognized arguments: --seeds 3"),
        (["overhead", "--sample"], "unrecognized arguments: --sample"),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert line.startswith("minidl.reproduce: ")
    assert words in line
    assert line.endswith("(--help lists the arguments)")


def test_data_that_is_not_there_is_one_line_and_status_4(tmp_path, capsys):
    assert main(["table1", "--data-dir", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "none" in line


def test_a_results_folder_that_cannot_be_made_is_one_line_and_status_1(tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["overhead", "--out", str(tmp_path / "file")]) == 1
    assert main(["table1", *SHORT, "--out", str(tmp_path / "file")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line == f"minidl.reproduce: {tmp_path / 'file'} is a file, not a folder; give another --out"


@pytest.mark.parametrize("arguments", [["table1", *SHORT], ["table1", "--report-only"], ["overhead"]])
def test_processes_that_would_all_do_the_same_are_refused_before_anything_is_written(
    tiny, tmp_path, monkeypatch, capsys, arguments
):
    monkeypatch.setenv("PMI_SIZE", "3")
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "minidl.reproduce: 3 processes were started that would all do the same; "
        "mpiexec -n 3 python -m mpi4py.futures -m minidl.reproduce ... lets rank 0 hand out the runs\n",
    )
    assert not (tmp_path / "out").exists()


def test_where_every_run_fails_each_is_named_and_not_the_table_that_is_empty(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minidl.reproduce.command._train", lambda *args: ["BN failed: no room", "MN failed: no room"])
    assert main(["table1", *SHORT, "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == ("minidl.reproduce: BN failed: no room\nminidl.reproduce: MN failed: no room\n")
    assert list(tmp_path.iterdir()) == []


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys, minidl.reproduce.__main__ as command\n"
        "try: command.main(['table1', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = 'matplotlib scipy tqdm safetensors pooch cupy threadpoolctl torch'.split()\n"
        "assert not [name for name in heavy if name in sys.modules]\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True, stdout=subprocess.DEVNULL)
