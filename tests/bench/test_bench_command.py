"""`python -m minidl.bench`: as a process on a tiny selection, without PyTorch, and its answers to mistakes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tolerance import assert_close, terms

import minidl
from minidl.bench import __main__ as command
from minidl.bench import processes, record

HAS_TORCH = importlib.util.find_spec("torch") is not None
FIELDS = {
    "section",
    "what",
    "norm",
    "modes",
    "batch",
    "threads",
    "unit",
    "minidl_ms",
    "torch_ms",
    "ratio",
    "ratio_low",
    "ratio_high",
}


def run(folder, *args):
    """Run the command as a process; return its status, standard output and standard error."""
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    line = [sys.executable, "-W", "error", "-m", "minidl.bench", *args]
    done = subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


def quick(capsys, tmp_path, *args):
    """Run a quick selection in this process; return its records and standard error."""
    file = tmp_path / "bench.json"
    assert command.main(["--quick", "--threads", "1", "--json", str(file), *args]) == 0
    return record.load(file)[1:], capsys.readouterr().err


@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed")
def test_a_run_against_pytorch_prints_a_table_and_leaves_records_and_a_chart(tmp_path):
    args = [
        "--against",
        "torch",
        "--quick",
        "--only",
        "steps",
        "memory",
        "--batch",
        "3",
        "--norms",
        "bn",
        "--threads",
        "1",
    ]
    status, out, err = run(tmp_path, *args, "--json", "bench.json", "--plot", "bench.png")
    assert (status, "Traceback" in err) == (0, False), err
    about, *rows = json.loads((tmp_path / "bench.json").read_text("utf-8"))
    assert {"python", "numpy", "torch", "blas"} <= about["versions"].keys()
    assert about["command"].startswith("python -m minidl.bench --against torch --quick")
    assert {"cpu", "cores", "date", "threads", "rounds"} <= about.keys()
    steps = [row for row in rows if row["section"] == "steps"]
    assert [(row["what"], row["norm"], row["modes"], row["batch"]) for row in steps] == [
        ("lenet step", "bn", None, 3),
        ("lenet step, PyTorch pools first", "bn", None, 3),
    ]
    for row in steps:
        assert row.keys() >= FIELDS
        assert row["minidl_ms"] > 0
        assert row["torch_ms"] > 0
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
    memory = [row for row in rows if row["section"] == "memory"]
    assert all(row["torch_baseline_mib"] > row["minidl_baseline_mib"] > 5 for row in memory)
    assert {row["unit"] for row in memory} == {"MiB"}
    assert "lenet step, PyTorch pools first" in out
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_without_pytorch_it_says_so_in_one_line_and_measures_minidl_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "minidl.bench.torch_side", raising=False)
    monkeypatch.delattr("minidl.bench.torch_side", raising=False)
    rows, err = quick(capsys, tmp_path, "--against", "torch", "--only", "steps", "--batch", "3", "--norms", "gn")
    lines = [line for line in err.splitlines() if "busy" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("minidl.bench: PyTorch cannot be imported")
    assert lines[0].endswith("minidl is measured alone (pip install torch)")
    assert [(row["norm"], row["torch_ms"], row["ratio"]) for row in rows] == [("gn", None, None)]
    assert rows[0]["minidl_ms"] > 0


def test_pytorch_is_imported_only_when_asked_for(tmp_path):
    program = "import sys; from minidl.bench.__main__ import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    args = ["--quick", "--only", "steps", "--batch", "3", "--norms", "bn"]
    done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_layers_are_each_measured_once_forward_and_backward(tmp_path, capsys):
    rows, _ = quick(capsys, tmp_path, "--only", "layers", "--batch", "3", "--norms", "bn,mn2,none")
    assert all(row.keys() >= FIELDS and row["minidl_ms"] > 0 for row in rows)
    names = [(row["what"], row["norm"], row["modes"], row["pass"]) for row in rows]
    assert len(set(names)) == len(names)
    for what, norm, k in (
        ("Conv2d 5×5, 3×32×32 → 6×28×28", None, None),
        ("Conv2d 5×5, 6×14×14 → 16×10×10", None, None),
        ("MaxPool2d 6×28×28 → 6×14×14", None, None),
        ("BatchNorm 6×28×28", "bn", None),
        ("ModeNorm 16×10×10", "mn", 2),
        ("Linear 400 → 120", None, None),
        ("SoftmaxCrossEntropy", None, None),
    ):
        assert {(what, norm, k, "forward"), (what, norm, k, "backward")} <= set(names)
    assert names[-1][3] == "step"


def test_convolutions_say_how_much_arithmetic_they_are(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("minidl.bench.cases.CONVOLUTIONS", (("net", 5, 7),))
    (row,), _ = quick(capsys, tmp_path, "--only", "convolutions", "--batch", "3")
    flop = 6 * 3 * 7 * 7 * 5 * 5 * 9
    assert_close(row["gflop"], flop / 1e9, terms(4, flop / 1e9))
    assert row["minidl_ms"] > 0


def test_modes_are_compared_with_one_mode(tmp_path, capsys):
    rows, _ = quick(capsys, tmp_path, "--only", "modes", "--batch", "3")
    assert [(row["norm"], row["modes"]) for row in rows] == [*(("mn", k) for k in (1, 2, 4, 6, 8, 16)), ("bn", None)]
    assert rows[0]["ratio"] == 1
    assert all(row["ratio"] > 0 and "MN K=1" in row["ratio_is"] for row in rows)


def test_threads_are_compared_with_one_thread(tmp_path, capsys):
    rows, _ = quick(capsys, tmp_path, "--only", "threads", "--batch", "40", "--norms", "bn", "--threads", "2")
    assert [(row["threads"], row["ratio_is"]) for row in rows] == [(2, "time on 1 thread / on 2")]
    rows, err = quick(capsys, tmp_path, "--only", "threads", "--threads", "1")
    assert rows == []
    assert "there is only one thread" in err


def test_the_loader_is_measured_with_and_without_augmentation(tmp_path, capsys):
    rows, _ = quick(capsys, tmp_path, "--only", "loader", "--batch", "64")
    assert [row["what"].split(",")[0] for row in rows] == ["plain", "flip and crop"]
    for row in rows:
        assert row["images_per_second"] == round(64e3 / row["minidl_ms"])


def test_the_import_is_measured_over_an_empty_python_and_beside_numpy(tmp_path, capsys, monkeypatch):
    now, start = [0.0], processes._python

    def timed(option, program):
        start(option, program)
        now[0] += {"pass": 1.0, "import numpy": 3.0, "import minidl": 4.5}[program]  # seconds

    monkeypatch.setattr(processes, "_python", timed)
    monkeypatch.setattr(processes, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    (row,), _ = quick(capsys, tmp_path, "--only", "import")
    assert (row["minidl_ms"], row["numpy_ms"]) == (3500, 2000)


def test_what_was_measured_before_an_interrupt_is_saved(tmp_path, capsys, monkeypatch):
    def interrupted(settings):
        yield record.record("steps", "lenet step")
        raise KeyboardInterrupt

    monkeypatch.setitem(command.MEASURE, "steps", interrupted)
    file = tmp_path / "bench.json"
    assert command.main(["--json", str(file)]) == 130
    assert len(record.load(file)) == 2
    assert capsys.readouterr().err.endswith(f"minidl.bench: interrupted; {file} holds what was measured\n")


def test_a_saved_run_is_shown_and_drawn_again(tmp_path, capsys):
    quick(capsys, tmp_path, "--only", "modes", "--batch", "3")
    assert command.main(["--read", str(tmp_path / "bench.json"), "--plot", str(tmp_path / "bench.png")]) == 0
    assert "MN K=16" in capsys.readouterr().out
    assert (tmp_path / "bench.png").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--batch", "4,x"], "argument --batch: must be whole numbers of at least 1, got 'x'"),
        (["--batch", "0"], "argument --batch: must be whole numbers of at least 1, got '0'"),
        (
            ["--norms", "mn"],
            "argument --norms: a norm must be one of none, bn, in, ln, gn, mnK or mgnK such as mn2, got 'mn'",
        ),
        (["--models", "alexnet"], "argument --models: must be one of"),
        (["--threads", "-1"], "argument --threads: must be whole numbers of at least 1, got '-1'"),
        (["--only", "everything"], "argument --only: invalid choice: 'everything'"),
        (["--against", "jax"], "argument --against: invalid choice: 'jax'"),
        (["--json", "no/such/folder.json"], "argument --json: no/such must be a folder that exists; make it first"),
        (["--plot", "bench.txt"], "argument --plot: bench.txt must end in one of .png, .pdf, .svg"),
        (["step"], "unrecognized arguments: step"),
    ],
)
def test_wrong_arguments_are_answered_in_one_line(capsys, args, message):
    with pytest.raises(SystemExit) as stopped:
        command.main(args)
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"minidl.bench: {message}")
    assert err.endswith("(--help lists the arguments)\n")


def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path, capsys):
    assert command.main(["--read", str(tmp_path / "none.json")]) == 1
    assert (
        capsys.readouterr().err
        == f"minidl.bench: {tmp_path}/none.json: No such file or directory; choose another file\n"
    )


def test_data_that_is_not_there_is_named_in_one_line(tmp_path, capsys):
    args = ["--quick", "--only", "loader", "--data-dir", str(tmp_path)]
    assert command.main(args) == 1
    err = [line for line in capsys.readouterr().err.splitlines() if "busy" not in line]
    assert len(err) == 1
    assert str(tmp_path) in err[0]
