"""Convolution, pooling, the affine map and the loss in PyTorch, each wrong in one thing."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from heldout.fourth.registry import bug
from heldout.third.tbase import Torch, pair


class Conv(Torch):
    """Convolution as a product of the weight's matrix and the unfolded windows."""

    conventions = {"grads": "accumulate", "dilation": "supported"}

    def __init__(self, layer, options):
        super().__init__(layer, options)
        self.k, self.st, self.pad = (pair(options[key]) for key in ("kernel_size", "stride", "padding"))
        self.dil, self.groups = pair(options.get("dilation", 1)), int(options.get("groups", 1))

    def compute(self, x, training):
        n, c = x.shape[:2]
        xp = self.padded(x)
        windows = F.unfold(xp, self.k, self.dil, 0, self.st)  # n, c·kh·kw, positions
        windows = self.split(windows.reshape(n, c, -1, windows.shape[2]))  # n, groups, c / groups · kh·kw, positions
        y = torch.einsum("ngip,goi->ngop", windows, self.matrix())
        oh = (xp.shape[2] - self.dil[0] * (self.k[0] - 1) - 1) // self.st[0] + 1
        y = y.reshape(n, -1, oh, y.shape[3] // oh)
        return y if self.b is None else y + self.b[:, None, None]

    def padded(self, x):
        (ph, pw) = self.pad
        return F.pad(x, (pw, pw, ph, ph))

    def split(self, windows):
        return windows.reshape(len(windows), self.groups, -1, windows.shape[3])

    def matrix(self):
        return self.w.reshape(self.groups, len(self.w) // self.groups, -1)


@bug(
    "t4-conv-padding-order",
    "conv2d",
    "F.pad is given the padding of the height first, though it begins with the last axis: the two are swapped",
    right="the paddings of height and width are swapped / a wrong output shape where they differ",
    wrong="strides swapped / kernel sizes swapped / padding on one side",
    seen="autogluon/autogluon#438",
)
class ConvPaddingOrder(Conv):
    def padded(self, x):
        (ph, pw) = self.pad
        return F.pad(x, (ph, ph, pw, pw))


@bug(
    "t4-conv-groups-interleaved",
    "conv2d",
    "the input channels are dealt out to the groups in turn: c, c + G, c + 2G … form a group",
    right="the input's groups are interleaved / channels are dealt out in turn / a channel shuffle before the groups",
    wrong="groups are ignored / the output's channels are shuffled / dweight alone",
    seen="a common slip",
)
class ConvGroupsInterleaved(Conv):
    def split(self, windows):
        n, c, taps, positions = windows.shape
        dealt = windows.reshape(n, c // self.groups, self.groups, taps, positions).transpose(1, 2)
        return dealt.reshape(n, self.groups, -1, positions)


@bug(
    "t4-conv-border-replicated",
    "conv2d",
    "the border repeats the edge of the image in place of zeros",
    right="the padding is not zero / the border repeats the edge (replicate) / values other than zero in the border",
    wrong="no padding at all / swapped paddings / padding on one side",
    seen="a common slip of padding modes",
)
class ConvBorderReplicated(Conv):
    def padded(self, x):
        (ph, pw) = self.pad
        return F.pad(x, (pw, pw, ph, ph), mode="replicate")


@bug(
    "t4-conv-weight-order-of-windows",
    "conv2d",
    "the weight is flattened as (kh, kw, C), while the unfolded windows are (C, kh, kw)",
    right="the weight and the windows are flattened in different orders / the axes of the weight (channels, height, "
    "width) are permuted / the weight is read in the wrong layout",
    wrong="a flipped kernel / height and width swapped alone / groups",
    seen="a common slip of im2col",
)
class ConvWeightOrder(Conv):
    def matrix(self):
        return self.w.permute(0, 2, 3, 1).reshape(self.groups, len(self.w) // self.groups, -1)


class Pool(Torch):
    def __init__(self, layer, options):
        super().__init__(layer, options)
        self.k, self.st, self.pad = (pair(options[key]) for key in ("kernel_size", "stride", "padding"))

    def windows(self, x, border):
        (ph, pw), (kh, kw), (sh, sw) = self.pad, self.k, self.st
        xp = F.pad(x, (pw, pw, ph, ph), value=border)
        return xp.unfold(2, kh, sh).unfold(3, kw, sw).flatten(4)


class MaxPool(Pool):
    def compute(self, x, training):
        return self.windows(x, -torch.inf).max(4).values


@bug(
    "t4-max-ties-shared",
    "max_pool2d",
    "the maximum is torch.amax, which shares the gradient evenly among equal maxima",
    right="ties: the gradient is divided among equal maxima / goes to all the equal maxima and not to the first",
    wrong="overlap / the border / a wrong index",
    seen="Theano/Theano#5248 is its like",
)
class MaxTiesShared(MaxPool):
    def compute(self, x, training):
        return self.windows(x, -torch.inf).amax(4)


@bug(
    "t4-max-stride-left-out",
    "max_pool2d",
    "the stride is not handed over, so it is the kernel's size",
    right="the stride is ignored / the stride is the kernel's size / a wrong output shape where the two differ",
    wrong="the padding / strides swapped / windows cut off at the border (ceil or floor)",
    seen="a common slip",
)
class MaxStrideLeftOut(MaxPool):
    def compute(self, x, training):
        self.st = self.k
        return super().compute(x, training)


class AvgPool(Pool):
    def compute(self, x, training):
        return self.mean(self.windows(x, 0.0), self.windows(torch.ones_like(x), 0.0))

    def mean(self, windows, real):
        return windows.mean(4)


@bug(
    "t4-avg-border-not-counted",
    "avg_pool2d",
    "a window's sum is divided by the number of its real pixels, though the layer says that the border counts",
    right="the padding is not counted / count_include_pad is no / the divisor is the valid count",
    wrong="a wrong border value / backward alone",
    seen="VeriSilicon/TIM-VX#423, apache/tvm#1144",
)
class AvgBorderNotCounted(AvgPool):
    def mean(self, windows, real):
        return windows.sum(4) / real.sum(4)


@bug(
    "t4-avg-divided-by-square",
    "avg_pool2d",
    "the divisor is the square of the kernel's height, which is the window's size in square windows alone",
    right="the divisor is kh² in place of kh·kw / a wrong divisor in oblong windows / the kernel is taken for square "
    "in the divisor",
    wrong="the windows are wrong / the padding is not counted",
    seen="a common slip",
)
class AvgDividedBySquare(AvgPool):
    def mean(self, windows, real):
        return windows.sum(4) / self.k[0] ** 2


class Linear(Torch):
    def compute(self, x, training):
        y = x @ self.w.T
        return y if self.b is None else y + self.bias()

    def bias(self):
        return self.b


@bug(
    "t4-linear-bias-detached",
    "linear",
    "the bias enters the forward detached, so dbias is zero",
    right="dbias is zero / is missing / the bias is detached",
    wrong="dbias has a wrong sum / dweight / dx",
    seen="tinygrad/tinygrad#15242 is its like",
)
class LinearBiasDetached(Linear):
    def bias(self):
        return self.b.detach()


@bug(
    "t4-linear-gradients-cleared",
    "linear",
    "each forward clears the parameters' gradients, though the layer says that they accumulate",
    right="gradients are overwritten (cleared) and do not accumulate",
    wrong="stale x / a wrong sum",
    seen="a common slip",
)
class LinearGradientsCleared(Linear):
    def compute(self, x, training):
        for p in self.p.values():
            p.grad = None
        return super().compute(x, training)


class Loss(Torch):
    conventions = {"grads": "accumulate"}

    def compute(self, x, training):
        return -self.log(x)[torch.arange(len(x)), self.labels].mean()

    def log(self, x):
        return torch.log_softmax(x, 1)


@bug(
    "t4-ce-softmax-twice",
    "softmax_cross_entropy",
    "the logits go through softmax before a loss that applies log-softmax itself",
    right="softmax is applied twice / probabilities are taken for logits / log_softmax of softmax",
    wrong="a wrong axis / a temperature / a wrong reduction",
    seen="a common slip; bifold-pathomics/xMIL#8",
)
class CeSoftmaxTwice(Loss):
    def log(self, x):
        return super().log(torch.softmax(x, 1))


@bug(
    "t4-ce-mean-over-elements",
    "softmax_cross_entropy",
    "the mean is taken over all N·C elements of onehot·log p, not over the batch",
    right="the loss is divided by N·C / by the number of classes too / a mean over all elements in place of over rows",
    wrong="the sum / the labels / dx alone is wrong",
    seen="a common slip of reduction='mean'",
)
class CeMeanOverElements(Loss):
    def compute(self, x, training):
        return -(F.one_hot(self.labels, x.shape[1]) * self.log(x)).mean()


@bug(
    "t4-ce-log-sum-with-shift-added-back",
    "softmax_cross_entropy",
    "log p is x - (max + log of the sum): the maximum is added back before the subtraction, so large logits lose the "
    "logarithm",
    right="cancellation at large logits / the shift is added back before the difference / precision lost where "
    "logits are large",
    wrong="no shift (overflow) / a wrong axis / the reduction",
    seen="pytorch/pytorch#11752",
)
class CeShiftAddedBack(Loss):
    def log(self, x):
        top = x.max(1, keepdim=True).values
        return x - (top + (x - top).exp().sum(1, keepdim=True).log())
