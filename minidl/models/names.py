"""The names of state dictionaries in PyTorch's public networks, and minidl's by position: from one to the other.

| network | whose names |
|---|---|
| ResNet18 | torchvision's ``resnet18`` |
| ResNet20, ResNet56 | the usual port for CIFAR: ``conv1``, ``bn1``, ``layer1.0.conv1``, ..., ``linear`` |
| VGG13 | ``features.0``, ..., as torchvision's ``vgg13_bn``, and one ``classifier`` |
| NIN | ``classifier.0``, ..., the position in a ``Sequential`` |
| any other Sequential | minidl's own names, which are those of ``torch.nn.Sequential`` |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.layers.base import Layer, Residual, Sequential
from minidl.layers.conv import Conv2d
from minidl.layers.linear import Linear
from minidl.models.nin import NIN
from minidl.models.resnet import ResNet18, ResNetCIFAR
from minidl.models.vgg import VGG13
from minidl.norm.base import Norm

_COUNTER = "num_batches_tracked"


def layer_names(net: Layer) -> dict[str, str]:
    """Return {path in minidl: path in PyTorch} of every layer with parameters.

    Examples
    --------
    >>> from minidl.models import VGG13
    >>> list(layer_names(VGG13(10, width=1)).items())[-1]
    ('26', 'classifier')
    """
    if isinstance(net, ResNetCIFAR | ResNet18):
        return _resnet(net, net.blocks, "fc" if isinstance(net, ResNet18) else "linear")
    paths = [path for path, layer in net.named_layers() if layer.params]
    if isinstance(net, VGG13):
        return {path: f"features.{path}" for path in paths[:-1]} | {paths[-1]: "classifier"}
    return {path: f"classifier.{path}" if isinstance(net, NIN) else path for path in paths}


def to_torch(net: Layer) -> dict[str, np.ndarray]:
    """Return the state of a network under PyTorch's names, as ``load_state_dict`` takes it after ``torch.from_numpy``.

    Norms with a running_var also have PyTorch's ``num_batches_tracked``, 0.
    """
    names = layer_names(net)
    state: dict[str, np.ndarray] = {}
    for name, value in net.state().items():
        layer, own = _split(name, names)
        state[f"{names[layer]}.{own}"] = value
        if own == "running_var":
            state[f"{names[layer]}.{_COUNTER}"] = np.array(0, np.int64)
    return state


def from_torch(net: Layer, state: Mapping[str, Any]) -> None:
    """Load a state under PyTorch's names, NumPy arrays or tensors on the host, into a network.

    Raises
    ------
    ValueError
        If a name is missing or unexpected, or a shape differs; nothing is changed then.
    """
    names = layer_names(net)
    theirs: dict[str, str] = {}
    for name in net.state():
        layer, own = _split(name, names)
        theirs[f"{names[layer]}.{own}"] = name
    given = {name: value for name, value in state.items() if name.rpartition(".")[2] != _COUNTER}
    # names that are not known keep a form that load_state names as unexpected
    net.load_state({theirs.get(name, f"{name} (as PyTorch names it)"): np.asarray(v) for name, v in given.items()})


def _split(name: str, layers: Mapping[str, str]) -> tuple[str, str]:
    """Return the layer's path and the array's own name, such as "1" and "gate.weight"."""
    layer = max((path for path in layers if name.startswith(f"{path}.")), key=len)
    return layer, name[len(layer) + 1 :]


def _resnet(net: Any, blocks: tuple[int, ...], head: str) -> dict[str, str]:
    """Return the names of a residual network with this number of blocks a stage."""
    places = iter(f"layer{stage}.{block}" for stage, n in enumerate(blocks, 1) for block in range(n))
    names = _numbered(net, "", "")
    for path, layer in net.children():
        if isinstance(layer, Residual):
            place = next(places)
            names |= _numbered(layer.branch, f"{path}.branch.", f"{place}.")
            if isinstance(shortcut := getattr(layer, "shortcut", None), Sequential):
                names |= {f"{path}.shortcut.{i}": f"{place}.downsample.{i}" for i, _ in shortcut.children()}
        elif isinstance(layer, Linear):
            names[path] = head
    return names


def _numbered(net: Any, before: str, place: str) -> dict[str, str]:
    """Return conv1, bn1, conv2, ... for the convolutions and norms among the children, in their order."""
    names: dict[str, str] = {}
    for kind, name in ((Conv2d, "conv"), (Norm, "bn")):
        paths = [path for path, layer in net.children() if isinstance(layer, kind)]
        names |= {f"{before}{path}": f"{place}{name}{i}" for i, path in enumerate(paths, 1)}
    return names
