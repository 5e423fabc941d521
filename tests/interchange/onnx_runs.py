"""Running an ONNX file, and how far rounding may move what it gives."""

import numpy as np
from tolerance import rounding


def session(raw):
    """Return a session of onnxruntime on one thread, for a file's bytes or its name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])


def run(raw, x):
    (y,) = session(raw).run(["y"], {"x": x})
    assert y.dtype == np.float32
    return y


def moved(net, x, trials):
    """Return how far rounding may move the network's outputs for x: of x, parameters and statistics."""
    state = net.state()
    escaped = {name.replace(".", "/"): value for name, value in state.items()}

    def output(x, **state):
        net.load_state({name.replace("/", "."): value for name, value in state.items()})
        return net.forward(x)

    found = rounding(output, {"x": x, **escaped}, trials)["y"]
    net.load_state(state)
    return found
