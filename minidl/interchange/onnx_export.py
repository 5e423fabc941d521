"""A network for inference as an ONNX file, which runs without minidl."""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minidl.arguments import shown
from minidl.backend import to_device
from minidl.classifier import Classifier
from minidl.interchange.errors import StateError
from minidl.interchange.onnx_graph import Graph, Value
from minidl.interchange.onnx_layers import write
from minidl.layers.base import Layer
from minidl.writing import write_atomic


def export_onnx(
    net: Layer,
    path: str | os.PathLike[str],
    input_shape: Sequence[int],
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write a network for inference: input "x" of ``(N, *input_shape)``, output "y", both float32, N free.

    Norms are those of evaluation: running statistics where a norm has them, the gates of the sample in ModeNorm and
    ModeGroupNorm, which become plain operators. Dropout disappears. The file is of opset 17 and runs with onnxruntime
    1.12 or newer. The network stays as it is.

    Parameters
    ----------
    net : Layer
        A network or a single layer. Its values are rounded to float32.
    path : path
        The file, written whole or not at all.
    input_shape : ints
        The shape of one sample, such as (3, 32, 32).
    notes : {str: str}, optional
        Metadata of the file, such as the means of the training images.

    Raises
    ------
    StateError
        If `net` is no layer, or `path` no path; if a layer is none of minidl's own and has no method
        ``to_onnx(graph, x)``, or one that gives other values than the layer; if the network does not take the shape, or
        the package onnx is missing.
    OSError
        If the file cannot be written, as where its folder does not exist.

    Examples
    --------
    >>> import tempfile
    >>> from minidl import LeNet, norm_factory
    >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +SKIP
    ...     export_onnx(LeNet(10, norm=norm_factory("mn")), f"{folder}/lenet.onnx", (3, 32, 32))
    """
    if not isinstance(path, str | os.PathLike):
        raise StateError(f"export_onnx: path must be a path, got {shown(path)}; give the file, such as 'net.onnx'")
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"{os.strerror(errno.ENOENT)}; make its folder first", os.fspath(path))
    write_atomic(Path(path), onnx_bytes(net, input_shape, notes))


def onnx_bytes(net: Layer, input_shape: Sequence[int], notes: Mapping[str, str] | None = None) -> bytes:
    """Return the file that `export_onnx` writes; equal networks give equal bytes."""
    _check_given(net, input_shape)
    try:
        from onnx import helper
    except ImportError as error:
        raise StateError("export_onnx needs the package onnx: pip install 'minidl[onnx]'") from error
    shape = tuple(int(size) for size in input_shape)
    want = _output_shape(net, shape)
    graph = Graph()
    try:
        y = write(graph, net, Value("x", shape))
        if y.shape != want:
            raise ValueError(f"export_onnx: {type(net).__name__} gives {want}, its operators {y.shape}; mend to_onnx")
        model = graph.model(type(net).__name__, shape, y)
    except ValueError as error:
        raise StateError(str(error)) from error
    helper.set_model_props(model, dict(notes or {}))
    return bytes(model.SerializeToString(deterministic=True))


def _check_given(net: Any, input_shape: Any) -> None:
    """Raise StateError unless it is a layer, and a shape."""
    if isinstance(net, Classifier):
        raise StateError("export_onnx: net must be a minidl.Layer, got a Classifier; give its network, net.network")
    if not isinstance(net, Layer):
        raise StateError(f"export_onnx: net must be a minidl.Layer, got {shown(net)}; give a network or a layer")
    try:
        tuple(int(size) for size in input_shape)
    except (TypeError, ValueError) as error:
        raise StateError(
            f"export_onnx: input_shape must be the shape of one sample, got {shown(input_shape)}; give it, such as "
            "(3, 32, 32)"
        ) from error


def _output_shape(net: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the network's output for one sample, found by a copy of the network."""
    twin: Any = copy.deepcopy(net).eval()
    dtypes = [array.dtype for _, layer in net.named_layers() for array in layer.params.values()]
    like = next((a for _, layer in net.named_layers() for a in layer.params.values()), None)
    x = np.zeros((1, *shape), np.result_type(np.float32, *dtypes))
    try:
        return tuple(
            int(size) for size in twin.forward(to_device(x) if like is None else to_device(x, like=like)).shape[1:]
        )
    except ValueError as error:
        raise StateError(
            f"export_onnx: {type(net).__name__} does not take x (1, {', '.join(map(str, shape))}): {error}"
        ) from error
