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

        Raises
        ------
        TypeError
            If `inputs` is no list of names.
        """
        return self.ops(kind, inputs, [shape], **attributes)[0]

    def ops(self, kind: str, inputs: list[str], shapes: list[tuple[int, ...]], **attributes: Any) -> list[Value]:
        """Add a node of several outputs, and return one per shape.

        Parameters
        ----------
        kind : str
            An operator of ONNX's opset 17, such as "TopK", whose outputs are the largest values and their places.
        inputs : list of str
            As `op` takes them.
        shapes : list of tuples of int
            Of each output, in the operator's order, without the batch; also of one that nothing takes.
        **attributes
            As `op` takes them.

        Returns
        -------
        list of Value
            One per shape.

        Raises
        ------
        TypeError
            If `inputs` is no list of names.

        Examples
        --------
        The median of 7 values is the last of the 4 largest.

        >>> from minidl.interchange.onnx_graph import Graph, Value
        >>> graph, x = Graph(), Value("x", (3, 7))
        >>> four = graph.integers("four", 4)  # doctest: +SKIP
        >>> top, places = graph.ops("TopK", [x.name, four], [(3, 4), (3, 4)], axis=2)  # doctest: +SKIP
        >>> last = graph.integers("last", 3)  # doctest: +SKIP
        >>> graph.op("Gather", [top.name, last], (3, 1), axis=2)  # doctest: +SKIP
        Value(name='gather', shape=(3, 1))
        """
        from onnx import helper

        given: Any = inputs
        alone = isinstance(given, str | Value)
        if alone or not all(isinstance(each, str) for each in given):
            got = type(given).__name__ if alone else f"a list of {', '.join(type(each).__name__ for each in given)}"
            raise TypeError(f"graph.op: inputs must be a list of names, got {got}; give {kind} such as [x.name]")
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
        """Add a constant list of integers, such as a shape or axes that are an input, and return its name.

        Parameters
        ----------
        name : str
            What it is called in the file, after the layer's path.
        *values : int
            One by one: ``graph.integers("shape", 0, 6, 28, 28)``.

        Returns
        -------
        str
            The constant's name.

        Raises
        ------
        TypeError
            If a value is no whole number.
        """
        for value in values:
            if not isinstance(value, int | np.integer):
                raise TypeError(
                    f"graph.integers: values must be whole numbers, one by one, got {value!r}; "
                    f"give graph.integers({name!r}, 1, 2) for [1, 2]"
                )
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
        self._check_outputs(name)
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

    def _check_outputs(self, name: str) -> None:
        """Raise ValueError where a node has fewer outputs than its operator, or more."""
        from onnx import defs

        for node in self.nodes:
            if not defs.has(node.op_type, OPSET, ""):
                continue
            operator, got = defs.get_schema(node.op_type, OPSET, ""), len(node.output)
            least, most = operator.min_output, operator.max_output
            if not least <= got <= most:
                known = ", ".join(output.name for output in operator.outputs)
                wanted = least if got < least else most
                raise ValueError(
                    f"{name}: {node.op_type} must have {wanted} output{'s' * (wanted != 1)} ({known}), got {got}; "
                    f"write it as graph.ops({node.op_type!r}, inputs, shapes), with one shape per output"
                )

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
