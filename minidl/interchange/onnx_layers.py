"""Every layer in inference, as ONNX operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidl.interchange import onnx_norms
from minidl.interchange.onnx_graph import Graph, Value
from minidl.interchange.onnx_own import write_own
from minidl.layers.activation import ReLU, Tanh
from minidl.layers.base import Layer
from minidl.layers.compose import Residual, Sequential
from minidl.layers.conv import Conv2d, output_size
from minidl.layers.dropout import Dropout
from minidl.layers.flatten import Flatten
from minidl.layers.linear import Linear
from minidl.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from minidl.layers.shortcut import ZeroPaddedShortcut
from minidl.norm.batch import BatchNorm
from minidl.norm.group import GroupNorm
from minidl.norm.mode import ModeNorm
from minidl.norm.mode_group import ModeGroupNorm

Writer = Callable[[Graph, Any, Value], Value]


def write(graph: Graph, layer: Layer, x: Value, path: str = "") -> Value:
    """Add a layer's operators to the graph and return its output.

    A layer of one's own has a method ``to_onnx(graph, x)`` that does this.

    Raises
    ------
    ValueError
        If there is no way to write the layer.
    """
    graph.path = path
    if isinstance(layer, Sequential) and _is_own(layer, Sequential):
        for name, child in layer.children():
            x = write(graph, child, x, f"{path}.{name}" if path else name)
        return x
    if isinstance(layer, Residual) and _is_own(layer, Residual):
        branch = write(graph, layer.branch, x, f"{path}.branch" if path else "branch")
        shortcut = getattr(layer, "shortcut", None)
        if shortcut is not None:
            x = write(graph, shortcut, x, f"{path}.shortcut" if path else "shortcut")
        graph.path = path
        return graph.op("Add", [branch.name, x.name], branch.shape)
    what = f"export_onnx: layer {path or 'itself'} of type {type(layer).__name__}"
    if hasattr(layer, "to_onnx"):
        return write_own(graph, layer, x, what)
    for kind, writer in WRITERS.items():
        if isinstance(layer, kind) and _is_own(layer, kind):
            return writer(graph, layer, x)
    raise ValueError(
        f"{what} is none of minidl's own, which can be written; give it a method to_onnx(graph, x), as "
        "docs/write-a-norm.md shows"
    )


def _is_own(layer: Layer, kind: type[Layer]) -> bool:
    """Whether a layer computes as this class does, and not as a subclass that changed it."""
    return all(getattr(type(layer), name, None) is getattr(kind, name, None) for name in ("forward", "small"))


def conv(graph: Graph, layer: Conv2d, x: Value) -> Value:
    """Return the convolution: Conv."""
    constants = [graph.floats(name, layer.params[name]) for name in ("weight", "bias") if name in layer.params]
    shape = (layer.params["weight"].shape[0], *_spatial(layer, x))
    return graph.op("Conv", [x.name, *constants], shape, **_window(layer))


def linear(graph: Graph, layer: Linear, x: Value) -> Value:
    """Return x Wᵀ + b: Gemm."""
    constants = [graph.floats(name, layer.params[name]) for name in ("weight", "bias") if name in layer.params]
    return graph.op("Gemm", [x.name, *constants], (layer.params["weight"].shape[0],), transB=1)


def max_pool(graph: Graph, layer: MaxPool2d, x: Value) -> Value:
    """Return the largest value of each window: MaxPool."""
    return graph.op("MaxPool", [x.name], (x.shape[0], *_spatial(layer, x)), **_window(layer))


def avg_pool(graph: Graph, layer: AvgPool2d, x: Value) -> Value:
    """Return the mean of each window, padded zeros counting: AveragePool."""
    shape = (x.shape[0], *_spatial(layer, x))
    return graph.op("AveragePool", [x.name], shape, count_include_pad=1, **_window(layer))


def shortcut(graph: Graph, layer: ZeroPaddedShortcut, x: Value) -> Value:
    """Return every stride-th pixel between channels of zeros: Slice and Pad."""
    c, *size = x.shape
    if layer.stride > 1:
        size = [-(-n // layer.stride) for n in size]
        ends = graph.integers("starts", 0, 0), graph.integers("ends", *x.shape[1:]), graph.integers("axes", 2, 3)
        x = graph.op("Slice", [x.name, *ends, graph.integers("steps", *(layer.stride,) * 2)], (c, *size))
    real = layer._real(c)
    after = layer.out_channels - real.stop
    pads = graph.integers("pads", *(0, real.start, 0, 0), *(0, after, 0, 0))
    return graph.op("Pad", [x.name, pads], (layer.out_channels, *size))


def _window(layer: Any) -> dict[str, list[int]]:
    return {
        "kernel_shape": list(layer.kernel_size),
        "strides": list(layer.stride),
        "pads": [*layer.padding, *layer.padding],
    }


def _spatial(layer: Any, x: Value) -> tuple[int, int]:
    h, w = map(output_size, x.shape[1:], layer.kernel_size, layer.stride, layer.padding)
    return h, w


WRITERS: dict[type[Layer], Writer] = {
    Conv2d: conv,
    Linear: linear,
    MaxPool2d: max_pool,
    AvgPool2d: avg_pool,
    GlobalAvgPool2d: lambda graph, layer, x: onnx_norms.means(graph, x),
    ZeroPaddedShortcut: shortcut,
    ReLU: lambda graph, layer, x: graph.op("Relu", [x.name], x.shape),
    Tanh: lambda graph, layer, x: graph.op("Tanh", [x.name], x.shape),
    Flatten: lambda graph, layer, x: graph.op("Flatten", [x.name], (onnx_norms.x_size(x),), axis=1),
    Dropout: lambda graph, layer, x: x,
    BatchNorm: onnx_norms.batch_norm,
    GroupNorm: onnx_norms.group_norm,
    ModeNorm: onnx_norms.mode_norm,
    ModeGroupNorm: onnx_norms.mode_group_norm,
}
