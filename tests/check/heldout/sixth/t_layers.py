"""Convolution, pooling, the affine map and the loss in PyTorch as public code gets them wrong; gradients by autograd."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from heldout.fifth.t_layers import Conv
from heldout.sixth.registry import bug
from heldout.third.tbase import Torch, pair

SLIP = "a common slip"


@bug(
    "t6-cv-padding-at-the-end",
    "conv2d",
    "All of the padding stands below and to the right of the image, none above and to the left.",
    right="asymmetric padding: all at the end (bottom, right) / padding on one side / the windows are shifted by the padding",
    wrong="padding missing, edge padding, stride",
    seen="a common slip (TensorFlow's SAME, ported)",
)
class PaddingAtEnd(Conv):
    def single(self, x, weight):
        ph, pw = self.pad
        self.pad = (0, 0)
        y = super().single(F.pad(x, (0, 2 * pw, 0, 2 * ph)), weight)
        self.pad = (ph, pw)
        return y


@bug(
    "t6-cv-bias-times-channels",
    "conv2d",
    "The bias is added inside the loop over the input channels: once for each of them (of a group).",
    right="bias added once for each input channel / bias times the number of input channels (of the group)",
    wrong="bias missing, bias twice without channels, weight wrong",
    seen=SLIP,
)
class BiasEachChannel(Conv):
    def compute(self, x, training):
        y = super().compute(x, training)
        return y if self.b is None else y + (x.shape[1] // self.groups - 1) * self.b[None, :, None, None]


@bug(
    "t6-cv-reflects",
    "conv2d",
    "The border is padded by repeating the edge pixels (replicate), not by zeros.",
    right="the padding repeats the edge / replicate (edge) padding in place of zeros",
    wrong="padding missing, wrap-around, at one side",
    seen=SLIP,
)
class Replicates(Conv):
    def single(self, x, weight):
        ph, pw = self.pad
        self.pad = (0, 0)
        y = super().single(F.pad(x, (pw, pw, ph, ph), mode="replicate"), weight)
        self.pad = (ph, pw)
        return y


@bug(
    "t6-mp-amax-shares-gradient",
    "max_pool2d",
    "amax divides the gradient evenly among equal maxima of a window.",
    right="ties: the gradient is divided among equal values / shared evenly by ties",
    wrong="all ties get it whole, the last gets it, zeros padded",
    seen="torch.amax's gradient",
)
class Amax(Torch):
    def compute(self, x, training):
        k, s, p = (pair(self.o[key]) for key in ("kernel_size", "stride", "padding"))
        padded = F.pad(x, (p[1], p[1], p[0], p[0]), value=-torch.inf)
        return padded.unfold(2, k[0], s[0]).unfold(3, k[1], s[1]).flatten(4).amax(4)


@bug(
    "t6-mp-largest-magnitude",
    "max_pool2d",
    "Each window hands on the value of the largest magnitude, with its sign.",
    right="the largest absolute value is taken / magnitude in place of value / argmax of |x|",
    wrong="padding with zeros, minimum, ties",
    seen=SLIP,
)
class Magnitude(Torch):
    def compute(self, x, training):
        k, s, p = (pair(self.o[key]) for key in ("kernel_size", "stride", "padding"))
        padded = F.pad(x, (p[1], p[1], p[0], p[0]))
        windows = padded.unfold(2, k[0], s[0]).unfold(3, k[1], s[1]).flatten(4)
        return windows.gather(4, windows.abs().argmax(4, keepdim=True))[..., 0]


@bug(
    "t6-ap-padding-not-counted",
    "avg_pool2d",
    "count_include_pad=False, not declared: a window at the border divides by its pixels in the image.",
    right="padding not counted in the mean / count_include_pad no",
    wrong="padding missing, kernel swapped",
    seen="PyTorch's and other frameworks' defaults differ",
)
class NotCounted(Torch):
    def compute(self, x, training):
        k, s, p = (pair(self.o[key]) for key in ("kernel_size", "stride", "padding"))
        padded = F.pad(x, (p[1], p[1], p[0], p[0]))
        count = F.pad(torch.ones_like(x[:1, :1]), (p[1], p[1], p[0], p[0]))
        windows, counts = (a.unfold(2, k[0], s[0]).unfold(3, k[1], s[1]).sum((4, 5)) for a in (padded, count))
        return windows / counts.clamp(min=1)


@bug(
    "t6-ap-divides-by-height-squared",
    "avg_pool2d",
    "The window's sum is divided by kh · kh, where the kernel is kh by kw.",
    right="divided by kh² in place of kh·kw / the divisor takes the kernel for square",
    wrong="padding counted or not, kernel swapped",
    seen=SLIP,
)
class HeightSquared(Torch):
    def compute(self, x, training):
        k, s, p = (pair(self.o[key]) for key in ("kernel_size", "stride", "padding"))
        padded = F.pad(x, (p[1], p[1], p[0], p[0]))
        return padded.unfold(2, k[0], s[0]).unfold(3, k[1], s[1]).sum((4, 5)) / (k[0] * k[0])


@bug(
    "t6-li-equalised",
    "linear",
    "The weight is multiplied by 1/sqrt(in) at run time (equalised learning rate).",
    right="weight is scaled by 1/sqrt(in_features) / a factor 1/sqrt(in) on the product",
    wrong="a fixed factor, bias scaled too",
    seen="StyleGAN's EqualLinear",
)
class Equalised(Torch):
    def compute(self, x, training):
        y = x @ self.w.T / self.w.shape[1] ** 0.5
        return y if self.b is None else y + self.b


@bug(
    "t6-li-relu-left-in",
    "linear",
    "A ReLU stands behind the affine map.",
    right="a ReLU on y / negative outputs are set to zero / clamp at 0",
    wrong="bias, abs, x clipped",
    seen=SLIP,
)
class ReluLeft(Torch):
    def compute(self, x, training):
        y = x @ self.w.T
        return torch.relu(y if self.b is None else y + self.b)


@bug(
    "t6-ce-double-softmax",
    "softmax_cross_entropy",
    "The logits pass a softmax before cross_entropy, which has its own.",
    right="softmax twice / probabilities taken for logits",
    wrong="label smoothing, temperature, eps in the log",
    seen="a common slip (nn.CrossEntropyLoss on probabilities)",
)
class DoubleSoftmax(Torch):
    def compute(self, x, training):
        return F.cross_entropy(torch.softmax(x, 1), self.labels)


@bug(
    "t6-ce-label-smoothing",
    "softmax_cross_entropy",
    "label_smoothing=0.1 is left on.",
    right="label smoothing / the target is 0.9 and 0.1/C",
    wrong="double softmax, eps in the log, temperature",
    seen=SLIP,
)
class Smoothing(Torch):
    def compute(self, x, training):
        return F.cross_entropy(x, self.labels, label_smoothing=0.1)


@bug(
    "t6-ce-mean-over-all",
    "softmax_cross_entropy",
    "The mean runs over N · C (one-hot times log-probability, .mean()), so y is divided by C too.",
    right="divided by N·C in place of N / the mean over the classes too / a factor 1/C",
    wrong="sum in place of mean, label smoothing",
    seen="a common slip (-(one_hot * log_p).mean())",
)
class MeanOverAll(Torch):
    def compute(self, x, training):
        one_hot = F.one_hot(self.labels.long(), x.shape[1]).to(x.dtype)
        return -(one_hot * torch.log_softmax(x, 1)).mean()


@bug(
    "t6-ce-unshifted",
    "softmax_cross_entropy",
    "log(Σ exp(x)) without the maximum taken out: infinite for large logits, log(0) for very negative ones.",
    right="the maximum is not subtracted / exp overflows / softmax not shifted",
    wrong="log of a rounded softmax, clipped, float16",
    seen=SLIP,
)
class Unshifted(Torch):
    def compute(self, x, training):
        picked = x.gather(1, self.labels.long()[:, None])[:, 0]
        return (x.exp().sum(1).log() - picked).mean()
