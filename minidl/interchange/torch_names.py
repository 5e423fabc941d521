"""The names that layers have in PyTorch's public networks, where minidl numbers them.

| network | whose names |
|---|---|
| ResNet18 | torchvision's ``resnet18`` |
| ResNet20, ResNet56 | the usual port for CIFAR: ``conv1``, ``bn1``, ``layer1.0.conv1``, ..., ``linear`` |
| VGG13 | ``features.0``, ..., as torchvision's ``vgg13_bn``, and one ``classifier`` |
| NIN | ``classifier.0``, ..., the position in a ``Sequential`` |
| LeNet, LeNet1989, any other | minidl's own names: in a Sequential those of ``torch.nn.Sequential`` |
"""

from __future__ import annotations

from typing import Any

from minidl.layers.base import Layer
from minidl.layers.compose import Residual, Sequential
from minidl.layers.conv import Conv2d
from minidl.layers.linear import Linear
from minidl.models.nin import NIN
from minidl.models.resnet import ResNet18, ResNetCIFAR
from minidl.models.vgg import VGG13


def layer_names(net: Layer) -> dict[str, str]:
    """Return {path in minidl: path in PyTorch} of every layer of a tree that has parameters or buffers.

    Parameters
    ----------
    net : Layer
        A network, or a single layer.

    Examples
    --------
    >>> from minidl.models import VGG13
    >>> list(layer_names(VGG13(10, width=1)).items())[-1]
    ('26', 'classifier')
    """
    paths = [path for path, layer in net.named_layers() if layer.params or layer.buffers]
    if isinstance(net, ResNetCIFAR | ResNet18):
        known = _resnet(net, net.blocks, "fc" if isinstance(net, ResNet18) else "linear")
    elif isinstance(net, VGG13):
        known = {path: f"features.{path}" for path in paths[:-1]} | {paths[-1]: "classifier"}
    elif isinstance(net, NIN):
        known = {path: f"classifier.{path}" for path in paths}
    else:
        known = {}
    return {path: _placed(path, known) for path in paths}


def _placed(path: str, known: dict[str, str]) -> str:
    """Return the path with its longest known beginning replaced: a norm of one's own may have layers within."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        if (head := ".".join(parts[:end])) in known:
            return ".".join([known[head], *parts[end:]])
    return path


def _resnet(net: Any, blocks: tuple[int, ...], head: str) -> dict[str, str]:
    """Return the names of a residual network with this number of blocks per stage."""
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
    weighted = [(path, layer) for path, layer in net.children() if isinstance(layer, Conv2d) or _is_norm(layer)]
    for convolution, name in ((True, "conv"), (False, "bn")):
        paths = [path for path, layer in weighted if isinstance(layer, Conv2d) == convolution]
        names |= {f"{before}{path}": f"{place}{name}{i}" for i, path in enumerate(paths, 1)}
    return names


def _is_norm(layer: Layer) -> bool:
    """Whether a layer of a residual network stands where a norm does: also one of the user's own."""
    return bool(layer.params) and not isinstance(layer, Conv2d | Linear)
