"""What `print(net)` shows: each layer with its settings, the shape of its output and its parameters."""

import numpy as np
import pytest

from minidl import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GroupNorm,
    Layer,
    LeNet,
    Linear,
    MaxPool2d,
    ModeGroupNorm,
    ModeNorm,
    ReLU,
    Residual,
    ResNet20,
    Sequential,
    norm_factory,
)
from minidl.layers.show import expect
from minidl.models import MODELS


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (lambda: Conv2d(3, 4, 5), "Conv2d(3, 4, kernel_size=5)"),
        (lambda: Conv2d(3, 4, (3, 5), 2, (1, 2), bias=False), None),
        (lambda: Conv2d(3, 4, 2, 2), "Conv2d(3, 4, kernel_size=2, stride=2)"),
        (lambda: Linear(5, 7, bias=False, dtype="float64"), "Linear(5, 7, bias=False)"),
        (lambda: MaxPool2d(2), "MaxPool2d(kernel_size=2)"),
        (lambda: AvgPool2d((3, 2), 1), "AvgPool2d(kernel_size=(3, 2), stride=1)"),
        (lambda: Dropout(0.3), "Dropout(p=0.3)"),
        (lambda: GroupNorm(2, 6), "GroupNorm(2, 6)"),
        (lambda: ModeNorm(5, 2), "ModeNorm(5, num_modes=2)"),
        (lambda: ModeGroupNorm(4, 3, eps=0.01), "ModeGroupNorm(4, num_modes=3, eps=0.01)"),
        (Flatten, "Flatten"),
    ],
)
def test_a_layer_is_shown_as_it_was_made_without_its_defaults(layer, text):
    text = text or "Conv2d(3, 4, kernel_size=(3, 5), stride=2, padding=(1, 2), bias=False)"
    assert repr(layer()) == str(layer()) == text


def net():
    branch = Sequential(Conv2d(4, 4, 3, padding=1), ReLU())
    return Sequential(Conv2d(3, 4, 3, 2), Residual(branch, Conv2d(4, 4, 1)), Flatten(), Linear(4 * 3 * 2, 5))


def test_a_network_is_a_table_with_the_total_and_shapes_are_those_of_the_last_forward():
    one = net()
    assert str(one).splitlines() == [
        "layer                                            parameters",
        "Sequential                                              405",
        "  0: Conv2d(3, 4, kernel_size=3, stride=2)              112",
        "  1: Residual                                           168",
        "    branch: Sequential                                  148",
        "      0: Conv2d(4, 4, kernel_size=3, padding=1)         148",
        "      1: ReLU",
        "    shortcut: Conv2d(4, 4, kernel_size=1)                20",
        "  2: Flatten",
        "  3: Linear(24, 5)                                      125",
        "405 parameters",
    ]
    one(np.zeros((7, 3, 7, 5), np.float32))
    header, *rows, _ = str(one).splitlines()
    shapes = [row[header.index("output") : header.index("parameters")].strip() for row in rows]
    assert shapes == ["5", *["4 × 3 × 2"] * 6, "24", "5"]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_shown_and_its_rows_add_up(name):
    model = MODELS[name](num_classes=4, in_channels=3, norm=norm_factory("mn", modes=3), rng=None, dtype="float32")
    *rows, total = str(model).splitlines()
    layers = [layer for _, layer in model.named_layers()]
    assert len(rows) == 1 + len(layers)
    counts = [int(row.rpartition("  ")[2].replace(",", "")) if layer.num_params() else 0
              for row, layer in zip(rows[1:], layers, strict=True)]  # fmt: skip
    leaves = [count for count, layer in zip(counts, layers, strict=True) if not list(layer.children())]
    assert sum(leaves) == counts[0] == model.num_params()
    assert total == f"{model.num_params():,} parameters"


@pytest.mark.parametrize("make", [LeNet, ResNet20])
def test_a_shape_is_known_for_every_layer_after_a_forward(make):
    model = make(norm=norm_factory("bn"), rng=np.random.default_rng(0))
    model(np.zeros((2, 3, 32, 32), np.float32))
    header, *rows, _ = str(model).splitlines()
    where = slice(header.index("output"), header.index("parameters"))
    assert all(row[where].strip().replace(" × ", "").isdigit() for row in rows), str(model)


def test_a_layer_of_ones_own_is_shown_whatever_its_constructor_takes():
    class Scale(Layer):
        def __init__(self, factor=2.0, *more, **options):
            super().__init__()
            self.factor = factor

    assert str(Scale(3.0)) == "Scale(factor=3.0)"
    assert str(Scale()) == "Scale"


def test_shapes_are_shown_before_the_first_forward_where_the_input_is_known_and_nothing_is_touched():
    net = LeNet(10, norm=norm_factory("bn"), rng=np.random.default_rng(0))
    bare, state = str(net), net.state()
    assert "output" not in bare
    expect(net, (3, 32, 32))
    shown = str(net)
    assert net.training
    assert all(np.array_equal(net.state()[name], array) for name, array in state.items())
    net(np.zeros((2, 3, 32, 32), np.float32))
    assert str(net) == shown


def test_an_input_that_does_not_fit_leaves_the_shapes_out():
    net = LeNet(10, norm=None)
    bare = str(net)
    expect(net, (3, 2, 2))
    assert str(net) == bare
