"""Mistakes in a norm or a network of one's own: one line with the place in one's file, and nothing of a run is lost."""

import sys

import numpy as np
import pytest
from PIL import Image
from tiny_run import make_tiny

import minidl
from minidl.evaluate.__main__ import main as evaluate
from minidl.export.__main__ import main as export
from minidl.models import MODELS
from minidl.predict.__main__ import main as predict
from minidl.train.__main__ import main

pytestmark = pytest.mark.usefixtures("no_curves")

NORM = """import numpy as np

from minidl.norm.base import Norm


class Scale(Norm):
    def __init__(self, num_features, dtype="float32"):
        super().__init__(num_features, 1e-5, dtype)

    def small(self, m, v, values):
        weight, bias = self._affine()
        s = weight + 0 * v
        return s, s * m.value() + bias, m.value()

    def small_backward(self, ds, du, training, m):
        self.grads["weight"] += (ds + du * m).sum(axis=0)
        self.grads["bias"] += du.sum(axis=0)
        return self.params["weight"] * du, 0 * du
"""
RUN = ["tiny", "folder", "--batch-size", "4", "--threads", "1", "--quiet", "--data-dir", "photos"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with photographs of two classes and a norm that works; its cache and its modules are the test's own."""
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "cache"))
    monkeypatch.setitem(MODELS, "tiny", make_tiny)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a file that is changed within a second is read anew
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    (tmp_path / "my_scale.py").write_text(NORM)
    yield tmp_path
    forget()


def forget():
    """Let the next command import the file anew, as another process would."""
    sys.modules.pop("my_scale", None)


def rewrite(folder, old, new):
    text = (folder / "my_scale.py").read_text()
    assert old in text
    (folder / "my_scale.py").write_text(text.replace(old, new))
    forget()


def said(capsys):
    """Return what a command said on stderr, which is one line."""
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def train(*arguments, norm="my_scale:Scale", out="R"):
    return main([*RUN, "--norm", norm, "--out", out, *(arguments or ("--updates", "2"))])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("training, m):", "training m):", "importing my_scale failed: SyntaxError: "),
        ("import numpy as np", "import nunpy as np", "importing my_scale failed: ModuleNotFoundError: No module "),
        ("1e-5", "-1e-5", "making it failed: ValueError: Scale: eps must be > 0, got -1e-05; 1e-5 is usual "),
        ("0 * v", "0 * vv", "forward pass in training failed on images (4, 3, 32, 32): NameError: name 'vv'"),
        ("+ bias, m.value()", "+ bias", "forward pass in training failed on images (4, 3, 32, 32): ValueError: "),
        ("return s, s", "return s[0], s", "Scale.small: s and u must be (4, 5), got (5,) and (4, 5)"),
        ("du * m)", "du * mm)", "its backward pass failed on images (4, 3, 32, 32): NameError: name 'mm' is "),
        (", 0 * du", ", 0 * du[0]", "Scale.small_backward: dm and dv must be (4, 5), got (4, 5) and (5,)"),
        ("small_backward", "small_backwards", "Scale must define small_backward(ds, du, training, kept)"),
        ("0 * v", "(0 if self.training else 1 / 'a') * v", "its forward pass in evaluation failed on images"),
    ],
)  # fmt: skip
def test_an_error_in_the_norms_file_is_one_line_and_leaves_nothing_behind(folder, capsys, old, new, message):
    rewrite(folder, old, new)
    assert train() == 2
    err = said(capsys)
    assert message in err
    assert err.startswith("minidl.train: --norm my_scale:Scale: ")
    assert err.endswith("; mend it\n")
    assert not (folder / "R").exists()


def test_the_place_is_the_line_of_ones_own_file(folder, capsys):
    rewrite(folder, 'self.grads["bias"] +=', 'self.grads["bias"][:7, None] +=')
    assert train() == 2
    assert "(my_scale.py, line 17); mend it" in said(capsys)


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        ("my_scale:Scales", "my_scale has no Scales; did you mean Scale?"),
        ("my_scale:Quite", "my_scale has no Quite; it defines Scale"),
        ("my_scale:NotThere", "my_scale has no NotThere; it defines Scale"),
        ("my_scale.py:Scale", "must name a module as `import` does; in the folder of the file write my_scale:Scale"),
        ("./my_scale.py:Scale", "must name a module as `import` does; in the folder of the file write my_scale:Scale"),
        ("my_scales:Scale", "No module named 'my_scales'; start in the folder of my_scales.py, or install it"),
        ("Scale", "unknown norm 'Scale'; choose from bn, in, ln, gn, mn, mgn, none; one of your own is my_mo"),
    ],
)  # fmt: skip
def test_a_misspelt_name_is_one_line_with_what_there_is(folder, capsys, norm, message):
    assert train(norm=norm) == 2
    assert message in said(capsys)
    assert not (folder / "R").exists()


def test_the_folder_in_place_of_the_task_is_told_how_it_is_given(capsys):
    assert main(["tiny", "photos", "--out", "R"]) == 2
    assert "your own images are the task folder, with --data-dir photos" in said(capsys)


def test_trying_the_norm_out_changes_no_number(folder, monkeypatch):
    from minidl.train import build

    assert train(out="tried") == 0
    monkeypatch.setattr(build, "try_out", lambda *_: None)
    assert train(out="not_tried") == 0
    one, other = (minidl.load(name).network.state() for name in ("tried", "not_tried"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


LATE = """
    calls = 0

    def late(self):
        Scale.calls += 1
        if Scale.calls > 12:
            raise KeyError("x")
"""


def test_an_error_that_comes_later_is_one_line_and_the_checkpoints_stay(folder, capsys):
    rewrite(
        folder, "        weight, bias = self._affine()", "        weight, bias = self._affine()\n        self.late()"
    )
    (folder / "my_scale.py").write_text((folder / "my_scale.py").read_text() + LATE)
    assert train("--updates", "40", "--checkpoint-every", "2") == 1
    assert "minidl.train: KeyError: 'x' (my_scale.py, line 26), in code of your own; mend it and start" in said(capsys)
    assert list((folder / "R" / "checkpoints").iterdir())


def test_a_run_whose_norm_has_changed_says_so_and_is_used_where_that_is_asked_for(folder, capsys):
    assert train() == 0
    before = {path: path.read_bytes() for path in (folder / "R").rglob("*") if path.is_file()}
    rewrite(folder, "import numpy as np\n", "import numpy as np  # a remark\n")
    capsys.readouterr()
    assert main(["--out", "R", "--resume", "--updates", "4", "--quiet"]) == 1
    assert "R: the file of my_scale:Scale has changed since the run was started; put the old file back, or" in said(
        capsys
    )
    changed = (
        "has changed since the run was trained, so the network may compute something else; put the old file back, or"
    )
    image = "photos/bee/0.png"
    for command in ([evaluate, "R", "--quiet"], [predict, "R", image], [export, "R", "--safetensors", "x.safetensors"]):
        assert command[0](command[1:]) == 1
        assert changed in said(capsys)
        assert command[0]([*command[1:], "--changed-code"]) == 0
        capsys.readouterr()
    assert {path: path.read_bytes() for path in before} == before
    assert train("--from", "R", "--updates", "1", out="S") == 0


@pytest.mark.parametrize(("name", "problem"), [("none/x.onnx", "No such file or"), ("photos", "Is a directory")])
def test_a_file_that_cannot_be_written_is_named_as_it_was_given(capsys, name, problem):
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'minidl[onnx]'")
    assert main([*RUN, "--norm", "bn", "--updates", "1", "--out", "R"]) == 0
    capsys.readouterr()
    assert export(["R", "--onnx", name]) == 1
    assert said(capsys).startswith(f"minidl.export: {name}: {problem}")


def test_predict_answers_the_images_that_are_there_and_leaves_hidden_files_alone(folder, capsys):
    assert main([*RUN, "--norm", "bn", "--updates", "1", "--out", "R"]) == 0
    (folder / "photos" / "bee" / "._0.png").write_bytes(b"\0\5\x16\7")
    capsys.readouterr()
    assert predict(["R", "photos/bee"]) == 0
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), err) == (8, "")
    assert predict(["R", "gone.jpg", "photos/bee/0.png"]) == 4
    out, err = capsys.readouterr()
    assert err == "minidl.predict: gone.jpg: no such file; correct its name\n"
    assert out.startswith("photos/bee/0.png: ")
