"""The rectifier on a GPU."""

from __future__ import annotations

from minidl import memory
from minidl.backend import Array, array_module
from minidl.engine import CUDA
from minidl.engines.cuda.launch import launch
from minidl.layers import activation


@CUDA.twin(activation.relu)
def relu(x: Array) -> Array:
    """y = max(x, 0); NaN stays NaN."""
    return _value_by_value("relu", x)


@CUDA.twin(activation.relu_backward)
def relu_backward(dy: Array, y: Array) -> Array:
    """dx = dy where y > 0, else 0."""
    return _value_by_value("relu_backward", dy, y)


@CUDA.twin(activation.tanh)
def tanh(x: Array) -> Array:
    """y = tanh(x), the batch innermost in memory."""
    xp = array_module(x)
    return memory.batch_first(xp.tanh(memory.batch_last(xp, x)))


def _value_by_value(kernel: str, *arrays: Array) -> Array:
    """Run a kernel of relu.cu on arrays of one shape; the result has the dtype of the first."""
    xp = array_module(*arrays)
    dtype = xp.result_type(*(a.dtype for a in arrays), xp.float32)
    flat = [memory.batch_last(xp, a, dtype) for a in arrays]
    out = xp.empty(flat[0].shape, dtype)
    launch(xp, "relu", kernel, out.size, *flat, out, dtype=dtype)
    return memory.batch_first(out.astype(arrays[0].dtype, copy=False))
