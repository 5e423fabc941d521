"""Networks: plain compositions of layers, each taking a `norm` factory."""

from minidl.models.lenet import LeNet
from minidl.models.lenet1989 import LeNet1989

__all__ = ["MODELS", "LeNet", "LeNet1989"]

MODELS = {"lenet": LeNet, "lenet1989": LeNet1989}
