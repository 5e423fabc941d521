"""A layer of one's own as ONNX operators, held to what the layer computes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from minidl.backend import to_device, to_host
from minidl.interchange.onnx_graph import Graph, Value
from minidl.layers.base import Layer

_BOUND = 1e-3  # of the size of the output: far above rounding to float32, far below another formula
_SAMPLES = 3


def write_own(graph: Graph, layer: Any, x: Value, what: str) -> Value:
    """Add the operators that the layer's ``to_onnx(graph, x)`` writes, and return its output.

    The layer's operators alone are run by ONNX's reference implementation, on random x, beside the layer itself.

    Raises
    ------
    ValueError
        If to_onnx fails, or gives another shape or other values than the layer; the message begins with `what`.
    """
    from minidl.train.named import where

    alone = Graph()
    try:
        y, made = layer.to_onnx(alone, Value("x", x.shape)), layer.to_onnx(graph, x)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{what}: to_onnx failed: {where(error, layer.to_onnx)}; {_cure(error)}") from error
    if not (isinstance(y, Value) and isinstance(made, Value)):
        raise ValueError(f"{what}: to_onnx must return what graph.op returns, got {type(made).__name__}; mend it")
    inputs = np.random.default_rng(0).standard_normal((_SAMPLES, *x.shape)).astype(np.float32)
    want = _forward(layer, inputs)
    got = _run(alone, x.shape, y, inputs, what)
    if got.shape != want.shape:
        raise ValueError(
            f"{what}: to_onnx must give {want.shape[1:]} a sample, as forward does, got {got.shape[1:]}; mend it"
        )
    if not np.linalg.norm(got - want) <= _BOUND * np.linalg.norm(want):
        far = float(np.abs(got - want).max())
        raise ValueError(
            f"{what}: to_onnx must give what forward gives in evaluation, got values that differ by up to {far:.2g}; "
            "mend it"
        )
    return made


def _cure(error: BaseException) -> str:
    """Return how to mend what to_onnx raised."""
    called = error.__traceback__
    if isinstance(error, TypeError) and called is not None and called.tb_next is None:  # no line of it has run
        return "define it as to_onnx(self, graph, x)"
    if isinstance(error, AttributeError) and isinstance(error.obj, Graph):
        return "graph has op, ops, floats and integers"
    if isinstance(error, AttributeError) and isinstance(error.obj, str) and error.name == "name":
        return "graph.op returns one output, and a constant is its name already; several outputs are graph.ops"
    return "mend it"


def _forward(layer: Layer, x: np.ndarray) -> np.ndarray:
    """Return what the layer makes of x in evaluation; it stays as it is."""
    dtypes = [array.dtype for _, each in layer.named_layers() for array in each.params.values()]
    twin: Any = copy.deepcopy(layer).eval()
    return np.asarray(to_host(twin.forward(to_device(x.astype(np.result_type(np.float32, *dtypes))))))


def _run(alone: Graph, shape: tuple[int, ...], y: Value, x: np.ndarray, what: str) -> np.ndarray:
    """Return what the operators make of x."""
    from onnx.reference import ReferenceEvaluator

    model = alone.model(what, shape, y)
    try:
        (got,) = ReferenceEvaluator(model).run(["y"], {"x": x})
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{what}: what to_onnx writes cannot be run ({said}); mend it") from error
    return np.asarray(got)
