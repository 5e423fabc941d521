"""PyTorch's side on a GPU: a training step as its users write it, and the same step captured in a CUDA graph.

In float32 throughout, as minidl computes: TF32 is off. cuDNN may try its algorithms and keep the fastest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.bench.minidl_side import LR
from minidl.bench.timing import Work
from minidl.bench.torch_side import nn, tensor, torch, twin
from minidl.layers.base import Layer

DEVICE = "cuda"
WARM_UP = 5  # steps before the capture, which must find every buffer made and every algorithm chosen


def set_up(index: int) -> None:
    """Make PyTorch compute as minidl does, as fast as it can, on the GPU with this number.

    Raises
    ------
    RuntimeError
        If PyTorch has no GPU.
    """
    if not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} finds no CUDA device; install a build with CUDA")
    torch.cuda.set_device(index)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def synchronize() -> None:
    """Wait until the GPU is at rest."""
    torch.cuda.synchronize()


def step(net: Layer, x: np.ndarray, labels: np.ndarray) -> Work:
    """One training step: gradients to zero, forward, loss, backward, SGD with momentum."""
    return Work({"step": _step(net, x, labels)})


def captured_step(net: Layer, x: np.ndarray, labels: np.ndarray) -> Work:
    """The same, captured once and replayed: one launch a step."""
    one_step = _step(net, x, labels)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            one_step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        one_step()

    def replay(_reads: Callable[[], Any] = one_step) -> None:  # a graph does not keep what it reads alive
        graph.replay()

    return Work({"step": replay})


def _step(net: Layer, x: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
    module = twin(net).to(DEVICE)
    images, targets = tensor(x).to(DEVICE), tensor(labels).to(DEVICE)
    optimiser = torch.optim.SGD(module.parameters(), lr=LR, momentum=0.9)
    cross_entropy = nn.functional.cross_entropy

    def one_step() -> None:
        optimiser.zero_grad()
        cross_entropy(module(images), targets).backward()
        optimiser.step()

    return one_step
