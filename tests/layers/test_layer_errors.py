"""Wrong arguments and wrong inputs get one line: who, what must hold, what came, what to do."""

import re

import numpy as np
import pytest
import strict
from layer_cases import CASES
from layer_runs import EACH_ENGINE, EACH_LIBRARY
from tolerance import assert_close, terms

from minidl import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    GlobalAvgPool2d,
    GroupNorm,
    LayerNorm,
    Linear,
    MaxPool2d,
    ModeGroupNorm,
    ModeNorm,
    ReLU,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    norm_factory,
    to_device,
    to_host,
    use_backend,
)
from minidl.norm import NORMS


def f32(*shape):
    return np.zeros(shape, np.float32)


ERRORS = {
    "Linear, images": (
        lambda: Linear(12, 4)(f32(3, 3, 2, 2)),
        "Linear.forward: x must be (N, 12), got (3, 3, 2, 2); put a Flatten before it",
    ),
    "Linear, a row": (
        lambda: Linear(5, 4)(f32(5)),
        "Linear.forward: x must be (N, 5), got (5,); give it a batch, x[None]",
    ),
    "Linear, width": (
        lambda: Linear(5, 4)(f32(3, 7)),
        "Linear.forward: x must be (N, 5), got (3, 7); build it with in_features=7",
    ),
    "Linear, integers": (
        lambda: Linear(5, 4)(np.zeros((3, 5), np.int64)),
        "Linear.forward: x must be of a floating dtype, got int64; use x.astype('float32')",
    ),
    "Linear, no features": (
        lambda: Linear(0, 4),
        "Linear: in_features must be >= 1, got 0; pass the width of x",
    ),
    "Conv2d, no channels": (
        lambda: Conv2d(3, 0, 2),
        "Conv2d: out_channels must be >= 1, got 0; pass the channels of y",
    ),
    "Conv2d, kernel": (
        lambda: Conv2d(3, 4, 0),
        "Conv2d: kernel_size must be >= 1, got 0; pass an int or a pair (height, width)",
    ),
    "Conv2d, stride": (
        lambda: Conv2d(3, 4, 2, stride=(1, 0)),
        "Conv2d: stride must be >= 1, got (1, 0); pass an int or a pair (height, width)",
    ),
    "Conv2d, padding": (
        lambda: Conv2d(3, 4, 2, padding=-1),
        "Conv2d: padding must be >= 0, got -1; pass an int or a pair (height, width)",
    ),
    "Conv2d, channels": (
        lambda: Conv2d(3, 4, 2)(f32(5, 4, 7, 7)),
        "Conv2d.forward: x must be (N, 3, H, W), got (5, 4, 7, 7); give it that many channels",
    ),
    "Conv2d, no image": (
        lambda: Conv2d(3, 4, 2)(f32(5, 3)),
        "Conv2d.forward: x must be (N, 3, H, W), got (5, 3); give it images",
    ),
    "Conv2d, one image": (
        lambda: Conv2d(3, 4, 2)(f32(3, 5, 7)),
        "Conv2d.forward: x must be (N, 3, H, W), got (3, 5, 7); give it a batch, x[None]",
    ),
    "Conv2d, small image": (
        lambda: Conv2d(3, 4, (3, 5), padding=(0, 1))(f32(5, 3, 4, 2)),
        "Conv2d.forward: the padded image must be at least the kernel (3, 5), got (4, 4); "
        "use a larger image or more padding",
    ),
    "Conv2d, bytes": (
        lambda: Conv2d(3, 4, 2)(np.zeros((5, 3, 4, 4), np.uint8)),
        "Conv2d.forward: x must be of a floating dtype, got uint8; use x.astype('float32')",
    ),
    "MaxPool2d, padding": (
        lambda: MaxPool2d((2, 3), padding=(2, 1)),
        "MaxPool2d: padding must be at most half of kernel_size (2, 3), got (2, 1); a window must hold a real pixel",
    ),
    "MaxPool2d, small image": (
        lambda: MaxPool2d(4)(f32(5, 3, 7, 3)),
        "MaxPool2d.forward: x must be (N, C, H, W) with H, W at least the kernel (4, 4), got (5, 3, 7, 3); "
        "use a larger image or a smaller kernel",
    ),
    "AvgPool2d, no image": (
        lambda: AvgPool2d(2)(f32(5, 3, 7)),
        "AvgPool2d.forward: x must be (N, C, H, W) with H, W at least the kernel (2, 2), got (5, 3, 7); "
        "give it a batch, x[None]",
    ),
    "GlobalAvgPool2d, no image": (
        lambda: GlobalAvgPool2d()(f32(5, 3)),
        "GlobalAvgPool2d.forward: x must be (N, C, H, W), got (5, 3); give it images",
    ),
    "Dropout, p": (lambda: Dropout(1.0), "Dropout: p must be in [0, 1), got 1.0; it is the probability of zeroing"),
    "BatchNorm, features": (
        lambda: BatchNorm(0),
        "BatchNorm: num_features must be >= 1, got 0; pass the number of channels",
    ),
    "LayerNorm, eps": (lambda: LayerNorm(4, eps=0.0), "LayerNorm: eps must be > 0, got 0.0; 1e-5 is usual"),
    "LayerNorm, eps is nan": (
        lambda: LayerNorm(4, eps=float("nan")),
        "LayerNorm: eps must be > 0, got nan; 1e-5 is usual",
    ),
    "BatchNorm, momentum": (
        lambda: BatchNorm(4, momentum=1.5),
        "BatchNorm: momentum must be in [0, 1], got 1.5; it is the weight of the new batch",
    ),
    "BatchNorm, running": (
        lambda: BatchNorm(4, running="both"),
        "BatchNorm: running must be one of unbiased, biased, second_moment, got 'both'; choose one",
    ),
    "BatchNorm, channels": (
        lambda: BatchNorm(4)(f32(5, 3, 7)),
        "BatchNorm.forward: x must be (N, 4), (N, 4, L) or (N, 4, H, W) with pixels, got (5, 3, 7); "
        "build it with num_features=3",
    ),
    "GroupNorm, channels": (
        lambda: GroupNorm(2, 4)(f32(5, 3, 7)),
        "GroupNorm.forward: x must be (N, 4), (N, 4, L) or (N, 4, H, W) with pixels, got (5, 3, 7); "
        "build it with num_channels=3",
    ),
    "BatchNorm, dimensions": (
        lambda: BatchNorm(4)(f32(4)),
        "BatchNorm.forward: x must be (N, 4), (N, 4, L) or (N, 4, H, W) with pixels, got (4,); "
        "give it a batch, x[None]",
    ),
    "BatchNorm, volumes": (
        lambda: BatchNorm(4)(f32(3, 4, 2, 2, 2)),
        "BatchNorm.forward: x must be (N, 4), (N, 4, L) or (N, 4, H, W) with pixels, got (3, 4, 2, 2, 2); "
        "reshape x to (N, C, L)",
    ),
    "BatchNorm, empty": (
        lambda: BatchNorm(4)(f32(3, 4, 5, 0)),
        "BatchNorm.forward: x must be (N, 4), (N, 4, L) or (N, 4, H, W) with pixels, got (3, 4, 5, 0); "
        "leave out what has no pixels",
    ),
    "ModeNorm, integers": (
        lambda: ModeNorm(4)(np.zeros((3, 4), np.int32)),
        "ModeNorm.forward: x must be of a floating dtype, got int32; use x.astype('float32')",
    ),
    "ModeNorm, one value": (
        lambda: ModeNorm(4)(f32(1, 4)),
        "ModeNorm.forward: x must hold more than one value per channel in training, got (1, 4); "
        "use a larger batch, or eval()",
    ),
    "BatchNorm, one value": (
        lambda: BatchNorm(4)(f32(1, 4, 1, 1)),
        "BatchNorm.forward: x must hold more than one value per channel in training, got (1, 4, 1, 1); "
        "use a larger batch, or eval()",
    ),
    "GroupNorm, groups": (
        lambda: GroupNorm(4, 6),
        "GroupNorm: num_groups must divide num_channels 6, got 4; use one of 1, 2, 3, 6",
    ),
    "ModeNorm, gate input": (
        lambda: ModeNorm(4, gate_input="none"),
        "ModeNorm: gate_input must be one of plain, normalised, got 'none'; choose one",
    ),
    "ModeNorm, temperature": (
        lambda: ModeNorm(4, gate_temperature=0.0),
        "ModeNorm: gate_temperature must be positive and finite, got 0.0; try 2",
    ),
    "ModeNorm, modes": (
        lambda: ModeNorm(4, 0),
        "ModeNorm: num_modes must be >= 1, got 0; 1 is BatchNorm, the paper takes 2",
    ),
    "ModeGroupNorm, modes": (
        lambda: ModeGroupNorm(4, 0),
        "ModeGroupNorm: num_modes must be >= 1, got 0; 1 is LayerNorm",
    ),
    "ModeGroupNorm, moments": (
        lambda: ModeGroupNorm(4, moments="none"),
        "ModeGroupNorm: moments must be one of spatial, pooled, got 'none'; choose one",
    ),
    "Sequential, a list": (
        lambda: Sequential([Linear(5, 3)]),
        "Sequential: layer 0 must be a minidl.Layer, got a list; pass the layers one by one: Sequential(*layers)",
    ),
    "Sequential, a class": (
        lambda: Sequential(Linear(5, 3), ReLU),
        "Sequential: layer 1 must be a minidl.Layer, got the class ReLU; make one: ReLU()",
    ),
    "Sequential, a loss": (
        lambda: Sequential(Linear(5, 3), SoftmaxCrossEntropy()),
        "Sequential: layer 1 must be a minidl.Layer, got one of SoftmaxCrossEntropy; derive a class from minidl.Layer",
    ),
    "Residual, a function": (
        lambda: Residual(lambda x: x),
        "Residual: branch must be a minidl.Layer, got one of function; derive a class from minidl.Layer",
    ),
    "Residual, a shortcut": (
        lambda: Residual(Linear(5, 3), [Linear(5, 3)]),
        "Residual: shortcut must be a minidl.Layer, got a list; pass the layers one by one: Sequential(*layers)",
    ),
    "norm_factory": (
        lambda: norm_factory("batch"),
        f"norm_factory: name must be one of {', '.join(NORMS)}, got 'batch'; choose one of them",
    ),
}


@pytest.mark.parametrize("what", ERRORS)
def test_the_error_says_who_what_and_the_cure(what):
    call, message = ERRORS[what]
    with pytest.raises(ValueError, match=":") as caught:
        call()
    assert str(caught.value) == message


REFUSED = ["uint8", "int64", "bool", "complex64", "object"]


@pytest.mark.parametrize("dtype", REFUSED)
@pytest.mark.parametrize("name", CASES)
def test_every_layer_refuses_what_is_not_floating_with_the_cure(name, dtype):
    layer, (x, dy) = CASES[name].layer("float32"), CASES[name].arrays("float32")
    who = r"\w+"
    with pytest.raises(
        ValueError, match=rf"^{who}\.forward: x must be of a floating dtype, got {dtype}; use x\.astype"
    ):
        layer.forward(x.astype(dtype))
    layer.forward(x)
    with pytest.raises(
        ValueError, match=rf"^{who}\.backward: dy must be of a floating dtype, got {dtype}; use dy\.ast"
    ):
        layer.backward(dy.astype(dtype))
    layer.backward(dy)  # a refused dy uses nothing up


def wrong_shapes(dy):
    """Return what is not of the shape of dy: narrower, wider, of one sample or one number, which broadcast, ..."""
    one = dy[:1] if len(dy) > 1 else dy[0]
    return dy[..., :-1], np.concatenate([dy, dy], axis=-1), one, dy.sum(keepdims=True), dy[None], dy.reshape(-1)


@EACH_ENGINE
@pytest.mark.parametrize("name", CASES)
def test_every_layer_refuses_a_dy_of_another_shape_than_y(name):
    with strict.as_cupy():
        layer, (x, dy) = CASES[name].layer("float32"), CASES[name].arrays("float32")
        y = layer.forward(to_device(x))
        alone = not list(layer.children())  # others have layers before the one that refuses
        for bad in wrong_shapes(dy):
            with pytest.raises(ValueError, match=r"^\w+\.backward: dy must have the shape of y, \(") as caught:
                layer.backward(to_device(bad))
            assert str(caught.value).endswith("; pass dL/dy for the y that forward returned")
            assert not alone or f"the shape of y, {y.shape}, got {bad.shape};" in str(caught.value)
            assert all(not to_host(grad).any() for grad in layer.grads.values())
            if not alone:
                layer.forward(to_device(x))
        layer.backward(to_device(dy))  # a refused dy uses nothing up


def test_the_mode_of_a_layer_or_a_batch_without_samples_changes_nothing_about_the_shape_of_dy():
    norm, drop = BatchNorm(4), Dropout(0.5).eval()
    norm.forward(f32(0, 4, 3, 5))
    with pytest.raises(ValueError, match=r"^BatchNorm\.backward: dy must have the shape of y, \(0, 4, 3, 5\), got"):
        norm.backward(f32(0, 4, 3, 4))
    drop.forward(f32(3, 5))
    with pytest.raises(ValueError, match=r"^Dropout\.backward: dy must have the shape of y, \(3, 5\), got \(1, 5\)"):
        drop.backward(f32(1, 5))


@pytest.mark.parametrize(
    "dtype", [np.dtype("float32").newbyteorder("S"), np.dtype("float64").newbyteorder("S")], ids=str
)
@pytest.mark.parametrize("name", CASES)
def test_every_layer_refuses_the_other_order_of_bytes_with_the_cure(name, dtype):
    layer, (x, dy) = CASES[name].layer("float32"), CASES[name].arrays("float32")
    wanted = "must be of float16, float32 or float64 as this machine orders bytes"
    with pytest.raises(ValueError, match=rf"\.forward: x {wanted}, got {dtype}; use x\.astype\('float32'\)$"):
        layer.forward(x.astype(dtype))
    layer.forward(x)
    with pytest.raises(ValueError, match=rf"\.backward: dy {wanted}, got {dtype}; use dy\.astype\('float32'\)$"):
        layer.backward(dy.astype(dtype))


@pytest.mark.skipif(np.dtype("longdouble").itemsize == 8, reason="long double is float64 on this machine")
def test_a_wider_number_than_float64_is_refused_with_the_cure():
    with pytest.raises(ValueError, match=r"^MaxPool2d\.forward: x must be of float16, .*; use x\.astype\('float32'\)$"):
        MaxPool2d(1).forward(np.ones((2, 3, 1, 1), np.longdouble))


@pytest.mark.parametrize("dtype", REFUSED)
def test_the_loss_refuses_logits_that_are_not_floating(dtype):
    with pytest.raises(
        ValueError, match=rf"^SoftmaxCrossEntropy\.forward: logits must be .* dtype, got {dtype}; use log"
    ):
        SoftmaxCrossEntropy().forward(f32(3, 4).astype(dtype), np.array([0, 1, 2]))


def test_one_value_a_channel_is_fine_in_inference():
    assert np.isfinite(BatchNorm(4).eval()(f32(1, 4))).all()
    assert np.isfinite(ModeNorm(4).eval()(f32(1, 4))).all()


@pytest.mark.parametrize(
    "layer", [Linear(4, 3), Conv2d(4, 3, 1), BatchNorm(4), MaxPool2d(1)], ids=lambda a: type(a).__name__
)
def test_a_list_is_refused_with_the_cure(layer):
    with pytest.raises(
        TypeError, match=r"^array_module: .* must be a numpy or cupy array, got list; .*numpy\.asarray$"
    ):
        layer([[1.0, 2.0, 3.0, 4.0]])


def other_library(array):
    """Move an array of the default library to the other one."""
    return to_host(array) if type(array) is strict.ndarray else strict.asarray(array)


def assert_mixed(call, *names):
    """Expect the one error for mixed libraries; it names each argument and its kind."""
    with pytest.raises(TypeError) as caught:
        call()
    kinds = r", ".join(rf"{name} is (numpy|strict\.arrays)\.ndarray" for name in names)
    assert re.fullmatch(
        rf"array_module: all arrays must belong to one library, got {kinds}(, \w+ is \S+)*; "
        r"move them with minidl\.to_device\(\.\.\.\) or minidl\.to_host\(\.\.\.\)",
        str(caught.value),
    ), str(caught.value)


KEEPS_NO_ARRAY = ("AvgPool2d", "GlobalAvgPool2d", "Flatten")


@EACH_LIBRARY
@pytest.mark.parametrize("name", CASES)
def test_arrays_of_two_libraries_are_refused_forwards_and_backwards(name):
    with strict.as_cupy():
        layer, (x, dy) = CASES[name].layer("float32"), map(to_device, CASES[name].arrays("float32"))
        if layer.num_params():
            assert_mixed(lambda: layer.forward(other_library(x)), "x", "weight")
        layer.forward(x)
        if not name.startswith(KEEPS_NO_ARRAY):
            assert_mixed(lambda: layer.backward(other_library(dy)), "dy", r"\w+")


@EACH_LIBRARY
def test_labels_of_another_device_than_the_logits_are_refused_and_those_of_the_host_uploaded():
    with strict.as_cupy():
        logits, labels = to_device(np.zeros((3, 4))), np.array([1, 2, 0])
        assert_close(float(SoftmaxCrossEntropy().forward(logits, labels)), np.log(4), terms(8, np.log(4)))
        if type(logits) is np.ndarray:
            with use_backend("cupy"):
                labels = to_device(labels)
            assert_mixed(lambda: SoftmaxCrossEntropy().forward(logits, labels), "logits", "labels")
