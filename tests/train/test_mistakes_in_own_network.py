"""A layer of one's own network that gives what it must not: one line with its class, its file and the line."""

import sys

import pytest
from photographs import photographs

from minidl.train.__main__ import main

pytestmark = pytest.mark.usefixtures("no_curves")

NET = """import numpy as np

from minidl import Conv2d, GlobalAvgPool2d, Layer, Linear, MaxPool2d, Sequential


class Square(Layer):
    def __init__(self, dtype="float32"):
        super().__init__()
        self.add_param("weight", np.full(5, 0.5, dtype))

    def forward(self, x):
        self.keep(x)
        w = self.params["weight"].reshape(-1, 1, 1)
        return w * x**2

    def backward(self, dy):
        training, (x,) = self.kept(dy)
        self.grads["weight"] += (dy * x**2).sum(axis=(0, 2, 3))
        return 2 * self.params["weight"].reshape(-1, 1, 1) * x * dy


class Net(Layer):
    def __init__(self, num_classes, rng):
        super().__init__()
        self.conv = Conv2d(3, 5, 3, rng=rng)
        self.square = Square()
        self.pool = GlobalAvgPool2d()
        self.linear = Linear(5, num_classes, rng=rng)

    def forward(self, x):
        return self.linear(self.pool(self.square(self.conv(x))))

    def backward(self, dy):
        return self.conv.backward(self.square.backward(self.pool.backward(self.linear.backward(dy))))


def row(num_classes, rng):
    return Sequential(
        MaxPool2d(4), Conv2d(3, 5, 3, rng=rng), Square(), GlobalAvgPool2d(), Linear(5, num_classes, rng=rng)
    )
"""
FORWARD = "(Square.forward, my_net.py, line 11)"
BACKWARD = "(Square.backward, my_net.py, line 16)"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with photographs of two classes and a network that works."""
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    photographs(tmp_path / "photos")
    (tmp_path / "my_net.py").write_text(NET)
    yield tmp_path
    sys.modules.pop("my_net", None)


def train(net="Net", out="R"):
    sys.modules.pop("my_net", None)
    run = ["--batch-size", "4", "--threads", "1", "--quiet", "--data-dir", "photos", "--norm", "none", "--updates", "2"]
    return main([f"my_net:{net}", "folder", *run, "--out", out])


def refusal(folder, capsys, old, new, net="Net"):
    """Return the line that a changed file is refused with; the run has left nothing behind."""
    assert old in NET
    (folder / "my_net.py").write_text(NET.replace(old, new))
    assert train(net) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert err.startswith((f"minidl.train: model my_net:{net}: ", f"minidl.train: my_net:{net} must give "))
    assert not (folder / "R").exists()
    return err


@pytest.mark.parametrize("net", ["Net", "row"])
def test_a_network_that_gives_what_it_must_is_trained(net):
    assert train(net) == 0


def test_an_array_that_is_no_parameter_is_said(folder, capsys):
    old = 'self.add_param("weight", np.full(5, 0.5, dtype))'
    assert old in NET
    (folder / "my_net.py").write_text(NET.replace(old, f"{old}\n        self.scale = np.ones(5, dtype)"))
    assert train() == 0
    assert "layer square (Square): the array scale is neither trained nor saved (class Square, my_net.py, line 6)" in (
        capsys.readouterr().err
    )


OUT = "return w * x**2"
DX = 'return 2 * self.params["weight"].reshape(-1, 1, 1) * x * dy'


@pytest.mark.parametrize("net", ["Net", "row"])
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (OUT, "pass", f"forward: the output must be an array, got None {FORWARD}; mend it"),
        (OUT, "return [w * x**2]", f"forward: the output must be an array, got a list of 1 {FORWARD}; mend it"),
        (OUT, "return w * x**2, x", f"forward: the output must be an array, got a tuple of 2 {FORWARD}; mend it"),
        (OUT, "return 3.0", f"forward: the output must be an array, got a float {FORWARD}; mend it"),
        (
            OUT,
            "return x > 0",
            f"forward: the output must be of a real floating dtype, got bool (4, 5, {{s}}) {FORWARD}",
        ),
        (OUT, "return 1j * x", f"must be of a real floating dtype, got complex64 (4, 5, {{s}}) {FORWARD}; mend it"),
        (DX, "pass", f"the shape (4, 5, {{s}}), got None {BACKWARD}; return it, or set needs_dx = False"),
        (DX, "return [dy]", f"the shape (4, 5, {{s}}), got a list of 1 {BACKWARD}; mend it"),
        (DX, "return dy, x", f"the shape (4, 5, {{s}}), got a tuple of 2 {BACKWARD}; mend it"),
        (DX, "return dy.sum(axis=0)", f"the shape (4, 5, {{s}}), got (5, {{s}}) {BACKWARD}; mend it"),
        (DX, "return x.astype(int)", f"must be of a real floating dtype, got int64 (4, 5, {{s}}) {BACKWARD}; mend it"),
        (
            "def forward(self, x):\n        self.keep",
            "def forward(self):\n        self.keep",
            "define it as forward(self, x)",
        ),
        (
            "def backward(self, dy):\n        training",
            "def backward(self):\n        x",
            "define it as backward(self, dy)",
        ),
    ],
)
def test_what_a_layer_gives_and_must_not_is_said_of_that_layer(folder, capsys, net, old, new, message):
    err = refusal(folder, capsys, old, new, net)
    assert ("layer square (Square)" if net == "Net" else "layer 2 (Square)") in err
    assert message.format(s="30, 30" if net == "Net" else "6, 6") in err


@pytest.mark.parametrize("net", ["Net", "row"])
def test_an_output_that_the_next_layer_cannot_take_is_said_of_the_layer_that_gave_it(folder, capsys, net):
    err = refusal(folder, capsys, OUT, "return (w * x**2).sum(axis=(2, 3))", net)
    layers = ("pool", "square") if net == "Net" else ("3", "2")
    assert (
        ", in layer {} (GlobalAvgPool2d), whose input came from layer {} (Square) (Square.forward, my_net.py, "
        "line 11): ValueError: GlobalAvgPool2d.forward: ".format(*layers)
        in err
    )
    assert "(base.py" not in err
    assert "(pool.py" not in err


@pytest.mark.parametrize("net", ["Net", "row"])
@pytest.mark.parametrize("method", ["forward(self, x)", "backward(self, dy)"])
def test_a_method_that_is_missing_is_said_of_the_class(folder, capsys, net, method):
    old = f"    def {method}:\n        {'self.keep' if 'x)' in method else 'training'}"
    err = refusal(folder, capsys, old, old.replace("def ", "def not_"), net)
    assert f"Square must define {method} (class Square, my_net.py, line 6); mend it" in err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '        super().__init__()\n        self.add_param("weight", np.full(5, 0.5, dtype))',
            "        pass",
            "layer square (Square) lacks what each layer has: its __init__ must begin with super().__init__() "
            "(Square.__init__, my_net.py, line 7); mend it",
        ),
        (
            "        super().__init__()\n        self.add_param",
            "        self.add_param",
            "Square lacks what each layer has: its __init__ must begin with super().__init__() (my_net.py, line 8)",
        ),
        (
            "        super().__init__()\n        self.conv",
            "        self.conv",
            "Net lacks what each layer has: its __init__ must begin with super().__init__() (Net.__init__, my_net",
        ),
        (
            "self.square = Square()",
            "self.square = Square(); self.more = [Square(), Square()]",
            "holds layers in its list more, where they would not be trained (class Net, my_net.py, line 22); put",
        ),
    ],
)
def test_a_constructor_that_makes_no_whole_layer_is_said(folder, capsys, old, new, message):
    assert message in refusal(folder, capsys, old, new)


def test_a_network_with_another_number_of_logits_is_told_where(folder, capsys):
    err = refusal(folder, capsys, "Linear(5, num_classes", "Linear(5, 7")
    assert "my_net:Net must give 2 logits per image, one per class, got (4, 7) for images (4, 3, 32, 32) (Net" in err


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("self.grads['weight'] = np.zeros(4)", "the gradient of weight must be float32 (5,), got float64 (4,)"),
        ("self.grads['wait'] = np.zeros(5)", "grads must have the names of params, weight, got wait, weight"),
    ],
)
def test_a_gradient_unlike_its_parameter_is_said_of_the_layer(folder, capsys, new, message):
    err = refusal(folder, capsys, 'self.grads["weight"] += ', new + "; _ = ")
    assert f"layer square (Square): {message} {BACKWARD}; mend it" in err


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("self.count = 0; self.params['weight'] = [0.5] * 5", "the parameter weight must be an array, got a list of 5"),
        (
            "self.add_param('more', np.zeros(5, 'complex64'))",
            "the parameter more must be of a real dtype, such as floa",
        ),
        (
            "self.buffers['seen'] = np.zeros(5, complex)",
            "the buffer seen must be of a real dtype, such as float32, got",
        ),
        ("self.buffers['seen'] = 0.0", "the buffer seen must be an array, got a float"),
    ],
)
def test_an_array_that_cannot_be_trained_or_kept_is_said_of_its_constructor(folder, capsys, new, message):
    old = '        self.add_param("weight", np.full(5, 0.5, dtype))\n'
    err = refusal(folder, capsys, old, f"{old}        {new}\n")
    assert f"layer square (Square): {message}" in err
    assert err.endswith(" (Square.__init__, my_net.py, line 7); mend it\n")


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (
            "self.params['weight'] = np.ones((5, 1))",
            "the array weight must stay of the shape (5,) that it was made with, go",
        ),
        (
            "self.buffers['seen'] = np.ones(4)",
            "its arrays must be made in __init__, where a checkpoint finds them, got",
        ),
        ("self.buffers['seen'] = 1j * x", "the buffer seen must be of a real dtype, such as float32, got complex64"),
    ],
)
def test_an_array_that_changes_in_forward_is_said_of_it(folder, capsys, new, message):
    err = refusal(folder, capsys, "        self.keep(x)\n", f"        self.keep(x)\n        {new}\n")
    assert f"its forward pass in training failed on images (4, 3, 32, 32): layer square (Square): {message}" in err
    assert f"{FORWARD}; mend it" in err


FIXED = "self.square(self.conv(x)).reshape(4, 5, 30, 30)"


def test_a_layer_for_one_number_of_images_is_refused_before_training(folder, capsys):
    err = refusal(folder, capsys, "self.square(self.conv(x))", FIXED)
    assert "its forward pass in evaluation failed on images (3, 3, 32, 32) of another batch size: ValueError: " in err
    assert "(my_net.py, line 31); mend it" in err
