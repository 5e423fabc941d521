"""A layer of one's own that goes wrong in the middle of a run is named in one line, and what was saved is whole."""

import sys

import pytest
from photographs import photographs
from tiny_run import make_tiny

from minidl.models import MODELS
from minidl.train import Config, Trainer
from minidl.train.__main__ import main
from minidl.train.late import LateError

pytestmark = pytest.mark.usefixtures("no_curves")

NORM = """from minidl import BatchNorm


class Tired(BatchNorm):
    calls = 0

    def forward(self, x):
        y = super().forward(x)
        Tired.calls += 1
        return FORWARD

    def backward(self, dy):
        dx = super().backward(dy)
        return BACKWARD


def late():
    return Tired.calls > 15


def once():
    return Tired.calls == 16
"""
RUN = [
    "tiny",
    "folder",
    "--batch-size",
    "4",
    "--threads",
    "1",
    "--quiet",
    "--data-dir",
    "photos",
    "--norm",
    "my_tired:Tired",
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "cache"))
    monkeypatch.setitem(MODELS, "tiny", make_tiny)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    photographs(tmp_path / "photos")
    yield tmp_path
    sys.modules.pop("my_tired", None)


def write(folder, forward="y", backward="dx"):
    (folder / "my_tired.py").write_text(NORM.replace("FORWARD", forward).replace("BACKWARD", backward))


def said(capsys):
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            "None if late() else y",
            "[y] if late() else y",
            "y[:, :-1] if late() else y",
            "y[:, :, :-1] if late() else y",
        ),
        *("y[:-2] if late() else y", "y[:, :, 0, 0] if late() else y", "y.astype('int32') if late() else y"),
    ],
)
def test_an_output_that_is_wrong_later_names_the_class_and_the_line(folder, capsys, wrong):
    write(folder, forward=wrong)
    assert main([*RUN, "--out", "R", "--updates", "9", "--checkpoint-every", "2"]) == 1
    err = said(capsys)
    assert err.startswith("minidl.train: --norm my_tired:Tired: in update 8: layer 2 (Tired).forward: "), err
    assert "(Tired.forward, my_tired.py, line 7)" in err
    assert err.endswith("; mend it and go on by --out R --resume --changed-code; what was saved is whole\n")
    assert list((folder / "R" / "checkpoints").iterdir())


@pytest.mark.parametrize(
    "wrong",
    [
        *("None if late() else dx", "dx[:-1] if late() else dx", "dx[:, :-1] if late() else dx"),
        *("dx[..., :-1] if late() else dx", "dx[:1] if late() else dx"),
        "dx * 1j if late() else dx",
    ],
)
def test_a_gradient_that_is_wrong_later_names_the_class_and_the_line(folder, capsys, wrong):
    write(folder, backward=wrong)
    assert main([*RUN, "--out", "R", "--updates", "9"]) == 1
    err = said(capsys)
    assert "in update 8: layer 2 (Tired).backward: the gradient of its input must be " in err
    assert "(Tired.backward, my_tired.py, line 12)" in err


def test_an_output_that_is_wrong_in_an_evaluation_is_named(folder, capsys):
    write(folder, forward="y if self.training or not late() else y[:-1]")
    assert main([*RUN, "--out", "R", "--updates", "9"]) == 1
    assert "in the evaluation after update 9: layer 2 (Tired).forward: a norm must give an output" in said(capsys)


@pytest.mark.parametrize(
    ("mode", "when"), [("not self.training", "the evaluation after update 9"), ("True", "update 8")]
)
def test_an_error_in_a_norm_names_it_and_the_update_or_the_evaluation(folder, capsys, mode, when):
    write(folder, forward=f"[][1] if late() and {mode} else y")
    assert main([*RUN, "--out", "R", "--updates", "9"]) == 1
    err = said(capsys)
    assert err.startswith(
        f"minidl.train: --norm my_tired:Tired: in {when}: IndexError: list index out of range (my_tired.py, line 10), "
    ), err


def test_an_output_that_was_wrong_once_names_the_layer_before_the_exception(folder, capsys):
    write(folder, forward="None if once() else y")
    assert main([*RUN, "--out", "R", "--updates", "9"]) == 1
    err = said(capsys)
    assert "in update 8: Tired gave what the next layer cannot take: AttributeError: 'NoneType'" in err
    assert "(class Tired, my_tired.py, line 4)" in err


def test_from_python_it_is_an_error_with_the_line_and_an_error_of_ones_own_stays(folder):
    write(folder, forward="None if late() else y")
    config = Config("tiny", "folder", norm="my_tired:Tired", data_dir="photos", length="9u", batch_size=4)
    with pytest.raises(LateError, match=r"in update 8: layer 2 \(Tired\)\.forward: .*; nothing was saved yet"):
        Trainer(config, quiet=True).run()
    write(folder, forward="[] [1] if late() else y")
    sys.modules.pop("my_tired")
    with pytest.raises(IndexError):
        Trainer(config, quiet=True).run()


def test_what_a_callback_raises_is_not_changed(folder):
    write(folder)

    def stop(evaluation):
        raise TypeError("mine")

    config = Config("tiny", "folder", norm="my_tired:Tired", data_dir="photos", length="3u", batch_size=4)
    with pytest.raises(TypeError, match=r"^mine$"):
        Trainer(config, quiet=True).run(on_evaluation=stop)
