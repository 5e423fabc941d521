"""Mistakes in a norm or a network of one's own: one line with the place in one's file, and nothing of a run is lost."""

import sys

import numpy as np
import pytest
from photographs import photographs
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
    photographs(tmp_path / "photos")
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
        ("import numpy as np", "raise SystemExit(0)", "importing my_scale failed: SystemExit: 0 (my_scale.py, line "),
        ("0 * v", "exit(0) * v", "in training failed on images (4, 3, 32, 32): SystemExit: 0 (my_scale.py, "),
        ("0 * v", "0 * vv", "forward pass in training failed on images (4, 3, 32, 32): NameError: name 'vv'"),
        (
            "return s, s",
            "return s[0], s",
            "s and u must be (4, 5), got (5,) and (4, 5) (Scale.small, my_scale.py, line 10",
        ),
        (
            "return s, s",
            "return 1.0, s",
            "s and u must be (4, 5), got one float and (4, 5) (Scale.small, my_scale.py, ",
        ),
        (", m.value()", "", "Scale.small: must return 3 values, s, u and kept, got 2 values (Scale.small, my_scale.py"),
        (
            "return s, s * m.value() + bias, m.value()",
            "return s",
            "s, u and kept, got (4, 5) (Scale.small, my_scale.py",
        ),
        (
            "return s, s * m.value() + bias, m.value()",
            "pass",
            "s, u and kept, got None (Scale.small, my_scale.py, line 1",
        ),
        (", m.value()", ", m.value(), 0", "s, u and kept, got 4 values (Scale.small, my_scale.py, line 10)"),
        (
            ", 0 * du",
            ", 0 * du, 0",
            "return 2 values, dm and dv, got 3 values (Scale.small_backward, my_scale.py, line ",
        ),
        (
            "return self.params",
            "return ds  # ",
            "return 2 values, dm and dv, got (4, 5) (Scale.small_backward, my_scale.py",
        ),
        (
            "return self.params",
            "pass  # ",
            "2 values, dm and dv, got None (Scale.small_backward, my_scale.py, line 15)",
        ),
        (
            "weight + 0 * v",
            "weight + 0j * v",
            "s and u must be real, got complex128 and complex128 (Scale.small, my_scale",
        ),
        (
            ", 0 * du",
            ", 0j * du",
            "dm and dv must be real, got float64 and complex128 (Scale.small_backward, my_scale.py",
        ),
        ("du * m)", "du * mm)", "its backward pass failed on images (4, 3, 32, 32): NameError: name 'mm' is "),
        (
            ", 0 * du",
            ", 0 * du[0]",
            "dm and dv must be (4, 5), got (4, 5) and (5,) (Scale.small_backward, my_scale.py, ",
        ),
        ("small_backward", "small_backwards", "small_backward(ds, du, training, kept) (class Scale, my_scale.py"),
        ("0 * v", "(0 if self.training else 1 / 'a') * v", "its forward pass in evaluation failed on images"),
    ],
)
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
    ("old", "new", "message"),
    [
        (
            "num_features, dtype",
            "num_features, width, dtype",
            "Scale.__init__() missing 1 required positional argument",
        ),
        ("def __init__", "def init", "Norm.__init__() missing 1 required positional argument: 'eps'"),
        ("(self, num_features, dtype=", "(self, dtype=", "Scale.__init__() got multiple values for argument 'dtype'"),
    ],
)
def test_a_constructor_that_takes_something_else_is_told_what_it_may_take(folder, capsys, old, new, message):
    rewrite(folder, old, new)
    assert train() == 2
    err = said(capsys)
    assert f"minidl.train: --norm my_scale:Scale: it cannot be made: TypeError: {message}" in err
    assert err.endswith(
        " (class Scale, my_scale.py, line 6); it is called with channels, and those it names of momentum, num_modes, "
        "num_groups, rng and dtype: give every other argument a default\n"
    )
    assert not (folder / "R").exists()


PARTS = """

def make_norm(channels):
    return Scale(channels)

def make_net(num_classes, norm, rng, depth):
    pass
"""


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (["--norm", "my_scale:make_norm"], "make_norm, my_scale.py, line 21); it is called with channels and rng:"),
        (["my_scale:make_net"], "line 24); it is called with those it names of num_classes, in_channels, norm, rng,"),
    ],
)
def test_a_function_that_takes_something_else_is_told_what_it_is_called_with(folder, capsys, setting, message):
    (folder / "my_scale.py").write_text(NORM + PARTS)
    model, *norm = setting if len(setting) == 1 else ["tiny", *setting]
    assert main([model, *RUN[1:], *norm, "--out", "R", "--updates", "2"]) == 2
    assert message in said(capsys)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1e-5, dtype)", '1e-5, "complex64")', "the parameter weight must be of a real dtype"),
        (
            "1e-5, dtype)",
            "1e-5, dtype); self.buffers['seen'] = np.zeros(5, complex)",
            "the buffer seen must be of a re",
        ),
        ("1e-5, dtype)", "1e-5, dtype); self.add_param('w', np.zeros(5, 'longdouble'))", "the parameter w must be of"),
        ("s = weight", "self.buffers['seen'] = v + 1j; s = weight", "the buffer seen must be of a real dtype, such as"),
    ],
)
def test_numbers_that_are_not_real_are_refused(folder, capsys, old, new, message):
    if "self.buffers['seen'] = v" in new:
        rewrite(folder, "1e-5, dtype)", "1e-5, dtype); self.buffers['seen'] = np.zeros((4, 5))")
    rewrite(folder, old, new)
    assert train() == 2
    err = said(capsys)
    assert f"layer 2 (Scale): {message}" in err
    assert ("Scale.__init__, my_scale.py, line 7" if "v + 1j" not in new else "class Scale, my_scale.py, line 6") in err
    assert not (folder / "R").exists()


OWN_FORWARD = """
    def forward(self, x):
        return super().forward(x)[CUT]
"""


@pytest.mark.parametrize(("cut", "got"), [("[..., :3]", "(4, 5, 6, 3)"), (".mean(axis=(2, 3))", "(4, 5)")])
def test_a_norm_that_gives_another_shape_is_refused(folder, capsys, cut, got):
    (folder / "my_scale.py").write_text(NORM + OWN_FORWARD.replace("[CUT]", cut))
    assert train() == 2
    assert (
        "layer 2 (Scale).forward: a norm must give an output of its input's shape (4, 5, 6, 6), "
        f"got {got} (Scale.forward, my_scale.py, line 20); mend it"
    ) in said(capsys)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weight + 0 * v", "weight + np.nan * v", "its forward pass in training gives numbers that are not finite"),
        ("0 * v", "(0 if self.training else np.nan) * v", "its forward pass in evaluation gives numbers that are not"),
        ("du.sum(axis=0)", "du.sum(axis=0) / 0", "its backward pass gives numbers that are not finite"),
    ],
)
def test_a_norm_that_gives_no_numbers_is_refused_before_anything_is_written(folder, capsys, old, new, message):
    rewrite(folder, old, new)
    assert train() == 2
    err = said(capsys)
    assert message in err
    assert "of layer 2 (Scale); mend my_scale.py\n" in err
    assert not (folder / "R").exists()


def test_a_run_that_diverges_with_ones_own_norm_is_sent_to_it_as_well(folder, capsys):
    rewrite(folder, "0 * v", "(np.inf if np.any(weight != 1) else 0) * v")  # from the first update on
    assert train("--updates", "4") == 3
    assert "; lower --lr, or look for a mistake in --norm my_scale:Scale, and start anew" in said(capsys)
    assert train("--updates", "9", "--checkpoint-every", "1", out="T") == 3
    assert " --from T starts it with the weights that were saved\n" in said(capsys)
    assert main([*RUN, "--norm", "bn", "--out", "S", "--updates", "4", "--lr", "1e300"]) == 3
    assert "; lower --lr and start anew" in said(capsys)


def test_settings_of_norms_that_ones_own_is_not_made_with_are_said_to_be_ignored(folder, capsys):
    arguments = ["--modes", "7", "--groups", "3", "--norm-momentum", "0.3", "--per-mode-affine", "--updates", "1"]
    assert train(*arguments) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1] for line in lines] == [
        f" {flag} is ignored" for flag in ("--norm-momentum 0.3", "--modes 7", "--groups 3", "--per-mode-affine")
    ]
    assert "my_scale:Scale has no use for it, mn and mgn and one of one's own that is made with num_modes" in lines[1]
    rewrite(folder, "num_features, dtype", "num_features, num_modes, dtype")
    assert train("--modes", "7", "--updates", "1", out="S") == 0
    assert capsys.readouterr().err == ""


def test_one_number_of_modes_for_each_norm_is_passed_on_or_said_to_be_ignored(folder, capsys):
    assert train("--modes", "7,3", "--updates", "1") == 0
    assert "--modes 7,3 is ignored: --norm my_scale:Scale has no use for it, mn and mgn and one" in said(capsys)
    assert train("--modes", "7,3", "--updates", "1", norm="bn", out="B") == 0
    assert "--modes 7,3 is ignored: --norm bn has no use for it, mn and mgn have" in said(capsys)
    rewrite(folder, "num_features, dtype", "num_features, num_modes, dtype")
    rewrite(folder, "1e-5, dtype)", "1e-5, dtype); self.k = num_modes")
    assert train("--modes", "7,3", "--updates", "1", out="S") == 2
    assert "--modes must be one K or 1, one for each norm with modes, got 2; give as many" in said(capsys)
    lenet = ["lenet", *RUN[1:], "--norm", "my_scale:Scale", "--out", "S", "--updates", "1"]
    assert main([*lenet, "--modes", "7,3"]) == 0
    layers = minidl.load("S").network.named_layers()
    assert [vars(layer)["k"] for _, layer in layers if type(layer).__name__ == "Scale"] == [7, 3]
    assert capsys.readouterr().err == ""


def test_a_file_that_is_gone_has_one_status_whichever_command_wants_it(folder, capsys):
    assert train() == 0
    (folder / "my_scale.py").rename(folder / "gone.py")
    forget()
    capsys.readouterr()
    for command, *arguments in (
        (main, "--out", "R", "--resume", "--quiet"),
        (evaluate, "R"),
        (predict, "R", "photos"),
        (export, "R", "--torch", "x.pt"),
    ):
        assert command(arguments) == 1
        err = said(capsys)
        assert ": R: " in err
        assert "norm my_scale:Scale: No module named 'my_scale'; start in the folder of my_scale.py, or" in err
    assert train(out="S") == 2  # here it is the argument that is wrong


def test_an_error_of_minidl_in_a_later_update_is_one_line_with_the_class(folder, capsys):
    rewrite(folder, "return s, s *", "return (s if np.all(weight == 1) else s[0]), s *")
    assert train() == 1
    err = said(capsys)
    assert "s and u must be (4, 5), got (5,) and (4, 5) (Scale.small, my_scale.py, line 10), in code of your own" in err


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
)
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
    assert (
        "minidl.train: KeyError: 'x' (my_scale.py, line 26), in code of your own; mend it and start anew with another "
        in (err := said(capsys))
    )
    assert err.endswith("--out; what was saved is whole, and --from R starts with its weights\n")
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


def test_a_file_that_cannot_be_written_is_named_as_it_was_given(capsys):
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'minidl[onnx]'")
    assert main([*RUN, "--norm", "bn", "--updates", "1", "--out", "R"]) == 0
    capsys.readouterr()
    assert export(["R", "--onnx", "none/x.onnx"]) == 1
    assert said(capsys).startswith("minidl.export: none/x.onnx: No such file or")


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


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('self.grads["weight"] += (ds', 'self.grads["weight"] += 0 * (ds', ["weight"]),
        ('self.grads["bias"] += du', "du", ["bias"]),
    ],
)
def test_a_gradient_that_is_never_written_is_said_in_one_line(folder, capsys, old, new, names):
    rewrite(folder, old, new)
    assert train() == 0
    err = said(capsys)
    assert f"(Scale): the gradient of {names[0]} is exactly 0 on random images" in err
    assert f"(class Scale, my_scale.py, line 6); let backward add to self.grads['{names[0]}']" in err


WIDE = """

class Wide(Scale):
    def forward(self, x):
        return super().forward(x).astype("float64") if FORWARD else super().forward(x)

    def backward(self, dy):
        return super().backward(dy).astype("float64") if BACKWARD else super().backward(dy)
"""


@pytest.mark.parametrize(
    ("method", "cure"), [("forward", "return y.astype(x.dtype)"), ("backward", "return dx.astype")]
)
def test_a_wider_dtype_is_said_in_one_line_with_the_cure(folder, capsys, method, cure):
    wide = WIDE.replace(method.upper(), "True").replace("FORWARD", "False").replace("BACKWARD", "False")
    (folder / "my_scale.py").write_text(NORM + wide)
    assert train(norm="my_scale:Wide") == 0
    err = said(capsys)
    assert f"(Wide).{method}: it is given float32 and gives float64" in err
    assert f"(Wide.{method}, my_scale.py, line " in err
    assert cure in err
    assert train("--updates", "1", "--dtype", "float64", norm="my_scale:Wide", out="S") == 0
    assert capsys.readouterr().err == ""


MADE = """

made = Scale(3)


def one(channels):
    return Scale(channels)


def kind(channels, rng):
    return Scale


class Plain:
    pass
"""


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        (
            "my_scale:made",
            "my_scale:made is a layer that is made already; give its class, my_scale:Scale, or a function",
        ),
        ("my_scale:one", "it is called with channels and rng: let it take both: def one(channels, rng)"),
        (
            "my_scale:kind",
            "got the class Scale (function kind, my_scale.py, line 28); return an object, Scale(channels)",
        ),
        (
            "my_scale:Plain",
            "must be a minidl.Layer, got a class of my_scale (class Plain, my_scale.py, line 32); derive",
        ),
        ("json:Scale", "json has no Scale: json is Python's own module, whatever file is here; give your file another"),
        ("collections:OrderedDict", "must be a minidl.Layer, got a class of collections; derive it from minidl.Layer"),
    ],
)
def test_what_is_no_class_of_a_norm_gets_the_cure(folder, capsys, norm, message):
    (folder / "my_scale.py").write_text(NORM + MADE)
    (folder / "json.py").write_text(NORM)
    assert train(norm=norm) == 2
    assert message in said(capsys)


def test_another_norm_is_named_by_its_setting_when_a_run_is_resumed(folder, capsys):
    assert train() == 0
    capsys.readouterr()
    assert main(["--out", "R", "--resume", "--norm", "bn", "--quiet"]) == 1
    err = said(capsys)
    assert "R holds another run: norm 'my_scale:Scale' there, 'bn' asked" in err
    assert "norm_name" not in err


def test_a_class_that_was_renamed_since_says_that_the_file_has_changed(folder, capsys):
    assert train() == 0
    rewrite(folder, "class Scale", "class Scales")
    capsys.readouterr()
    for command in ([main, "--out", "R", "--resume", "--quiet"], [evaluate, "R"], [predict, "R", "photos"]):
        assert command[0](command[1:]) == 1
        assert "my_scale.py has changed since the run was started: put the old file back" in said(capsys)


def test_a_run_without_its_config_is_told_one_way_out(folder, capsys):
    assert main([*RUN, "--norm", "bn", "--updates", "2", "--out", "R"]) == 0
    (folder / "R" / "config.json").unlink()
    capsys.readouterr()
    assert main(["--out", "R", "--resume", "--quiet"]) == 1
    err = said(capsys)
    assert "R holds no run to resume: its config.json is gone; put it back, or start a new run with another" in err
    (kept,) = (folder / "R" / "checkpoints").iterdir()
    assert f"--from {kept.relative_to(folder)}" in err
    assert main([*RUN, "--norm", "bn", "--updates", "2", "--out", "R"]) == 1
    assert "remove it, or give another --out; or put config.json back, and --resume goes on" in said(capsys)
    assert evaluate(["R"]) == 1
    assert f"give {kept.relative_to(folder)}, which can be used alone" in said(capsys)
    assert main([*RUN, "--norm", "bn", "--updates", "2", "--out", "S", "--from", str(kept)]) == 0
