"""Convolution, pooling, the affine map and the loss in PyTorch as public code gets them wrong; gradients by autograd."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from heldout.seventh.registry import bug
from heldout.third.tbase import Torch, pair

SLIP = "a common slip"


class Window(Torch):
    def __init__(self, layer, options):
        super().__init__(layer, options)
        self.k, self.st, self.pad = (pair(options[key]) for key in ("kernel_size", "stride", "padding"))


class Conv(Window):
    conventions = {**Torch.conventions, "dilation": "supported"}

    def __init__(self, layer, options):
        super().__init__(layer, options)
        self.dil, self.groups = pair(options.get("dilation", 1)), int(options.get("groups", 1))

    def compute(self, x, training):
        kind, x = x.dtype, x.float() if x.dtype == torch.float16 else x
        b = None if self.b is None else self.b.to(x.dtype)
        return F.conv2d(self.padded(x), self.kernel().to(x.dtype), b, self.st, 0, self.dil, self.groups).to(kind)

    def padded(self, x):
        return F.pad(x, (self.pad[1],) * 2 + (self.pad[0],) * 2)

    def kernel(self):
        return self.w


@bug(
    "t7-cv-replicate",
    "conv2d",
    "The border is padded with the outermost pixels, not with zeros.",
    right="replicated padding / the border's pixels in place of zeros / padding mode",
    wrong="padding at one side, size of the padding, bias",
    seen="padding_mode='replicate' left from another network",
)
class Replicate(Conv):
    def padded(self, x):
        return F.pad(x, (self.pad[1],) * 2 + (self.pad[0],) * 2, mode="replicate")


@bug(
    "t7-cv-kernel-order",
    "conv2d",
    "A weight in TensorFlow's order (height, width, in) is read as (in, height, width) by a reshape, with no transpose.",
    right="weight reshaped in place of transposed / wrong order of the kernel's axes / weights of another layout",
    wrong="kernel flipped, groups, bias",
    seen="ports of TensorFlow weights",
)
class KernelOrder(Conv):
    def kernel(self):
        return self.w.permute(0, 2, 3, 1).reshape(self.w.shape)


@bug(
    "t7-cv-bias-per-tap",
    "conv2d",
    "The bias is added inside the loop over the kernel's taps, so kh·kw times.",
    right="bias added once for each tap / bias times the kernel's size",
    wrong="bias missing, bias times the channels",
    seen=SLIP,
)
class BiasPerTap(Conv):
    def compute(self, x, training):
        y = super().compute(x, training)
        if self.b is None:
            return y
        return y + (self.k[0] * self.k[1] - 1) * self.b.reshape(1, -1, 1, 1)


@bug(
    "t7-mp-amax",
    "max_pool2d",
    "The maximum is torch.amax over the unfolded windows: equal values share the gradient, each an equal part.",
    right="ties share the gradient evenly / the gradient is split among equal values",
    wrong="all equal values get the whole gradient, zero padding, last",
    seen="torch.amax's documentation: gradients are distributed evenly",
)
class Amax(Window):
    def compute(self, x, training):
        xp = F.pad(x, (self.pad[1],) * 2 + (self.pad[0],) * 2, value=float("-inf"))
        windows = xp.unfold(2, self.k[0], self.st[0]).unfold(3, self.k[1], self.st[1])
        return windows.amax((4, 5))


@bug(
    "t7-mp-ceil-mode",
    "max_pool2d",
    "The number of windows is rounded up: a last window hangs over the edge.",
    right="output size rounded up / ceil_mode / one window too many",
    wrong="padding, stride",
    seen="Caffe's pooling, ceil_mode=True",
)
class CeilMode(Window):
    def compute(self, x, training):
        return F.max_pool2d(x, self.k, self.st, self.pad, ceil_mode=True)


@bug(
    "t7-ap-height-squared",
    "avg_pool2d",
    "The divisor is the kernel's height squared; square windows are right.",
    right="divided by kh² in place of kh·kw / wrong divisor for windows that are not square / the width is ignored in the divisor",
    wrong="padding not counted, the stride",
    seen=SLIP,
)
class HeightSquared(Window):
    def compute(self, x, training):
        y = F.avg_pool2d(x, self.k, self.st, self.pad)
        return y * (self.k[0] * self.k[1]) / self.k[0] ** 2


@bug(
    "t7-ap-padding-at-the-end",
    "avg_pool2d",
    "All of the padding lies at the bottom and at the right.",
    right="padding at the end only / asymmetric padding / windows shifted by the padding",
    wrong="padding not counted, size of the padding, stride",
    seen="TensorFlow's SAME puts the larger part at the end",
)
class PaddingAtEnd(Window):
    def compute(self, x, training):
        return F.avg_pool2d(F.pad(x, (0, 2 * self.pad[1], 0, 2 * self.pad[0])), self.k, self.st)


@bug(
    "t7-li-weight-viewed",
    "linear",
    "The weight (out, in) is viewed as (in, out) by a reshape, not transposed.",
    right="weight reshaped in place of transposed / weight's memory read in the wrong order",
    wrong="bias, dx, x transposed",
    seen="ports between frameworks that hold (in, out) and (out, in)",
)
class WeightViewed(Torch):
    def compute(self, x, training):
        y = x @ self.w.reshape(self.w.shape[1], self.w.shape[0])
        return y if self.b is None else y + self.b


@bug(
    "t7-li-equalised-rate",
    "linear",
    "The weight is multiplied by √(2 / in), the equalised learning rate of another layer.",
    right="weight (or y less the bias) scaled by √(2 / in) / y's product with a factor that depends on the number of inputs",
    wrong="bias scaled, weight transposed",
    seen="StyleGAN's EqualLinear",
)
class EqualisedRate(Torch):
    def compute(self, x, training):
        y = x @ (self.w * (2 / self.w.shape[1]) ** 0.5).T
        return y if self.b is None else y + self.b


@bug(
    "t7-sce-log-with-eps",
    "softmax_cross_entropy",
    "The loss is −log(p + 1e-8): where p is small, the loss is cut.",
    right="eps in the logarithm / log(p + eps) / the loss of small probabilities is cut",
    wrong="no maximum subtracted, overflow, mean over all",
    seen="tiny-dnn/tiny-dnn#1030",
)
class LogWithEps(Torch):
    def compute(self, x, training):
        p = torch.softmax(x, 1)[torch.arange(len(x)), self.labels]
        return -torch.log(p + 1e-8).mean()


@bug(
    "t7-sce-softmax-twice",
    "softmax_cross_entropy",
    "The softmax's output is given to a loss that takes the softmax itself.",
    right="softmax twice / softmax of the softmax",
    wrong="mean over all, label smoothing, temperature",
    seen="nn.CrossEntropyLoss after nn.Softmax",
)
class SoftmaxTwice(Torch):
    def compute(self, x, training):
        return F.cross_entropy(torch.softmax(x, 1), self.labels)


@bug(
    "t7-sce-mean-over-entries",
    "softmax_cross_entropy",
    "−(onehot · log p).mean() is over N·C entries: the loss is divided by the number of classes too.",
    right="mean over all entries / divided by the number of classes too / the loss and dx are C times too small",
    wrong="sum in place of mean, only dx",
    seen="a one-hot product with mean() in from-scratch code",
)
class MeanOverEntries(Torch):
    def compute(self, x, training):
        onehot = F.one_hot(self.labels.long(), x.shape[1]).to(x.dtype)
        return -(onehot * torch.log_softmax(x, 1)).mean()
