"""What `print(net)` shows: one row per layer, with its settings, its last output's shape and its parameters."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np

from minidl.backend import to_device
from minidl.layers.base import Layer
from minidl.layers.compose import Residual

_MACHINERY = ("self", "rng", "dtype", "needs_dx")  # of a constructor: of no interest here
_SIZES = (  # shown even where they are the default, and all but the last without their names
    *("in_channels", "out_channels", "in_features", "out_features", "num_features", "num_channels", "num_groups"),
    "num_modes",
)
_INDENT = "  "


def name_and_settings(layer: Layer) -> str:
    """Return a layer as its constructor would be called, with what differs from its defaults.

    Settings are read from attributes of the same name, else from the parameters' shapes.

    >>> from minidl import Conv2d, MaxPool2d
    >>> name_and_settings(Conv2d(3, 6, 5, padding=2)), name_and_settings(MaxPool2d(2))
    ('Conv2d(3, 6, kernel_size=5, padding=2)', 'MaxPool2d(kernel_size=2)')
    """
    shown = []
    for name, parameter in inspect.signature(type(layer).__init__).parameters.items():
        value = _setting(layer, name)
        usual = _same(value, parameter.default) and name not in _SIZES
        if name in _MACHINERY or value is None or usual:
            continue
        if name == "stride" and parameter.default is None and value == getattr(layer, "kernel_size", None):
            continue  # of a pooling layer
        if isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]:
            value = value[0]
        shown.append(str(value) if name in _SIZES[:-1] else f"{name}={value!r}")
    return type(layer).__name__ + (f"({', '.join(shown)})" if shown else "")


def table(net: Layer) -> str:
    """Return one row for each layer of a tree, parents first, and the number of all parameters.

    The output's shape, without the batch, is that of the last forward. Before the first it is that of one sample, where
    the network was told what it expects (`expect`), and else left out.

    >>> import numpy as np
    >>> from minidl import Linear, ReLU, Sequential
    >>> print(table(Sequential(Linear(3, 5), ReLU(), Linear(5, 2))))
    layer              parameters
    Sequential                 32
      0: Linear(3, 5)          20
      1: ReLU
      2: Linear(5, 2)          12
    32 parameters
    """
    rows = [("layer", "output", "parameters")]
    for path, layer in _tried(net).named_layers():
        depth = path.count(".") + 1 if path else 0
        name = f"{path.rpartition('.')[2]}: " if path else ""
        shape = _shape(layer)
        output = " × ".join(map(str, shape[1:])) if shape else ""
        count = layer.num_params()
        rows.append((_INDENT * depth + name + name_and_settings(layer), output, f"{count:,}" if count else ""))
    if not any(output for _, output, _ in rows[1:]):
        rows = [(name, "", count) for name, _, count in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = []
    for name, output, parameters in rows:
        middle = f"  {output:<{widths[1]}}" if widths[1] else ""
        lines.append(f"{name:<{widths[0]}}{middle}  {parameters:>{widths[2]}}".rstrip())
    return "\n".join([*lines, f"{net.num_params():,} parameters"])


def expect(net: Layer, shape: tuple[int, ...]) -> None:
    """Let `print` show the outputs' shapes before the first forward: `shape` is that of one sample of the input."""
    vars(net)["_expects"] = shape


def _tried(net: Layer) -> Layer:
    """Return a tree whose layers know their outputs' shapes: itself where they do, or where nothing is expected."""
    expected: tuple[int, ...] | None = vars(net).get("_expects")
    if expected is None or _shape(net) is not None:
        return net
    try:
        twin = copy.deepcopy(net).eval()
        weights = next((p for _, layer in twin.named_layers() for p in layer.params.values()), None)
        dtype = "float32" if weights is None else weights.dtype
        with np.errstate(all="ignore"):
            twin.forward(to_device(np.zeros((1, *expected), dtype), like=weights))
    except Exception:  # of a network of one's own; a table without shapes is a table
        return net
    return twin


def _shape(layer: Layer) -> tuple[int, ...] | None:
    """Return the shape of a layer's last output; of a row or a branch, that of its last layer."""
    children = [child for _, child in layer.children()]
    own: tuple[int, ...] | None = vars(layer).get("_output_shape")
    return own or (_shape(children[0 if isinstance(layer, Residual) else -1]) if children else None)


def _setting(layer: Layer, name: str) -> Any:
    """Return the value that a constructor's argument had, where it can be told; None where not."""
    value = vars(layer).get(name)
    if isinstance(value, (bool, int, float, str, tuple)):
        return value
    weight = layer.params.get("weight")
    if weight is None:
        return None
    shape, joined = weight.shape, weight.ndim in (2, 4) and not layer.buffers
    if name in ("in_channels", "in_features") and joined:
        return shape[1]
    if name in ("out_channels", "out_features") and joined:
        return shape[0]
    if name == "kernel_size" and weight.ndim == 4:
        return tuple(shape[2:])
    if name == "bias" and joined:
        return "bias" in layer.params
    if name == "num_channels":
        return vars(layer).get("num_features")
    return None


def _same(value: Any, default: Any) -> bool:
    """Whether a value is a default, or the pair that one number stands for."""
    return bool(value == default or (isinstance(value, tuple) and value == (default, default)))
