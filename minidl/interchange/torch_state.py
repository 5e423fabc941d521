"""The state of a network under PyTorch's names and in PyTorch's conventions, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from minidl.backend import Array, to_device, to_host
from minidl.interchange.errors import StateError
from minidl.interchange.torch_names import layer_names
from minidl.layers.base import Layer
from minidl.layers.compose import Sequential
from minidl.layers.conv import Conv2d
from minidl.norm.batch import BatchNorm

_COUNTER = "num_batches_tracked"
_PARALLEL = "module."  # before every name, where torch.nn.DataParallel held the network
_SHOWN = 12  # names in a message, of each kind


def to_torch_state(net: Layer) -> dict[str, np.ndarray]:
    """Return the state of a network under PyTorch's names: host copies, in the order of the layers.

    Parameters
    ----------
    net : Layer
        A network of `minidl.models`, one of one's own, or a single layer.

    Returns
    -------
    dict
        {name: array}, as ``load_state_dict`` takes it after ``torch.from_numpy``. The names are those of
        `minidl.interchange.layer_names`; each BatchNorm also has PyTorch's ``num_batches_tracked``, 0.

    Notes
    -----
    A BatchNorm that stores the mean of squares gives running_var = max(mean of squares − mean², 0), which is what it
    normalises with. One that stores the biased variance gives it as it is: PyTorch's inference then equals minidl's,
    and only what further training adds has the other divisor.
    ModeNorm and ModeGroupNorm, which PyTorch lacks, keep their own names: weight, bias, gate.weight, gate.bias,
    running_mean, running_mean_square.

    Examples
    --------
    >>> from minidl import BatchNorm, Linear
    >>> list(to_torch_state(Sequential(Linear(3, 5, bias=False), BatchNorm(5))))
    ['0.weight', '1.weight', '1.bias', '1.running_mean', '1.running_var', '1.num_batches_tracked']
    """
    state: dict[str, np.ndarray] = {}
    for name, layer, array in _entries(net):
        if _is_mean_square(layer, name):
            mean = to_host(layer.buffers["running_mean"])
            state[_var(name)] = np.maximum(to_host(array) - mean**2, 0)
        else:
            state[name] = np.array(to_host(array))
        if isinstance(layer, BatchNorm) and array is layer.buffers.get(layer._spread):
            state[f"{name.rpartition('.')[0]}.{_COUNTER}".lstrip(".")] = np.array(0, np.int64)
    return state


def from_torch_state(net: Layer, state: Mapping[str, Any]) -> None:
    """Load a state under PyTorch's names into a network, in place; values are cast to the network's dtypes.

    Parameters
    ----------
    net : Layer
    state : dict
        {name: NumPy array, or PyTorch tensor on any device}: of ``state_dict()``, or of `read_state`.

    Raises
    ------
    StateError
        If a name is missing or unexpected, a shape differs, or values are not floating; nothing is changed then.

    Notes
    -----
    ``num_batches_tracked`` is ignored, and so is the prefix ``module.`` that ``torch.nn.DataParallel`` puts before all
    names. A bias of a convolution that has none here, because a BatchNorm follows it, is taken from that norm's
    running mean, which is exact: (x + b) − (mean + b) = x − mean; many networks written for PyTorch have such biases.

    Examples
    --------
    >>> from minidl import Linear
    >>> layer = Linear(2, 1)
    >>> from_torch_state(layer, {"weight": np.array([[3.0, 5.0]]), "bias": np.array([7.0])})
    >>> layer(np.ones((1, 2)))
    array([[15.]])
    """
    entries = list(_entries(net))
    wanted = {_var(name) if _is_mean_square(layer, name) else name: array for name, layer, array in entries}
    given = _given(state, wanted)
    shifts = _taken_biases(net, given)
    _check(net, given, wanted)
    for mean, bias in shifts.items():
        given[mean] = _wide(given[mean]) - bias
    for name, layer, array in entries:
        value = given[_var(name)] + _wide(given[_mean(name)]) ** 2 if _is_mean_square(layer, name) else given[name]
        array[...] = to_device(value.astype(array.dtype), like=array)


def _entries(net: Layer) -> Iterator[tuple[str, Layer, Array]]:
    """Yield (PyTorch's name, layer, array) of every parameter and buffer; a mean of squares has minidl's name."""
    names = layer_names(net)
    for path, layer in net.named_layers():
        for own, array in {**layer.params, **layer.buffers}.items():
            yield f"{names[path]}.{own}" if names[path] else own, layer, array


def _is_mean_square(layer: Layer, name: str) -> bool:
    """Whether PyTorch has a running variance in place of this array."""
    return isinstance(layer, BatchNorm) and name.endswith("running_mean_square")


def _var(name: str) -> str:
    return name.removesuffix("running_mean_square") + "running_var"


def _mean(name: str) -> str:
    return name.removesuffix("_square")


def _given(state: Mapping[str, Any], wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the state as arrays of the host, without counters and DataParallel's prefix."""
    state = {str(name): value for name, value in state.items()}
    parallel = bool(state) and all(name.startswith(_PARALLEL) for name in state)
    parallel = parallel and not any(name.startswith(_PARALLEL) for name in wanted)
    return {
        name.removeprefix(_PARALLEL) if parallel else name: _host(value)
        for name, value in state.items()
        if name.rpartition(".")[2] != _COUNTER
    }


def _host(value: Any) -> np.ndarray:
    """Return an array, or a tensor of PyTorch on any device, as an array of the host."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    return np.asarray(to_host(value))


def _taken_biases(net: Layer, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Take each bias of a convolution without one, behind which a BatchNorm stands: return {its running mean: bias}."""
    names = layer_names(net)
    taken = {}
    for path, layer in net.named_layers():
        children = list(layer.children()) if isinstance(layer, Sequential) else []
        for (at, conv), (after, norm) in pairwise(children):
            if not isinstance(conv, Conv2d) or "bias" in conv.params or not isinstance(norm, BatchNorm):
                continue
            conv_name, norm_name = (names[f"{path}.{place}" if path else place] for place in (at, after))
            bias, mean = f"{conv_name}.bias", f"{norm_name}.running_mean"
            if bias in given and mean in given and given[bias].shape == given[mean].shape and _real(given[bias]):
                taken[mean] = given.pop(bias)
    return taken


def _check(net: Layer, given: Mapping[str, np.ndarray], wanted: Mapping[str, Array]) -> None:
    """Raise StateError unless the names are the same, the shapes too, and all values floating."""
    wrong = [
        _listed("missing", [name for name in wanted if name not in given]),
        _listed("unexpected", [name for name in given if name not in wanted]),
    ]
    there = [(name, given[name], tuple(array.shape)) for name, array in wanted.items() if name in given]
    wrong.append(_listed("", [f"{name} has shape {v.shape}, expected {s}" for name, v, s in there if v.shape != s]))
    wrong.append(_listed("", [f"{name} has dtype {v.dtype}, expected floats" for name, v, s in there if not _real(v)]))
    if any(wrong):
        raise StateError(
            f"from_torch_state: the state must fit {type(net).__name__}, got {'; '.join(filter(None, wrong))}; "
            "build the network that the state is of, with its classes, width and norm"
        )


def _wide(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float64)


def _real(value: np.ndarray) -> bool:
    return value.dtype.kind == "f"


def _listed(word: str, things: list[str]) -> str:
    more = [f"and {len(things) - _SHOWN} more"] if len(things) > _SHOWN else []
    return ", ".join([" ".join(f"{word} {thing}".split()) for thing in things[:_SHOWN]] + more)
