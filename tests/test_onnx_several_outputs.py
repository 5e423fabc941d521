"""An operator of several outputs is written as ONNX defines it."""

import numpy as np
import pytest

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
