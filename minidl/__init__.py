"""minidl: deep learning in NumPy, every backward pass derived by hand, built around Mode Normalization (ICLR 2019).

Importing this package imports only NumPy.
"""

from minidl import starting

starting.begin()  # before NumPy is imported, which takes a while

from minidl.adam import Adam, AdamW
from minidl.backend import BackendError, array_module, to_device, to_host, use_backend
from minidl.layers.activation import ReLU, Tanh
from minidl.layers.base import Layer
from minidl.layers.compose import Residual, Sequential
from minidl.layers.conv import Conv2d
from minidl.layers.dropout import Dropout
from minidl.layers.flatten import Flatten
from minidl.layers.linear import Linear
from minidl.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from minidl.losses import SoftmaxCrossEntropy
from minidl.models import NIN, VGG13, LeNet, LeNet1989, ResNet18, ResNet20, ResNet56
from minidl.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, ModeGroupNorm, ModeNorm, norm_factory
from minidl.optim import SGD
from minidl.parallel import threads
from minidl.trained import load

__all__ = [
    "NIN",
    "SGD",
    "VGG13",
    "Adam",
    "AdamW",
    "AvgPool2d",
    "BackendError",
    "BatchNorm",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "InstanceNorm",
    "Layer",
    "LayerNorm",
    "LeNet",
    "LeNet1989",
    "Linear",
    "MaxPool2d",
    "ModeGroupNorm",
    "ModeNorm",
    "ReLU",
    "ResNet18",
    "ResNet20",
    "ResNet56",
    "Residual",
    "Sequential",
    "SoftmaxCrossEntropy",
    "Tanh",
    "array_module",
    "load",
    "norm_factory",
    "threads",
    "to_device",
    "to_host",
    "use_backend",
]

__version__ = "0.1.0"
