"""Held-out bugs: convolution, pooling, the affine map and the loss in PyTorch, gradients by autograd."""

from __future__ import annotations

import numpy as np

from heldout.registry import bug
from heldout.torch_base import Torch, pair, torch


class Windowed(Torch):
    """Kernel, stride and padding as pairs."""

    def compute(self, x, training):
        kernel, stride, padding = (pair(self.o[k]) for k in ("kernel_size", "stride", "padding"))
        return self.slide(x, kernel, stride, padding)


@bug(
    "t-conv-flipped",
    "conv2d",
    "kernel flipped",
    "computes a true convolution: the kernel is turned by 180 degrees",
    "pytorch/pytorch#117534, the other way",
)
class ConvFlipped(Windowed):
    def slide(self, x, kernel, stride, padding):
        return torch.nn.functional.conv2d(x, self.w.flip((2, 3)), self.b, stride, padding)


@bug("t-conv-stride", "conv2d", "stride of height and width swapped", "stride (sh, sw) is applied as (sw, sh)")
class ConvStride(Windowed):
    def slide(self, x, kernel, stride, padding):
        return torch.nn.functional.conv2d(x, self.w, self.b, stride[::-1], padding)


@bug("t-conv-padding", "conv2d", "padding of height and width swapped", "padding (ph, pw) is applied as (pw, ph)")
class ConvPadding(Windowed):
    def slide(self, x, kernel, stride, padding):
        return torch.nn.functional.conv2d(x, self.w, self.b, stride, padding[::-1])


@bug(
    "t-conv-layout",
    "conv2d",
    "weight read in another layout",
    "the weight's memory (O, I, kh, kw) is read as (O, kh, kw, I)",
)
class ConvLayout(Windowed):
    def slide(self, x, kernel, stride, padding):
        w = self.w.reshape(self.w.shape[0], *kernel, -1).permute(0, 3, 1, 2)
        return torch.nn.functional.conv2d(x, w, self.b, stride, padding)


@bug("t-conv-replicate", "conv2d", "padding with the edge instead of zeros", "the border is padded with its own pixels")
class ConvReplicate(Windowed):
    def slide(self, x, kernel, stride, padding):
        x = torch.nn.functional.pad(x, (padding[1],) * 2 + (padding[0],) * 2, mode="replicate")
        return torch.nn.functional.conv2d(x, self.w, self.b, stride)


@bug(
    "t-conv-bias-pixels",
    "conv2d",
    "bias added a tap",
    "the bias is added to every product's sum over a tap: kh·kw times in all",
)
class ConvBias(Windowed):
    def slide(self, x, kernel, stride, padding):
        b = None if self.b is None else self.b * kernel[0] * kernel[1]
        return torch.nn.functional.conv2d(x, self.w, b, stride, padding)


@bug(
    "t-max-zero-pad",
    "max_pool2d",
    "padding with zero instead of −inf",
    "pads x with zeros, which win over negative values",
    "pytorch/pytorch#33384, distdl/distdl#195",
)
class MaxZero(Windowed):
    def slide(self, x, kernel, stride, padding):
        x = torch.nn.functional.pad(x, (padding[1],) * 2 + (padding[0],) * 2)
        return torch.nn.functional.max_pool2d(x, kernel, stride)


@bug("t-max-ceil", "max_pool2d", "output size rounded up", "ceil mode: a window that hangs over the edge counts")
class MaxCeil(Windowed):
    def slide(self, x, kernel, stride, padding):
        return torch.nn.functional.max_pool2d(x, kernel, stride, padding, ceil_mode=True)


@bug(
    "t-max-ties-shared",
    "max_pool2d",
    "ties share the gradient",
    "amax spreads the gradient evenly over equal maxima; the first alone should get it",
)
class MaxTies(Windowed):
    def slide(self, x, kernel, stride, padding):
        x = torch.nn.functional.pad(x, (padding[1],) * 2 + (padding[0],) * 2, value=-torch.inf)
        return x.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1]).amax((4, 5))


@bug(
    "t-avg-exclude-pad",
    "avg_pool2d",
    "padding not counted in the mean",
    "divides by the number of pixels inside the image",
    "tracel-ai/burn#5450, the other way",
)
class AvgExclude(Windowed):
    def slide(self, x, kernel, stride, padding):
        return torch.nn.functional.avg_pool2d(x, kernel, stride, padding, count_include_pad=False)


@bug("t-avg-stride", "avg_pool2d", "stride ignored", "the stride is taken to be the kernel size")
class AvgStride(Windowed):
    def slide(self, x, kernel, stride, padding):
        return torch.nn.functional.avg_pool2d(x, kernel, kernel, padding)


@bug("t-avg-sum", "avg_pool2d", "sum instead of mean", "adds up the window and never divides")
class AvgSum(Windowed):
    def slide(self, x, kernel, stride, padding):
        return torch.nn.functional.avg_pool2d(x, kernel, stride, padding, divisor_override=1)


@bug("t-lin-layout", "linear", "weight stored transposed", "the weight's memory (out, in) is read as (in, out)")
class LinLayout(Torch):
    def compute(self, x, training):
        y = x @ self.w.reshape(x.shape[1], -1)
        return y if self.b is None else y + self.b


@bug(
    "t-lin-tf32",
    "linear",
    "products in reduced precision",
    "x and the weight are rounded to 10 bits of mantissa before the product, as TF32 does",
)
class LinTf32(Torch):
    def compute(self, x, training):
        y = short(x) @ short(self.w).T
        return y if self.b is None else y + self.b


def short(t):
    """A tensor rounded to 10 bits of mantissa; its gradient passes."""
    mantissa, exponent = np.frexp(t.detach().numpy())
    return t + (torch.tensor(np.ldexp(np.round(mantissa * 2048) / 2048, exponent).astype(mantissa.dtype)) - t).detach()


class Loss(Torch):
    """Labels as a tensor."""

    @property
    def t(self):
        return torch.tensor(self.labels)


@bug("t-loss-sum", "softmax_cross_entropy", "sum instead of mean", "adds the samples' losses up: reduction is sum")
class LossSum(Loss):
    def compute(self, x, training):
        return torch.nn.functional.cross_entropy(x, self.t, reduction="sum")


@bug(
    "t-loss-saturates",
    "softmax_cross_entropy",
    "log of the probability saturates",
    "log(softmax + 1e-20): the loss never exceeds 46, and its gradient vanishes",
    "Oneflow-Inc/oneflow#3137",
)
class LossSaturates(Loss):
    def compute(self, x, training):
        p = torch.softmax(x, 1)[torch.arange(len(x)), self.t]
        return -(p + 1e-20).log().mean()


@bug(
    "t-loss-log-softmax",
    "softmax_cross_entropy",
    "log of a rounded softmax",
    "takes the log of a softmax that has underflowed to 0: inf, and NaN gradients",
    "tensorflow/models#181",
)
class LossLog(Loss):
    def compute(self, x, training):
        return -torch.softmax(x, 1)[torch.arange(len(x)), self.t].log().mean()


@bug("t-loss-labels", "softmax_cross_entropy", "labels off by one", "labels are taken to count from 1")
class LossLabels(Loss):
    def compute(self, x, training):
        return torch.nn.functional.cross_entropy(x, (self.t - 1) % x.shape[1])


@bug(
    "t-loss-twice",
    "softmax_cross_entropy",
    "softmax applied twice",
    "the logits go through softmax before cross_entropy, which applies it again",
)
class LossTwice(Loss):
    def compute(self, x, training):
        return torch.nn.functional.cross_entropy(torch.softmax(x, 1), self.t)
