"""The networks as PyTorch's users write them: torchvision's ResNet18, the usual CIFAR networks. Needs PyTorch."""

import torch
from torch import nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """The block of ResNet18 (`option` "B") and of ResNet20 and ResNet56 ("A")."""

    def __init__(self, c, o, stride, option, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(c, o, 3, stride, 1, bias=False)
        self.bn1 = norm(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = norm(o)
        self.pad = o - c
        self.stride = stride
        if option == "B" and (stride > 1 or c != o):
            self.downsample = nn.Sequential(nn.Conv2d(c, o, 1, stride, bias=False), norm(o))

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if hasattr(self, "downsample"):
            x = self.downsample(x)
        elif self.stride > 1 or self.pad:
            before = self.pad // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.pad - before))
        return F.relu(out + x)


def stages(module, c, widths, blocks, option, norm):
    for stage, (o, n) in enumerate(zip(widths, blocks, strict=True), 1):
        layers = []
        for block in range(n):
            layers.append(BasicBlock(c, o, 2 if stage > 1 and block == 0 else 1, option, norm))
            c = o
        setattr(module, f"layer{stage}", nn.Sequential(*layers))
    return c


class ResNetCIFAR(nn.Module):
    def __init__(self, depth, num_classes, width, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = norm(width)
        n = (depth - 2) // 6
        c = stages(self, width, (width, 2 * width, 4 * width), (n, n, n), "A", norm)
        self.linear = nn.Linear(c, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.avg_pool2d(x, x.shape[3]).flatten(1))


class ResNet18(nn.Module):
    def __init__(self, num_classes, width, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = norm(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        c = stages(self, width, [width << i for i in range(4)], (2, 2, 2, 2), "B", norm)
        self.fc = nn.Linear(c, num_classes)

    def forward(self, x):
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class VGG13(nn.Module):
    def __init__(self, num_classes, width, norm=nn.BatchNorm2d):
        super().__init__()
        layers, c = [], 3
        for o in (width, 2 * width, 4 * width, 8 * width, 8 * width):
            for _ in range(2):
                layers += [nn.Conv2d(c, o, 3, padding=1, bias=False), norm(o), nn.ReLU()]
                c = o
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(c, num_classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class NIN(nn.Module):
    def __init__(self, num_classes, width, norm=nn.BatchNorm2d):
        super().__init__()

        def conv(c, o, kernel):
            return nn.Conv2d(c, o, kernel, padding=kernel // 2, bias=False), norm(o), nn.ReLU()

        half = width // 2
        self.classifier = nn.Sequential(
            *(*conv(3, width, 5), *conv(width, width * 5 // 6, 1), *conv(width * 5 // 6, half, 1)),
            *(nn.MaxPool2d(3, 2, 1), nn.Dropout(0.25)),
            *(*conv(half, width, 5), *conv(width, width, 1), *conv(width, width, 1)),
            *(nn.AvgPool2d(3, 2, 1), nn.Dropout(0.25)),
            *(*conv(width, width, 3), *conv(width, width, 1), *conv(width, num_classes, 1)),
        )

    def forward(self, x):
        return self.classifier(x).mean(dim=(2, 3))


class ModeNorm(nn.Module):
    """Algorithm 1 of the paper, a loop over the modes; Algorithm 2 in inference."""

    def __init__(self, channels, modes=2, eps=1e-5, momentum=0.1):
        super().__init__()
        self.modes, self.eps, self.momentum = modes, eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.gate = nn.Linear(channels, modes)
        self.register_buffer("running_mean", torch.zeros(modes, channels))
        self.register_buffer("running_mean_square", torch.ones(modes, channels))

    def forward(self, x):
        g = torch.softmax(self.gate(x.mean(dim=(2, 3))), dim=1)
        y = 0
        for k in range(self.modes):
            g_k = g[:, k, None, None, None]
            if self.training:
                mean = (g_k * x).mean(dim=(2, 3)).sum(0) / g_k.sum()
                var = (g_k * (x - mean[:, None, None]) ** 2).mean(dim=(2, 3)).sum(0) / g_k.sum()
                with torch.no_grad():
                    self.running_mean[k].lerp_(mean, self.momentum)
                    self.running_mean_square[k].lerp_(var + mean**2, self.momentum)
            else:
                mean = self.running_mean[k]
                var = self.running_mean_square[k] - mean**2
            y = y + g_k * (x - mean[:, None, None]) / torch.sqrt(var + self.eps)[:, None, None]
        return self.weight[:, None, None] * y + self.bias[:, None, None]


def build(model, num_classes, width, norm="bn"):
    """Return PyTorch's network of this name."""
    make = nn.BatchNorm2d if norm == "bn" else ModeNorm
    if model in ("resnet20", "resnet56"):
        return ResNetCIFAR(int(model[6:]), num_classes, width, make)
    return {"nin": NIN, "vgg13": VGG13, "resnet18": ResNet18}[model](num_classes, width, make)
