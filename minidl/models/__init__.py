"""Networks: plain compositions of layers, each taking a `norm` factory."""

from minidl.models.lenet import LeNet

__all__ = ["MODELS", "LeNet"]

MODELS = {"lenet": LeNet}
