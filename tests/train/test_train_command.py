"""`python -m minidl.train`: as a process on the bundled sample, and its answers to mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tolerance import assert_close, terms
from train_command import run

import minidl
from minidl.train import checkpoint, recipe
from minidl.train.__main__ import main

SHORT = ["lenet", "multitask", "--sample", "--updates", "6", "--batch-size", "16", "--eval-every", "4"]
NAME = "lenet-multitask-sample-mn2-n16-seed0-length6u-evalevery4"


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
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
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
    content = json.loads((folder / "config.json").read_text("utf-8"))
    assert content["config"]["length"] == "6u"
    assert content["plan"]["lr_drops_after_updates"] == [5, 6]
    assert "5/7 and 6/7" in content["note"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == [4, 6]
    assert set(lines[0]["gates"]) == {"1", "5"}
    for line in lines:
        for gates in line["gates"].values():
            assert len(gates["usage"]) == 2
            assert_close(sum(gates["usage"]), 1, terms(16, 1, "float32"))
            assert 0 <= gates["sample_entropy"] <= gates["entropy"] + terms(16, 1, "float32")


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
    config = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["config"]
    expected = {**flags, "model": "lenet", "task": "mnist", "length": "14", "lr_drops": ["1u", "0.5e"], "sample": True}
    newer = {
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
        "norm_at": "all",
        "image_size": 224,
        "corrupt": "refuse",
        "nesterov": False,
        "tensorboard": None,
        "test_share": 0.2,
        "start_from": None,
        "sync_norm": False,
        "ranks": 1,
    }
    assert config == {**expected, "data_dir": None, "device": None, "per_mode_affine": False, "rarer": None, **newer}
    assert config.keys() == recipe("lenet", "mnist").to_json().keys()


@pytest.mark.usefixtures("no_curves")
def test_drops_can_be_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = ["lenet", "mnist", "--sample", "--updates", "2", "--batch-size", "8", "--out", "run", "--quiet"]
    assert main([*args, "--lr-drops", "none"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["plan"]["lr_drops_after_updates"] == []
