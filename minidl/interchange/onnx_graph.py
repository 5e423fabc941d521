"""A graph of ONNX operators while it grows: values that know their shape, constants, nodes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minidl import __version__
from minidl.backend import Array, to_host

OPSET = 17
"""Of ONNX 1.12 (2022): onnxruntime 1.12 and newer run it."""
BATCH = "N"  # the name of the dimension that is free
_IR_VERSION = 8  # of ONNX 1.12, as OPSET


class Value(NamedTuple):
    """A value of the graph: an input or an output of operators.

    Parameters
    ----------
    name : str
        What `Graph.op` takes as an input.
    shape : tuple of int
        Without the batch, such as (C, H, W).
    """

    name: str
    shape: tuple[int, ...]


class Graph:
    """Nodes and constants, each named after the layer it belongs to: what ``to_onnx(graph, x)`` of a layer writes to.

    Attributes
    ----------
    nodes, constants : lists of ONNX's NodeProto and TensorProto
    path : str
        The path of the layer at work, which begins the names.

    Examples
    --------
    >>> from minidl.interchange.onnx_graph import Graph, Value
    >>> graph, x = Graph(), Value("x", (3, 8, 8))
    >>> half = graph.floats("half", 0.5)  # doctest: +SKIP
    >>> graph.op("Mul", [x.name, half], x.shape)  # doctest: +SKIP
    Value(name='mul', shape=(3, 8, 8))
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.path = ""
        self._used: set[str] = {"x", "y"}

    def op(self, kind: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> Value:
        """Add a node of one output, and return its output; `ops` adds one of several.

        Parameters
        ----------
        kind : str
            An operator of ONNX's opset 17, such as "Mul": https://onnx.ai/onnx/operators/.
        inputs : list of str
            Names of values, and of constants, in the operator's order.
        shape : tuple of int
            Of the output, without the batch; of a mean over (C, H, W) that keeps its axes, (1, 1, 1).
        **attributes
            Those of the operator, such as ``axes=[1, 2, 3]``, where axis 0 is the batch.

        Returns
        -------
        Value
            What the next operator takes.
        """
        return self.ops(kind, inputs, [shape], **attributes)[0]

    def ops(self, kind: str, inputs: list[str], shapes: list[tuple[int, ...]], **attributes: Any) -> list[Value]:
        """Add a node of several outputs, such as "TopK" with values and places, and return one per shape."""
        from onnx import helper

        names = [self._free(kind.lower()) for _ in shapes]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"{names[0]}:{kind}", **attributes))
        return [Value(name, shape) for name, shape in zip(names, shapes, strict=True)]

    def floats(self, name: str, value: Array) -> str:
        """Add a constant of float32, and return its name, which `op` takes as an input.

        Parameters
        ----------
        name : str
            What it is called in the file, after the layer's path.
        value : array or float
            Such as a parameter, of any library, dtype and memory layout. It is broadcast from the right, as in NumPy:
            a weight (C,) of images becomes ``weight.reshape(-1, 1, 1)``.

        Returns
        -------
        str
            The constant's name.
        """
        return self._constant(name, np.array(to_host(value), np.float32, order="C"))

    def integers(self, name: str, *values: int) -> str:
        """Add a constant list of integers, such as a shape or axes that are an input, and return its name."""
        return self._constant(name, np.array(values, np.int64))

    def model(self, name: str, shape: tuple[int, ...], y: Value) -> Any:
        """Return the checked ModelProto of what the graph holds, from the input "x" (N, *shape) to the output "y".

        It may be asked for once, since a value of the graph is renamed.

        Raises
        ------
        ValueError
            If the operators are none that ONNX knows, or do not fit together.
        """
        import onnx
        from onnx import TensorProto, helper

        if y.name == "x":  # a network of dropout alone
            y = self.op("Identity", ["x"], shape)
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = ["y" if name == y.name else name for name in names]
        made = helper.make_model(
            helper.make_graph(
                self.nodes,
                name,
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, [BATCH, *shape])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, [BATCH, *y.shape])],
                self.constants,
            ),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="minidl",
            producer_version=__version__,
        )
        try:
            onnx.checker.check_model(made, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ValueError(f"{name}: no valid ONNX ({' '.join(str(error).split())}); mend to_onnx") from error
        return made

    def _constant(self, name: str, value: np.ndarray) -> str:
        from onnx import numpy_helper

        name = self._free(name)
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def _free(self, name: str) -> str:
        """Return an unused name that begins with the layer's path."""
        base = f"{self.path}.{name}" if self.path else name
        name, number = base, 1
        while name in self._used:
            name, number = f"{base}_{number}", number + 1
        self._used.add(name)
        return name
