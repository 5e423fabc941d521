"""CUDA's engine: kernels for arrays of CuPy, and how they are started (docs/kernels.md)."""

from minidl.engines.cuda import activation, images, loss, moments, norms, optim

__all__ = ["activation", "images", "loss", "moments", "norms", "optim"]
