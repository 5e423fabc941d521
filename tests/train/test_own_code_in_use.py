"""A norm of one's own that misbehaves once it is trained is named in one line by all that use the network."""

import sys

import pytest
from photographs import photographs
from tiny_run import make_tiny

import minidl
from minidl.evaluate.__main__ import main as evaluate
from minidl.export.__main__ import main as export
from minidl.models import MODELS
from minidl.predict.__main__ import main as predict
from minidl.train.__main__ import main as train
from minidl.train.late import LateError

pytestmark = pytest.mark.usefixtures("no_curves")

NORM = """import os
import numpy as np
from minidl import BatchNorm


class Mine(BatchNorm):
    def forward(self, x):
        y = super().forward(x)
        return eval(os.environ.get("MINE", "y"))
"""
NETWORK = """import os
from minidl import Flatten, Layer, Linear, Sequential


class Half(Layer):
    def forward(self, x):
        return eval(os.environ.get("HALF", "x"))

    def backward(self, dy):
        return dy


def net(num_classes, rng, dtype):
    return Sequential(Half(), Flatten(), Linear(3 * 32 * 32, num_classes, rng=rng, dtype=dtype))
"""
COMMANDS = {
    "predict": lambda: predict(["R", "photos"]),
    "evaluate": lambda: evaluate(["R"]),
    "export": lambda: export(["R", "--safetensors", "w.safetensors"]),
}
NAMED = "layer 2 (Mine).forward: "
WRONG = {
    "None": "the output must be an array, got None",
    "[y]": "the output must be an array, got a list of 1",
    "y[:-1]": "a norm must give an output of its input's shape (2, ",
    "y[:, :-1]": "a norm must give an output of its input's shape (2, ",
    "y * 1j": "the output must be of a real floating dtype, got complex64",
    "y.astype(str)": "the output must be of a real floating dtype, got <U32",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "cache"))
    monkeypatch.setitem(MODELS, "tiny", make_tiny)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "my_net.py").write_text(NETWORK)
    photographs(tmp_path / "photos")
    (tmp_path / "my_env.py").write_text(NORM)
    run = ["tiny", "folder", "--data-dir", "photos", "--norm", "my_env:Mine", "--batch-size", "4", "--threads", "1"]
    assert train([*run, "--quiet", "--out", "R", "--updates", "2"]) == 0
    yield tmp_path
    sys.modules.pop("my_env", None)
    sys.modules.pop("my_net", None)


def said(capsys):
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_a_norm_must_not_give_is_named_at_loading(capsys, monkeypatch, command):
    capsys.readouterr()
    for wrong, what in WRONG.items():
        monkeypatch.setenv("MINE", wrong)
        assert COMMANDS[command]() == 1
        err = said(capsys)
        assert f"minidl.{command}: --norm my_env:Mine: {NAMED}{what}" in err, err
        assert err.endswith("(Mine.forward, my_env.py, line 7); mend it\n"), err


def test_a_norm_that_raises_is_named_with_its_line(capsys, monkeypatch):
    capsys.readouterr()
    monkeypatch.setenv("MINE", "[][1]")
    for command in COMMANDS.values():
        assert command() == 1
        err = said(capsys)
        assert "its forward pass failed on images (2, 3, 32, 32)" in err
        assert ": IndexError: list index out of range (my_env.py, line 9); mend it\n" in err


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ("None if x.any() else y", "the output must be an array, got None (Mine.forward, my_env.py, line 7); mend it"),
        ("y[:-1] if x.any() else y", "a norm must give an output of its input's shape"),
        ("y[:, :-1] if x.any() else y", "a norm must give an output of its input's shape"),
        ("y * 1j if x.any() else y", "the output must be of a real floating dtype, got complex64"),
        ("[][1] if x.any() else y", "IndexError: list index out of range"),
    ],
)
def test_what_goes_wrong_on_images_alone_is_named_too(capsys, monkeypatch, wrong, what):
    monkeypatch.setenv("MINE", wrong.replace("x.any()", "(len(x) > 2)"))
    capsys.readouterr()
    for command, doing in (("predict", "prediction"), ("evaluate", "evaluation")):
        assert COMMANDS[command]() == 1
        err = capsys.readouterr().err.splitlines()[-1]
        assert f"minidl.{command}: --norm my_env:Mine: in {doing}: " in err, err
        assert what in err, err


def test_a_nan_says_that_the_norm_may_have_a_mistake(capsys, monkeypatch):
    monkeypatch.setenv("MINE", "y * np.float32(np.nan)")
    capsys.readouterr()
    for command in ("predict", "evaluate"):
        assert COMMANDS[command]() == 3
        err = said(capsys)
        assert "first in the output of layer 2 (Mine): " in err
        assert ", or look for a mistake in --norm my_env:Mine, or train it anew" in err


def test_from_python_it_is_an_error_with_the_line(monkeypatch):
    monkeypatch.setenv("MINE", "None")
    with pytest.raises(LateError, match=r"layer 2 \(Mine\)\.forward: the output must be an array, got None"):
        minidl.load("R")


def test_a_layer_of_ones_own_is_named_where_the_next_one_cannot_take_its_output(capsys, monkeypatch):
    run = ["my_net:net", "folder", "--data-dir", "photos", "--norm", "none", "--batch-size", "4", "--threads", "1"]
    assert train([*run, "--image-size", "32", "--quiet", "--out", "N", "--updates", "2"]) == 0
    capsys.readouterr()
    for wrong in ("x[:, :-1]", "None", "x * 1j"):
        monkeypatch.setenv("HALF", wrong)
        assert predict(["N", "photos"]) == 1
        err = said(capsys)
        assert "model my_net:net: " in err
        assert "record is damaged" not in err
        assert "layer 0 (Half)" in err, err
        assert "(Half.forward, my_net.py, line 6)" in err, err
