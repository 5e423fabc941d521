"""Second held-out set: convolution, pooling, the affine map and the loss in PyTorch, gradients by autograd."""

from __future__ import annotations

from heldout.second.registry import bug
from heldout.torch_base import Torch, pair, torch

if torch is not None:
    from torch.nn import functional


class Windowed(Torch):
    """Kernel, stride and padding as pairs."""

    def compute(self, x, training):
        kernel, stride, padding = (pair(self.o[key]) for key in ("kernel_size", "stride", "padding"))
        return self.slide(x, kernel, stride, padding)


def padded_after(x, padding, value=0.0):
    """All of the padding below and to the right."""
    return functional.pad(x, (0, 2 * padding[1], 0, 2 * padding[0]), value=value)


@bug(
    "t2-conv-same", "conv2d", "all of the padding stands below and to the right", "TensorFlow's SAME in ported weights"
)
class ConvSame(Windowed):
    def slide(self, x, kernel, stride, padding):
        return functional.conv2d(padded_after(x, padding), self.w, self.b, stride)


@bug("t2-conv-oiwh", "conv2d", "the kernel's height and width are swapped in memory")
class ConvOiwh(Windowed):
    def slide(self, x, kernel, stride, padding):
        o, i, kh, kw = self.w.shape
        return functional.conv2d(x, self.w.reshape(o, i, kw, kh).transpose(2, 3), self.b, stride, padding)


@bug("t2-conv-io", "conv2d", "the weight is read as (I, O, kh, kw)")
class ConvIo(Windowed):
    def slide(self, x, kernel, stride, padding):
        o, i = self.w.shape[:2]
        return functional.conv2d(x, self.w.reshape(i, o, *kernel).transpose(0, 1), self.b, stride, padding)


@bug(
    "t2-conv-one-stride",
    "conv2d",
    "the stride of the height is used for both axes",
    "tensorflow/tensorflow, strides as one number",
)
class ConvOneStride(Windowed):
    def slide(self, x, kernel, stride, padding):
        return functional.conv2d(x, self.w, self.b, stride[0], padding)


@bug("t2-conv-bfloat16", "conv2d", "x and weight are rounded to bfloat16, the sums are float32", "autocast left on")
class ConvBfloat16(Windowed):
    def slide(self, x, kernel, stride, padding):
        x, w = (a.to(torch.bfloat16).to(a.dtype) for a in (x, self.w))
        return functional.conv2d(x, w, self.b, stride, padding)


@bug("t2-conv-bias-scaled", "conv2d", "the bias is added once for each input channel")
class ConvBiasScaled(Windowed):
    def slide(self, x, kernel, stride, padding):
        bias = None if self.b is None else self.b * x.shape[1]
        return functional.conv2d(x, self.w, bias, stride, padding)


@bug("t2-max-default-stride", "max_pool2d", "the stride is always the window's size")
class MaxDefaultStride(Windowed):
    def slide(self, x, kernel, stride, padding):
        return functional.max_pool2d(x, kernel, kernel, padding)


@bug("t2-max-same", "max_pool2d", "all of the padding stands below and to the right")
class MaxSame(Windowed):
    def slide(self, x, kernel, stride, padding):
        return functional.max_pool2d(padded_after(x, padding, -torch.inf), kernel, stride)


@bug(
    "t2-max-zeros",
    "max_pool2d",
    "the padding is zeros, which win over negative values",
    "zylo117/Yet-Another-EfficientDet-Pytorch#352",
)
class MaxZeros(Windowed):
    def slide(self, x, kernel, stride, padding):
        x = functional.pad(x, (padding[1], padding[1], padding[0], padding[0]))
        return functional.max_pool2d(x, kernel, stride)


@bug("t2-avg-strides", "avg_pool2d", "the sum is divided by the strides' product instead of the window's")
class AvgStrides(Windowed):
    def slide(self, x, kernel, stride, padding):
        return functional.avg_pool2d(x, kernel, stride, padding, divisor_override=stride[0] * stride[1])


@bug("t2-avg-same", "avg_pool2d", "all of the padding stands below and to the right")
class AvgSame(Windowed):
    def slide(self, x, kernel, stride, padding):
        return functional.avg_pool2d(padded_after(x, padding), kernel, stride)


@bug(
    "t2-avg-real-pixels",
    "avg_pool2d",
    "the mean is over the real pixels alone, undeclared",
    "apache/tvm#1144, sonos/tract#2654",
)
class AvgRealPixels(Windowed):
    def slide(self, x, kernel, stride, padding):
        return functional.avg_pool2d(x, kernel, stride, padding, count_include_pad=False)


@bug("t2-lin-bias-twice", "linear", "the bias is added twice")
class LinBiasTwice(Torch):
    def compute(self, x, training):
        y = functional.linear(x, self.w, self.b)
        return y if self.b is None else y + self.b


@bug("t2-lin-no-bias", "linear", "the bias is left out")
class LinNoBias(Torch):
    def compute(self, x, training):
        return functional.linear(x, self.w)


@bug("t2-lin-half", "linear", "x and weight are rounded to float16")
class LinHalf(Torch):
    def compute(self, x, training):
        x, w = (a.to(torch.float16).to(a.dtype) for a in (x, self.w))
        return functional.linear(x, w, self.b)


class Loss(Torch):
    """Cross-entropy over one-hot targets."""

    def compute(self, x, training):
        self.target = functional.one_hot(torch.tensor(self.labels), x.shape[1]).to(x.dtype)
        return self.loss(x)


@bug("t2-loss-all-mean", "softmax_cross_entropy", "the mean is over batch and classes of one-hot times log p")
class LossAllMean(Loss):
    def loss(self, x):
        return -(self.target * torch.log_softmax(x, 1)).mean()


@bug("t2-loss-eps", "softmax_cross_entropy", "log(p + 1e-4)", "MarvinTeichmann/tensorflow-fcn#18")
class LossEps(Loss):
    def loss(self, x):
        return -(self.target * torch.log(torch.softmax(x, 1) + 1e-4)).sum(1).mean()


@bug("t2-loss-batch-max", "softmax_cross_entropy", "one maximum of the whole batch is subtracted: other rows underflow")
class LossBatchMax(Loss):
    def loss(self, x):
        e = torch.exp(x - x.max().detach())
        return -torch.log((self.target * e).sum(1) / e.sum(1)).mean()


@bug("t2-loss-smoothed", "softmax_cross_entropy", "label smoothing of 0.1 is left on")
class LossSmoothed(Loss):
    def loss(self, x):
        return functional.cross_entropy(x, torch.tensor(self.labels), label_smoothing=0.1)


@bug(
    "t2-loss-fixed-batch",
    "softmax_cross_entropy",
    "the sum is divided by a batch size of 100 always",
    "rinuboney/ladder#5",
)
class LossFixedBatch(Loss):
    def loss(self, x):
        return -(self.target * torch.log_softmax(x, 1)).sum() / 100


@bug("t2-loss-dim", "softmax_cross_entropy", "the softmax is over the batch", "torch.softmax with dim=0")
class LossDim(Loss):
    def loss(self, x):
        return -(self.target * torch.log_softmax(x, 0)).sum(1).mean()


@bug("t2-loss-double", "softmax_cross_entropy", "a softmax stands before a loss that has its own")
class LossDouble(Loss):
    def loss(self, x):
        return functional.cross_entropy(torch.softmax(x, 1), torch.tensor(self.labels))
