"""What a command was given by mistake is named with what was meant."""

import sys

import numpy as np
import pytest
from photographs import photographs
from tiny_run import make_tiny

import minidl
from minidl.__main__ import main as minidl_command
from minidl.evaluate.__main__ import main as evaluate
from minidl.export.__main__ import main as export
from minidl.models import ANY_SIZE, MODELS, ONE_SIZE
from minidl.predict.__main__ import main as predict
from minidl.reproduce.__main__ import main as reproduce
from minidl.train import RunError
from minidl.train.__main__ import main

pytestmark = pytest.mark.usefixtures("no_curves")
TR = ["lenet", "folder", "--data-dir", "photos", "--threads", "1", "--quiet", "--batch-size", "4"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "cache"))
    monkeypatch.setitem(MODELS, "tiny", make_tiny)
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "photos")
    return tmp_path


def said(capsys, command, *arguments):
    """Return the status and what a command says on stderr, one line."""
    try:
        status = command([*arguments])
    except SystemExit as stopped:
        status = stopped.code
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return status, err


def test_an_exported_network_is_no_damaged_checkpoint(folder, capsys):
    tiny = ["tiny", *TR[1:], "--norm", "bn", "--out", "R"]
    assert main([*tiny, "--updates", "1"]) == 0
    files = ["pow.safetensors", "pow.pt"]
    assert export(["R", "--safetensors", files[0], "--torch", files[1]]) == 0
    try:
        import onnx  # noqa: F401
    except ImportError:
        (folder / "pow.onnx").write_bytes(b"\x08\x08\x12\x06minidl")
    else:
        assert export(["R", "--onnx", "pow.onnx"]) == 0
    capsys.readouterr()
    for file in (*files, "pow.onnx"):
        line = f"{file} is no checkpoint of minidl but an exported network; give the run's folder or a file in its"
        for command, *rest in (
            [predict, file, "photos"],
            [export, file, "--torch", "b.pt"],
            [evaluate, file],
            [main, *tiny[:-1], "S", "--from", file],
        ):
            status, err = said(capsys, command, *rest)
            assert (status, line in err) == (1, True), err
        with pytest.raises(RunError, match="is no checkpoint of minidl but an exported network"):
            minidl.load(file)


def test_a_module_in_the_current_folder_is_found_by_the_installed_command(folder, monkeypatch, capsys):
    here = str(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", here)])
    (folder / "my_adapter.py").write_text("from minidl.check.adapters.minidl import Adapter as Mine\n")
    try:
        assert minidl_command(["check", "run", "my_adapter:Mine", "--layer", "layer_norm", "--case", "plain"]) != 2
        assert capsys.readouterr().err == ""
    finally:
        sys.modules.pop("my_adapter", None)
    assert here not in sys.path


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["--resume"], "--resume must go with the run's folder; give it: --out runs/NAME --resume"),
        (["photos", "--resume"], "give it: --out photos --resume"),
        (["--from", "runs/r"], "the model and the task too, such as: lenet folder --data-dir DIR --from runs/r"),
        (
            [*TR, "--image-size", "64"],
            "it takes 32; leave --image-size out, or take a network that takes any size: nin",
        ),
        ([*TR, "--image-size", "8"], "it takes 32; leave --image-size out, or take a network that takes any size: nin"),
        ([*TR, "--optimizer", "adam"], "; did you mean --optimiser? ("),
        ([*TR, "--nrom", "bn"], "; did you mean --norm? ("),
        ([*TR, "--nrom=bn"], "; did you mean --norm=bn? ("),
        (["lenet", "folder", "--datadir", "photos"], "; did you mean --data-dir? ("),
        (["lenet", "folder", "-data-dir", "photos"], "; did you mean --data-dir? ("),
        (["lenet", "folder", "photos"], "; give the data as --data-dir photos ("),
        (["lenet", "folder", "--data-dir", "my", "photos"], "; a path with a space stands in quotes: 'my photos' ("),
        (["lenet", "folder", "--data-dir=my", "photos"], "; a path with a space stands in quotes: 'my photos' ("),
        (
            ["lenet", "folder", "--data-dir", "Bilder", "ä"],
            "; a name with a space stands in quotes, such as 'my photos' (",
        ),
    ],
)
def test_a_slip_gets_the_cure(folder, capsys, arguments, cure):
    (folder / "my photos").mkdir()
    status, err = said(capsys, main, *arguments)
    assert (status, cure in err) == (2, True), err
    assert not (folder / "runs").exists()


def test_the_run_that_is_started_from_says_what_the_command_lacks(folder, capsys):
    assert main(["tiny", *TR[1:], "--norm", "bn", "--out", "R", "--updates", "1"]) == 0
    capsys.readouterr()
    _, err = said(capsys, main, "--from", "R")
    assert f"such as: tiny folder --data-dir {folder / 'photos'} --from R" in err


@pytest.mark.parametrize("command", ["evaluate", "predict", "export", "check", "bench", "reproduce", "parity"])
def test_every_command_says_which_option_was_meant(capsys, command):
    module = __import__(f"minidl.{command}.__main__", fromlist=["main"])
    given = {
        "evaluate": ["R", "--smaple"],
        "predict": ["R", "x.png", "--tpo", "3"],
        "export": ["R", "--onxn", "x.onnx"],
        "check": ["run", "my:Norm", "--layr", "batch_norm"],
        "bench": ["--quik"],
        "reproduce": ["table1", "--sede", "1"],
        "parity": ["--jsn", "x.json"],
    }[command]
    meant = {"evaluate": "sample", "predict": "top", "export": "onnx", "check": "layer"}
    meant |= {"bench": "quick", "reproduce": "seeds", "parity": "json"}
    status, err = said(capsys, module.main, *given)
    assert (status, f"did you mean --{meant[command]}?" in err) == (2, True), err


def test_the_sizes_that_networks_take_are_as_they_are_said_to_be():
    assert {*ONE_SIZE, *ANY_SIZE} == MODELS.keys() - {"tiny"}
    for name in MODELS.keys() - {"tiny"}:
        net = MODELS[name](
            num_classes=2, in_channels=3, norm=None, rng=np.random.default_rng(0), dtype="float32"
        ).eval()
        for side in (32, 40 if name in ANY_SIZE else 72):
            x = np.zeros((1, 3, side, side), np.float32)
            if name in ONE_SIZE and side != 32:
                with pytest.raises(ValueError, match="x must be"):
                    net.forward(x)
            else:
                assert net.forward(x).shape == (1, 2)


def test_numbers_and_files_of_another_form_get_the_cure(folder, capsys):
    np.save(folder / "x0.npy", np.zeros((3, 4, 4), np.uint8))
    np.savez(folder / "x.npz", images=np.zeros((3, 4, 4), np.uint8), labels=[0, 1, 1])
    for arguments, status, cure in (
        ([*TR, "--lr", "0,02"], 2, "'0,02'; write it with a point, 0.02 ("),
        (
            [*TR, "--test-share", "0.999"],
            2,
            "--test-share 0.999 leaves 2 images to train on, fewer than a batch of 4; lo",
        ),
        (
            ["lenet", "arrays", "--data-dir", "x0.npy"],
            4,
            "np.savez('x0.npz', train_images=images, train_labels=labels)",
        ),
        (["lenet", "folder", "--data-dir", "x.npz"], 4, "arrays are the task arrays, which takes an .npz file"),
    ):
        assert said(capsys, main, *arguments)[0] == status
        assert cure in said(capsys, main, *arguments)[1]


def test_an_option_that_only_some_commands_of_a_command_take_is_said_to_be_theirs(folder, capsys):
    for given, hint in (
        (["overhead", "--data-dir", "photos"], "overhead takes no --data-dir"),
        (["overhead", "--data-dir=photos"], "overhead takes no --data-dir"),
        (["--sample", "overhead"], "only some of its commands take --sample, behind their name"),
    ):
        status, line = said(capsys, reproduce, *given)
        assert status == 2
        assert f"; {hint} (--help lists the arguments)" in line
