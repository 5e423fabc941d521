"""Networks: plain compositions of layers, each taking a `norm` factory."""

from minidl.models.lenet import LeNet
from minidl.models.lenet1989 import LeNet1989
from minidl.models.nin import NIN
from minidl.models.resnet import ResNet18, ResNet20, ResNet56, ResNetCIFAR
from minidl.models.vgg import VGG13

__all__ = ["MODELS", "NIN", "VGG13", "LeNet", "LeNet1989", "ResNet18", "ResNet20", "ResNet56", "ResNetCIFAR"]

MODELS = {
    "lenet": LeNet,
    "lenet1989": LeNet1989,
    "nin": NIN,
    "vgg13": VGG13,
    "resnet20": ResNet20,
    "resnet56": ResNet56,
    "resnet18": ResNet18,
}
ONE_SIZE = {"lenet": 32, "lenet1989": 32, "vgg13": 32}  # the side of the images that these take
ANY_SIZE = ("nin", "resnet20", "resnet56", "resnet18")  # from some least size up
