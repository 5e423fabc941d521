"""NumPy's engine: tiled passes, convolution by memory-efficient lowering, recycled memory, threads."""

from minidl.engines.numpy import activation, compose, linear, mec, norm, pool

__all__ = ["activation", "compose", "linear", "mec", "norm", "pool"]
