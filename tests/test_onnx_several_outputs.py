"""An operator of several outputs is written as ONNX defines it."""

import numpy as np
import pytest

from minidl import ReLU
from minidl.interchange import StateError, export_onnx
from minidl.interchange.onnx_graph import Graph, Value


def test_top_k_gives_the_largest_values_in_onnxruntime():
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    graph, x = Graph(), Value("x", (3, 7))
    top, _ = graph.ops("TopK", [x.name, graph.integers("k", 4)], [(3, 4), (3, 4)], axis=2)
    made = graph.model("top", x.shape, top).SerializeToString()
    given = np.random.default_rng(0).normal(size=(5, 3, 7)).astype(np.float32)
    (found,) = runtime.InferenceSession(made, providers=["CPUExecutionProvider"]).run(["y"], {"x": given})
    np.testing.assert_array_equal(found, -np.sort(-given, axis=2)[..., :4])


def test_a_node_with_too_few_or_too_many_outputs_is_sent_to_ops():
    pytest.importorskip("onnx")
    graph, x = Graph(), Value("x", (3, 7))
    top = graph.op("TopK", [x.name, graph.integers("k", 4)], (3, 4), axis=2)
    with pytest.raises(ValueError, match=r"^it: TopK must have 2 outputs \(Values, Indices\), got 1; write it as "):
        graph.model("it", x.shape, top)
    graph = Graph()
    y, _ = graph.ops("Abs", [x.name], [x.shape, x.shape])
    with pytest.raises(
        ValueError, match=r"^it: Abs must have 1 output \(Y\), got 2; .* graph\.ops\('Abs', inputs, shapes\)"
    ):
        graph.model("it", x.shape, y)


def test_a_layer_that_takes_op_for_ops_is_refused_with_the_cure(tmp_path):
    pytest.importorskip("onnx")

    class Largest(ReLU):
        def forward(self, x):
            return x.max(axis=2, keepdims=True)

        def to_onnx(self, graph, x):
            return graph.op("TopK", [x.name, graph.integers("k", 1)], (3, 1), axis=2)

    with pytest.raises(
        StateError, match=r"TopK must have 2 outputs .*; write it as graph\.ops\('TopK', inputs, shapes\)"
    ):
        export_onnx(Largest(), tmp_path / "a.onnx", (3, 7))
