"""What a layer of one's own keeps is in its checkpoint: an array that comes later is refused, other state warned of."""

import pytest
from own_norm import folder_of_a_norm, forget, said, train

import minidl
from minidl.train import Config, Trainer
from minidl.train.__main__ import main
from minidl.train.late import LateError

__all__ = ["folder_of_a_norm"]  # a fixture
pytestmark = pytest.mark.usefixtures("no_curves")

NORM = """import numpy as np

from minidl import Layer


class Scale(Layer):
    late = None

    def __init__(self, channels):
        super().__init__()
        self.n, self.channels, self.rng = 0, channels, np.random.default_rng(0)
        self.add_param("weight", np.ones(channels, "float32"))
        self.buffers["count"] = np.zeros(1)
        MADE

    def forward(self, x):
        self.n += self.training
        y = x * self.params["weight"].reshape(-1, 1, 1)
        self.keep(x)
        self.mean = x.mean()  # kept, and of no effect
        FORWARD
        return y

    def backward(self, dy):
        _, (x,) = self.kept(dy)
        self.grads["weight"] += (x * dy).sum(axis=(0, 2, 3))
        return dy * self.params["weight"].reshape(-1, 1, 1)
"""


def write(folder, forward, made="pass"):
    (folder / "my_scale.py").write_text(NORM.replace("FORWARD", forward).replace("MADE", made))


@pytest.mark.parametrize(
    ("late", "told"),
    [
        (
            "self.add_param('extra', np.ones(2, 'float32'))",
            "the parameter extra has come since it was made; make it in",
        ),
        ("self.buffers['seen'] = np.ones(3)", "the buffer seen has come since it was made; make it in __init__, where"),
        (
            "self.buffers['count'] = np.ones(4)",
            "the buffer count must stay float64 (1,), as it was made, got float64 (4,)",
        ),
        (
            "self.buffers['count'] = np.ones(1, 'int64')",
            "the buffer count must stay float64 (1,), as it was made, got int64",
        ),
        ("self.buffers['count'] = 'x'", "the buffer count must stay float64 (1,), as it was made, got a str"),
        ("self.buffers.clear()", "the array count is gone; let it stay as __init__ made it"),
    ],
)
def test_an_array_that_comes_or_changes_later_ends_the_run_before_a_checkpoint_has_it(folder, capsys, late, told):
    write(folder, f"if self.n == 5 and self.training: {late}")
    assert train("--updates", "9", "--checkpoint-every", "3") == 1
    err = said(capsys)
    assert f"minidl.train: --norm my_scale:Scale: after update 6: layer 2 (Scale): {told}" in err
    assert "(class Scale, my_scale.py, line 6); mend it and go on by --out R --resume --changed-code; what was" in err
    assert minidl.load("R").step == 3
    assert train("--updates", "1", "--from", "R", out="S") == 0
    write(folder, "pass")
    forget()
    assert main(["--out", "R", "--resume", "--changed-code", "--quiet"]) == 0
    assert minidl.load("R").step == 9


def test_from_python_an_array_that_comes_later_is_an_error_at_the_end_of_a_run_with_a_folder(folder):
    write(folder, "if self.n == 2: self.buffers['seen'] = np.ones(3)")
    config = Config("tiny", "folder", norm="my_scale:Scale", data_dir="photos", length="3u", batch_size=4)
    with pytest.raises(
        LateError, match=r"after update 3: layer 2 \(Scale\): the buffer seen .*; nothing was saved yet"
    ):
        Trainer(config, "R", quiet=True).run()


@pytest.mark.parametrize(
    ("made", "forward"),
    [
        ("self.late = 1.0", "self.late += 0.1 * self.training; y = y * np.float32(self.late)"),
        ("self.late = [1.0]", "self.late[0] += 0.1 * self.training; y = y * np.float32(self.late[0])"),
        (
            "self.late = {'a': (1.0,)}",
            "self.late['a'] = (self.late['a'][0] + self.training,); y = y * self.late['a'][0]",
        ),
        ("pass", "self.late = np.float32(x.std()) if self.late is None else self.late; y = y / self.late"),
    ],
    ids=["float", "list", "dict", "scalar of the first forward"],
)
def test_state_that_is_no_buffer_is_warned_of_with_its_name_alone(folder, capsys, made, forward):
    write(folder, forward, made)
    assert train("--updates", "1") == 0
    assert said(capsys) == (
        "minidl: layer 2 (Scale): once saved and loaded it gives other outputs in evaluation: late has changed since "
        "__init__ and is not saved (class Scale, my_scale.py, line 6); keep such state in self.buffers, as arrays that "
        "__init__ makes\n"
    )


def test_a_network_that_cannot_go_without_what_is_not_saved_is_refused(folder, capsys):
    write(folder, "self.late = x.std((0, 2, 3), keepdims=True) if self.training else self.late; y = y / self.late")
    assert train("--updates", "1") == 2
    assert "its forward pass in evaluation, saved and loaded, failed on images (2, 3, 32, 32): TypeError" in said(
        capsys
    )


def test_what_the_constructor_draws_for_itself_is_warned_of_as_loading_draws_something_else(folder, capsys):
    (folder / "my_scale.py").write_text(
        NORM.replace("MADE", "self.late = float(rng.normal())")
        .replace("FORWARD", "y = y * np.float32(self.late)")
        .replace("self, channels)", "self, channels, rng)")
    )
    assert train("--updates", "1") == 0
    assert "other outputs in evaluation: late has changed" in said(capsys)


@pytest.mark.parametrize(
    "forward",
    [
        "y = y + self.rng.normal(size=y.shape).astype('float32')",
        "y = y + np.random.normal(size=y.shape).astype('float32')",
        "self.buffers['count'] += 1; y = y * np.float32(self.buffers['count'][0])",
    ],
    ids=["generator", "global", "buffer"],
)
def test_two_different_evaluations_of_the_same_images_are_said(folder, capsys, forward):
    write(folder, forward)
    assert train("--updates", "1") == 0
    assert said(capsys) == (
        "minidl: layer 2 (Scale): it gives two different outputs for the same images in evaluation (Scale.forward, "
        "my_scale.py, line 16); draw at random and update what it keeps only where self.training is true\n"
    )


@pytest.mark.parametrize(
    "forward",
    [
        "pass",
        "y = y + (self.rng.normal(size=y.shape) * self.training).astype('float32')",
        "self.buffers['count'] += self.training; y = y * np.float32(self.buffers['count'][0])",
    ],
    ids=["counters", "drawn in training", "buffer"],
)
def test_there_is_no_warning_of_what_has_no_effect_or_is_saved(folder, capsys, forward):
    write(folder, forward)
    assert train("--updates", "1") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["BatchNorm", "ModeNorm", "LayerNorm", "InstanceNorm"])
def test_there_is_no_warning_of_a_norm_that_is_derived_from_minidls(folder, capsys, name):
    (folder / "my_scale.py").write_text(f"import minidl\n\n\nclass Scale(minidl.{name}):\n    pass\n")
    assert train("--updates", "1") == 0
    assert capsys.readouterr().err == ""


def test_a_parameter_that_comes_after_the_trials_own_passes_is_sent_to_init(folder, capsys):
    late = "self.m = getattr(self, 'm', 0) + 1\n        if self.m == 5: self.add_param('extra', np.ones(2, 'float32'))"
    write(folder, late)
    assert train("--updates", "1") == 2
    err = said(capsys)
    assert "its arrays must stay as __init__ makes them, where a checkpoint finds them, got another extra" in err
    assert "(class Scale, my_scale.py, line 6); mend it" in err
