"""`python -m minidl.train`: as a process on the bundled sample, and its answers to mistakes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_run import result

import minidl
from minidl.train import checkpoint, recipe
from minidl.train.__main__ import main

SHORT = ["lenet", "multitask", "--sample", "--updates", "6", "--batch-size", "16", "--eval-every", "4"]
NAME = "lenet-multitask-sample-mn2-n16-seed0-length6u-evalevery4"


def start(folder, *args):
    """Start the command in a folder."""
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-m", "minidl.train", *map(str, args)]
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(folder, *args):
    """Run the command; return its status, standard output and standard error."""
    process = start(folder, *args)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run on the sample: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    status, out, err = run(folder, *SHORT, "--threads", "1")
    assert (status, err) == (0, "")
    return folder / "runs" / NAME, out


def test_a_run_says_what_data_it_found_and_ends_with_the_last_and_best_error(finished):
    folder, out = finished
    for name, total in (("mnist", 60000), ("cifar-10", 50000), ("svhn", 73257), ("fashion-mnist", 60000)):
        assert f"{name}: 1150 of {total} training images, 290 of" in out
    *_, last, best, where = out.splitlines()
    summary = json.loads((folder / "summary.json").read_text())
    for line, kind in ((last, "last"), (best, "best")):
        assert line.startswith(f"{kind}: epoch")
        assert f"test error {summary[kind]['test_error']:.2f} % (mnist " in line
        assert all(f"{name} {error:.2f}" in line for name, error in summary[kind]["test_errors"].items())
    assert where.endswith(f"runs/{NAME}")


def test_a_run_leaves_configuration_log_summary_curves_and_checkpoints(finished):
    folder, _ = finished
    assert {path.name for path in folder.iterdir()} == {
        ".lock",
        "config.json",
        "metrics.jsonl",
        "losses.jsonl",
        "summary.json",
        "curves.png",
        "checkpoints",
    }
    content = json.loads((folder / "config.json").read_text())
    assert content["config"]["length"] == "6u"
    assert content["plan"]["lr_drops_after_updates"] == [5, 6]
    assert "5/7 and 6/7" in content["note"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 6]
    assert set(lines[0]["gates"]) == {"1", "5"}
    for line in lines:
        for gates in line["gates"].values():
            assert len(gates["usage"]) == 2
            assert sum(gates["usage"]) == pytest.approx(1)
            assert 0 <= gates["sample_entropy"] <= gates["entropy"] + 1e-6


def test_a_checkpoint_holds_parameters_running_statistics_velocity_and_random_states(finished):
    folder, _ = finished
    tensors, meta = checkpoint.load(folder / "checkpoints" / "step-000000006.safetensors")
    names = {name.rpartition(".")[2] for name in tensors}
    assert names == {"weight", "bias", "running_mean", "running_mean_square"}
    parameters = {
        name.removeprefix("model.") for name in tensors if name.startswith("model.") and "running" not in name
    }
    assert parameters == {name.removeprefix("optimiser.velocity.") for name in tensors if name.startswith("optimiser.")}
    assert meta["loader"]["rng"]["bit_generator"] == meta["random"]["dropout"]["bit_generator"] == "PCG64"


def test_the_same_command_gives_the_same_bytes_with_another_number_of_threads(finished, tmp_path):
    status, _, err = run(tmp_path, *SHORT, "--threads", "2", "--out", "again")
    assert (status, err) == (0, "")
    assert result(tmp_path / "again") == result(finished[0])


LONGER = ["lenet", "mnist", "--sample", "--updates", "150", "--batch-size", "8", "--eval-every", "60", "--norm", "bn"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted command gives."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder, *LONGER, "--threads", "1", "--out", "run")[0] == 0
    return result(folder / "run")


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_resumed_gives_the_bytes_of_the_uninterrupted_one(tmp_path, whole, signum, status):
    process = start(tmp_path, *LONGER, "--threads", "1", "--out", "cut", "--checkpoint-every", "2")
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("cut/checkpoints/step*")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "saved in cut; --resume goes on from there" in err
    assert len(err.splitlines()) == 1
    code, out, err = run(tmp_path, "--out", "cut", "--resume", "--threads", "1")
    assert (code, err) == (0, "")
    assert "resuming cut after update" in out
    assert result(tmp_path / "cut") == whole


def test_quiet_prints_the_result_alone(tmp_path):
    status, out, err = run(tmp_path, "lenet", "mnist", "--sample", "--updates", "1", "--quiet", "--norm", "none")
    assert (status, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()[:2]] == ["last", "best"]
    assert len(out.splitlines()) == 3


@pytest.mark.parametrize("argument", ["--help", "--list"])
def test_help_and_list_import_nothing_heavy(tmp_path, argument):
    code = (
        "import sys, minidl.train.__main__ as command\n"
        f"try: command.main([{argument!r}])\n"
        "except SystemExit: pass\n"
        "heavy = 'matplotlib scipy tqdm safetensors pooch cupy threadpoolctl torch'.split()\n"
        "assert not [name for name in heavy if name in sys.modules]\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True, stdout=subprocess.DEVNULL)


def test_list_names_models_tasks_norms_and_recipes(capsys):
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    for word in ("lenet", "multitask", "cifar100", "mgn", "mode group normalization", "Table 1", "lenet svhn"):
        assert word in out


MISTAKES = [
    (["lenet"], 2, "give a model and a task, such as: python -m minidl.train lenet multitask --sample"),
    (["lenett", "multitask"], 2, "unknown model 'lenett'; did you mean 'lenet'?"),
    (["lenet", "minst"], 2, "unknown task 'minst'; did you mean 'mnist'?"),
    (["lenet", "mnist", "--norm", "b"], 2, "unknown norm 'b'"),
    (["lenet", "mnist", "--modes", "0"], 2, "--modes must be at least 1, got 0"),
    (
        ["lenet", "mnist", "--modes", "two"],
        2,
        "argument --modes: must be a whole number, several or auto, such as 2 or 2,6, got 'two'",
    ),
    (["lenet", "mnist", "--modes", "2,0"], 2, "--modes must be at least 1, got 2,0; give a whole number from 1 up"),
    (["lenet", "mnist", "--modes", "2,3,4", "--sample"], 2, "--modes must be one K or 2, one for each norm"),
    (["lenet", "mnist", "--modes", "2,", "--sample"], 2, "argument --modes: must be a whole number, several or auto"),
    (["lenet", "mnist", "--modes", "3", "--norm", "mn", "--rarer", "svhn"], 2, "write svhn/10"),
    (["lenet", "mnist", "--rarer", "svhn/10", "--sample"], 2, "the dataset must be one of mnist, got 'svhn'"),
    (["lenet", "mnist", "--norm", "gn", "--groups", "4", "--sample"], 2, "GroupNorm"),
    (["lenet", "mnist", "--lr", "-1"], 2, "--lr must be positive and finite, got -1.0"),
    (["lenet", "mnist", "--epochs", "0"], 2, "the length of a run must be positive"),
    (["lenet", "mnist", "--epochs", "3u"], 2, "argument --epochs: must be a plain number, got '3u'"),
    (["lenet", "mnist", "--updates", "some"], 2, "argument --updates: must be a plain number, got 'some'"),
    (["lenet", "mnist", "--epochs", "3", "--updates", "4"], 2, "not allowed with argument --epochs"),
    (["lenet", "mnist", "--lr-drops", "10e,soon"], 2, "'soon' is no span of training; write 15e (epochs), 50000u"),
    (["lenet", "mnist", "--sample", "--data-dir", "."], 2, "not allowed with argument --sample"),
    (["lenet", "mnist", "--sample", "--batch-size", "9999"], 2, "--batch-size must be at most 1150"),
    (["lenet", "mnist", "--colour", "blue"], 2, "unrecognized arguments: --colour blue"),
    (["lenet", "mnist", "--backend", "gpu"], 2, "unknown backend 'gpu'; choose from numpy, numba, cupy, auto"),
    (["lenet", "mnist", "--data-dir", "absent"], 4, "absent"),
    (["lenet", "mnist", "--sample", "--resume"], 1, "holds no run to resume; leave out --resume"),
    (["--resume", "--out", "absent"], 1, "absent holds no run to resume; leave out --resume"),
    (["lenet", "mnist", "--sample", "--out", "file/run"], 1, "Not a directory; choose another --out"),
]


@pytest.mark.parametrize(
    ("args", "status", "message"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_mistake_gets_one_line_with_the_cure_and_a_status(tmp_path, monkeypatch, capsys, args, status, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    try:
        code = main([*args, "--quiet"])
    except SystemExit as left:  # argparse
        code = left.code
    assert code == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("minidl.train: ")
    assert message in err
    assert err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_truncated_data_file_gets_one_line(tmp_path):
    sample = Path(minidl.__file__).parent / "data" / "sample" / "mnist"
    folder = tmp_path / "mnist"
    folder.mkdir()
    for path in sample.iterdir():
        data = path.read_bytes()
        (folder / path.name).write_bytes(data[: len(data) // 2] if "train-images" in path.name else data)
    status, _, err = run(tmp_path, "lenet", "mnist", "--data-dir", tmp_path, "--updates", "1")
    assert status == 4
    assert "Traceback" not in err
    assert "train-images" in err.splitlines()[-1]


@pytest.mark.usefixtures("no_curves")
def test_a_run_is_neither_overwritten_nor_resumed_with_other_settings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    args = ["lenet", "mnist", "--sample", "--updates", "2", "--batch-size", "8", "--out", "run", "--quiet"]
    assert main(args) == 0
    before = result(tmp_path / "run")
    capsys.readouterr()
    assert main([*args, "--seed", "1"]) == 1
    assert capsys.readouterr().err == (
        "minidl.train: run already holds a run; --resume continues it, another --out starts a new one\n"
    )
    assert main([*args, "--resume", "--lr", "0.2", "--norm", "bn"]) == 1
    assert capsys.readouterr().err == (
        "minidl.train: run holds another run: norm 'mn' there, 'bn' asked; lr 0.1 there, 0.2 asked. "
        "Leave those settings out, or give another --out\n"
    )
    assert main(["--out", "run", "--resume", "--quiet"]) == 0
    assert main(args) == 0
    assert "done already, in run; to train it anew give another --out, or remove" in capsys.readouterr().out
    assert result(tmp_path / "run") == before


@pytest.mark.usefixtures("no_curves")
def test_a_command_repeated_before_its_run_is_finished_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    args = ["lenet", "mnist", "--sample", "--updates", "2", "--batch-size", "8", "--quiet"]
    assert main(args) == 0
    (tmp_path / "runs" / "lenet-mnist-sample-mn2-n8-seed0-length2u" / "summary.json").unlink()
    capsys.readouterr()
    assert main(args) == 1
    assert "holds this run, not finished; --resume continues it" in capsys.readouterr().err


@pytest.mark.usefixtures("no_curves")
def test_a_run_in_its_own_folder_is_resumed_by_the_command_that_started_it_with_the_data_it_had(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample = str(Path(minidl.__file__).parent / "data" / "sample")
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "cache"))
    args = ["lenet", "mnist", "--updates", "2", "--batch-size", "8", "--quiet"]
    assert main([*args, "--data-dir", sample]) == 0
    before = result(tmp_path / "runs" / "lenet-mnist-mn2-n8-seed0-length2u")
    assert main([*args, "--resume"]) == 0
    assert (
        main([*args, "--resume", "--sample", "--out", "runs/lenet-mnist-mn2-n8-seed0-length2u"]) == 0
    )  # the same images
    assert result(tmp_path / "runs" / "lenet-mnist-mn2-n8-seed0-length2u") == before


def test_a_backend_that_cannot_be_used_gets_one_line_with_the_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minidl.backend.why_no_cupy", lambda: "cupy finds no CUDA device; install the NVIDIA driver")
    assert main(["lenet", "mnist", "--sample", "--backend", "cupy", "--quiet"]) == 1
    assert capsys.readouterr().err == (
        "minidl.train: backend cupy cannot be used: cupy finds no CUDA device; install the NVIDIA driver\n"
    )


@pytest.mark.usefixtures("no_curves")
def test_a_loss_that_is_not_finite_exits_with_3_and_names_update_and_cure(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    args = ["lenet", "mnist", "--sample", "--updates", "9", "--batch-size", "8", "--out", "run", "--quiet"]
    assert main([*args, "--lr", "1e30"]) == 3
    err = capsys.readouterr().err
    assert "is not finite at update" in err or "the loss is " in err
    assert "(lr 1e+30), first in " in err
    assert "; lower --lr" in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("no_curves")
def test_every_flag_of_the_recipe_reaches_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = {
        "norm": "gn", "modes": 3, "groups": 2, "norm_momentum": 0.3, "batch_size": 7, "lr": 0.03, "momentum": 0.8,
        "weight_decay": 1e-4, "drop_factor": 0.5, "augment": "flip-crop", "seed": 5, "backend": "numpy", "threads": 1,
        "dtype": "float64", "eval_every": 2, "checkpoint_every": 3, "optimiser": "adam", "betas": [0.8, 0.9],
        "eps": 1e-4, "schedule": "step", "warmup": "1u", "label_smoothing": 0.1, "log_every": 2,
    }  # fmt: skip
    texts = {name: "0.8,0.9" if name == "betas" else str(value) for name, value in flags.items()}
    given = [text for name, value in texts.items() for text in (f"--{name.replace('_', '-')}", value)]
    assert (
        main(
            [
                "lenet",
                "mnist",
                *given,
                "--sample",
                "--touches",
                "14",
                "--lr-drops",
                "1u,0.5e",
                "--out",
                "run",
                "--quiet",
            ]
        )
        == 0
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    expected = {**flags, "model": "lenet", "task": "mnist", "length": "14", "lr_drops": ["1u", "0.5e"], "sample": True}
    newer = {
        "norm_at": "all",
        "image_size": 224,
        "corrupt": "refuse",
        "nesterov": False,
        "tensorboard": None,
        "test_share": 0.2,
        "start_from": None,
        "max_modes": 8,
        "auto_by": "prune",
        "auto_strength": 0.01,
        "auto_threshold": 0.05,
        "auto_window": "1/60",
        "auto_until": "2/3",
        "gate_input": "plain",
        "gate_lr": 1.0,
        "gate_weight_decay": None,
        "gate_temperature": 1.0,
    }
    assert config == {**expected, "data_dir": None, "device": None, "per_mode_affine": False, "rarer": None, **newer}
    assert config.keys() == recipe("lenet", "mnist").to_json().keys()


@pytest.mark.usefixtures("no_curves")
def test_drops_can_be_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = ["lenet", "mnist", "--sample", "--updates", "2", "--batch-size", "8", "--out", "run", "--quiet"]
    assert main([*args, "--lr-drops", "none"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["plan"]["lr_drops_after_updates"] == []
