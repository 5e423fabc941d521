"""Mistakes in a norm or a network of one's own: one line with the place in one's file, and nothing is written."""

import pytest
from own_norm import NORM, RUN, folder_of_a_norm, rewrite, said, train

from minidl.train.__main__ import main

__all__ = ["folder_of_a_norm"]  # a fixture
pytestmark = pytest.mark.usefixtures("no_curves")


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
        ("1e-5, dtype)", "1e-5, dtype); self.add_param(np.ones(3), 'shift')", "add_param: name must be text, before "),
        (
            "    def small(",
            "    def forward(self, x):\n        return type('Tensor', (), {'__module__': 'torch'})()\n\n    def small(",
            "got a Tensor (Scale.forward, my_scale.py, line 10); minidl takes NumPy's arrays: return that of .detach()",
        ),
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


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        ("my_scale:Scales", "my_scale has no Scales; did you mean Scale?"),
        ("my_scale:Quite", "my_scale has no Quite; it defines Scale"),
        ("my_scale:NotThere", "my_scale has no NotThere; it defines Scale"),
        ("my_scale.py:Scale", "must name a module as `import` does; in the folder of the file write my_scale:Scale"),
        ("./my_scale.py:Scale", "must name a module as `import` does; in the folder of the file write my_scale:Scale"),
        ("my-scale:Scale", "No module named 'my-scale'; did you mean my_scale:Scale?"),
        ("median:Scale", "No module named 'median'; start in the folder of median.py, or install it"),
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
