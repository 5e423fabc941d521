"""PyTorch's side: minidl's layers translated to PyTorch's own, and what `minidl_side` does done with them.

Importing this module imports PyTorch; nothing else in minidl.bench does.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from minidl.bench.minidl_side import LR
from minidl.bench.timing import Work
from minidl.layers.base import Layer

torch: Any = importlib.import_module("torch")
nn: Any = torch.nn


class ModeNorm(nn.Module):  # type: ignore[misc]
    """Mode normalization as the authors' released code computes it: a loop in which every mode passes over x.

    The gates are a softmax of a Linear on the spatial mean; a mode's variance is the difference of its two moments,
    whose running values are kept. (The square of x, which the modes share, is taken once.)
    """

    def __init__(self, num_features: int, num_modes: int, eps: float, momentum: float) -> None:
        super().__init__()
        self.num_modes, self.eps, self.momentum = num_modes, eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.gate = nn.Linear(num_features, num_modes)
        self.register_buffer("running_mean", torch.zeros(num_modes, num_features))
        self.register_buffer("running_mean_square", torch.ones(num_modes, num_features))

    def forward(self, x: Any) -> Any:
        """Return the normalised x, for x (N, C, H, W)."""
        g = torch.softmax(self.gate(x.mean(dim=(2, 3))), dim=1)  # (N, K)
        square, y = x * x, torch.zeros_like(x)
        for k in range(self.num_modes):
            g_k = g[:, k, None, None, None]
            if self.training:
                n_k = g_k.sum()
                mean = (g_k * x).mean(dim=(2, 3)).sum(dim=0) / n_k  # (C,)
                mean_square = (g_k * square).mean(dim=(2, 3)).sum(dim=0) / n_k
                with torch.no_grad():
                    self.running_mean[k].lerp_(mean, self.momentum)
                    self.running_mean_square[k].lerp_(mean_square, self.momentum)
            else:
                mean, mean_square = self.running_mean[k], self.running_mean_square[k]
            sigma = torch.sqrt(mean_square - mean**2 + self.eps)
            y = y + g_k * (x - per_channel(mean)) / per_channel(sigma)
        return per_channel(self.weight) * y + per_channel(self.bias)


class ModeGroupNorm(nn.Module):  # type: ignore[misc]
    """Mode group normalization (Algorithm 3) in the manner of the released mode norm: a loop over the modes."""

    def __init__(self, num_channels: int, num_modes: int, eps: float) -> None:
        super().__init__()
        self.num_modes, self.eps = num_modes, eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.gate = nn.Linear(1, num_modes)

    def forward(self, x: Any) -> Any:
        """Return the normalised x, for x (N, C, H, W)."""
        g = torch.softmax(self.gate(x.mean(dim=(2, 3))[:, :, None]), dim=2)  # (N, C, K)
        square, y = x * x, torch.zeros_like(x)
        for k in range(self.num_modes):
            g_k = g[:, :, k, None, None]
            c_k = g_k.sum(dim=(1, 2, 3))  # (N,)
            mean = (g_k * x).mean(dim=(2, 3)).sum(dim=1) / c_k
            mean_square = (g_k * square).mean(dim=(2, 3)).sum(dim=1) / c_k
            sigma = torch.sqrt(mean_square - mean**2 + self.eps)
            y = y + (x - mean[:, None, None, None]) / sigma[:, None, None, None]
        return per_channel(self.weight) * y / self.num_modes + per_channel(self.bias)


class Residual(nn.Module):  # type: ignore[misc]
    """branch(x) + shortcut(x)."""

    def __init__(self, branch: Any, shortcut: Any) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut

    def forward(self, x: Any) -> Any:
        """Return the sum of the two paths."""
        return self.branch(x) + self.shortcut(x)


class ZeroPaddedShortcut(nn.Module):  # type: ignore[misc]
    """Every stride-th pixel of x, between channels of zeros."""

    def __init__(self, out_channels: int, stride: int) -> None:
        super().__init__()
        self.out_channels, self.stride = out_channels, stride

    def forward(self, x: Any) -> Any:
        """Return the pixels of x that the stride keeps, with half of the new channels before them."""
        more = self.out_channels - x.shape[1]
        kept = x[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(kept, (0, 0, 0, 0, more // 2, more - more // 2))


def per_channel(values: Any) -> Any:
    """View (C,) as (C, 1, 1), to go with (N, C, H, W)."""
    return values[:, None, None]


def twin(net: Layer, pool_first: bool = False) -> Any:
    """Return the PyTorch module that computes what `net` does, from the same parameters and running statistics.

    It is written as PyTorch's users write it: ReLU directly behind the norm and pooling after it, where minidl pools
    first (the two commute); `pool_first` keeps minidl's order.
    """
    module = _module(net, pool_first)
    state = {name: torch.from_numpy(value) for name, value in net.state().items()}
    dtypes = [param.dtype.name for _, one in net.named_layers() for param in one.params.values()]
    if dtypes:
        module.to(getattr(torch, dtypes[0]))
    missing, unexpected = module.load_state_dict(state, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"twin: {type(net).__name__} has no twin: missing {missing}, unexpected {unexpected}")
    return module


def _module(net: Layer, pool_first: bool) -> Any:
    name = type(net).__name__
    if hasattr(net, "layers"):
        return nn.Sequential(*_natural_order([_module(one, pool_first) for one in net.layers], pool_first))
    if name == "Residual":
        branch, *shortcut = (_module(child, pool_first) for _, child in net.children())
        return Residual(branch, shortcut[0] if shortcut else nn.Identity())
    if name not in TWINS:
        raise ValueError(f"twin: {name} has no twin in PyTorch; add it to TWINS in minidl/bench/torch_side.py")
    return TWINS[name](net)


def _natural_order(modules: list[Any], pool_first: bool) -> list[Any]:
    if not pool_first:
        for i, (one, following) in enumerate(pairwise(modules)):
            if isinstance(one, nn.MaxPool2d) and isinstance(following, nn.ReLU):
                modules[i], modules[i + 1] = following, one
    return modules


def _conv(one: Any) -> Any:
    out_channels, in_channels, *kernel = one.params["weight"].shape
    options = {"stride": one.stride, "padding": one.padding, "bias": "bias" in one.params}
    return nn.Conv2d(in_channels, out_channels, tuple(kernel), **options)


TWINS: dict[str, Callable[[Any], Any]] = {
    "Conv2d": _conv,
    "Linear": lambda one: nn.Linear(*one.params["weight"].shape[::-1], bias="bias" in one.params),
    "MaxPool2d": lambda one: nn.MaxPool2d(one.kernel_size, one.stride, one.padding),
    "AvgPool2d": lambda one: nn.AvgPool2d(one.kernel_size, one.stride, one.padding),
    "GlobalAvgPool2d": lambda one: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "ReLU": lambda one: nn.ReLU(),
    "Tanh": lambda one: nn.Tanh(),
    "Dropout": lambda one: nn.Dropout(one.p),
    "Flatten": lambda one: nn.Flatten(),
    "ZeroPaddedShortcut": lambda one: ZeroPaddedShortcut(one.out_channels, one.stride),
    "BatchNorm": lambda one: nn.BatchNorm2d(one.num_features, eps=one.eps, momentum=one.momentum),
    "InstanceNorm": lambda one: nn.InstanceNorm2d(one.num_features, eps=one.eps, affine=True),
    "LayerNorm": lambda one: nn.GroupNorm(1, one.num_features, eps=one.eps),
    "GroupNorm": lambda one: nn.GroupNorm(one.num_groups, one.num_features, eps=one.eps),
    "ModeNorm": lambda one: ModeNorm(one.num_features, one.num_modes, one.eps, one.momentum),
    "ModeGroupNorm": lambda one: ModeGroupNorm(one.num_features, one.num_modes, one.eps),
}


def tensor(x: np.ndarray) -> Any:
    """Return the values in PyTorch's own order of memory."""
    return torch.from_numpy(np.ascontiguousarray(x))


def spinning() -> float:
    """Return for how many seconds PyTorch's threads may spin after their work: Intel's and LLVM's wait for long."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return 0.0
    return 0.2 if any(library["prefix"] in ("libiomp", "libomp") for library in threadpool_info()) else 0.0


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Let PyTorch use `n` threads inside the ``with`` block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def step(net: Layer, x: np.ndarray, labels: np.ndarray, num_threads: int, pool_first: bool = False) -> Work:
    """One training step: gradients to zero, forward, loss, backward, SGD with momentum."""
    module, images, targets = twin(net, pool_first), tensor(x), tensor(labels)
    optimiser = torch.optim.SGD(module.parameters(), lr=LR, momentum=0.9)
    cross_entropy = nn.functional.cross_entropy

    def one_step() -> None:
        optimiser.zero_grad()
        cross_entropy(module(images), targets).backward()
        optimiser.step()

    return Work({"step": one_step}, inside=partial(threads, num_threads))


def layer(one: Layer, x: np.ndarray, dy: np.ndarray, num_threads: int) -> Work:
    """Forward, then backward, of one layer."""
    module, images = twin(one), tensor(x).requires_grad_(one.needs_dx)
    return _differentiated(module, images, tensor(dy), list(module.parameters()), num_threads)


def loss(logits: np.ndarray, labels: np.ndarray, num_threads: int) -> Work:
    """Forward, then backward, of softmax cross-entropy."""
    function = partial(nn.functional.cross_entropy, target=tensor(labels))
    return _differentiated(function, tensor(logits).requires_grad_(), None, [], num_threads)


def _differentiated(function: Callable[[Any], Any], x: Any, dy: Any, params: list[Any], num_threads: int) -> Work:
    y: Any = None

    def forget() -> None:
        for leaf in (x, *params):
            leaf.grad = None

    def forward() -> None:
        nonlocal y
        y = function(x)

    def backward() -> None:
        y.backward(dy)

    return Work({"forward": forward, "backward": backward}, before=forget, inside=partial(threads, num_threads))


def sgd(net: Layer, num_threads: int) -> Work:
    """Only the optimiser's step."""
    module = twin(net)
    for param in module.parameters():
        param.grad = torch.zeros_like(param)
    optimiser = torch.optim.SGD(module.parameters(), lr=LR, momentum=0.9)
    return Work({"step": optimiser.step}, inside=partial(threads, num_threads))
