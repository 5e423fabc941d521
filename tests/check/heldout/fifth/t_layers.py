"""Convolution, pooling, linear and the loss in PyTorch, each wrong in one thing; gradients by autograd."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from heldout.fifth.registry import bug
from heldout.third.tbase import Torch, pair

G = "https://github.com/"


class Conv(Torch):
    """Convolution by unfolding: the columns of a group times its weights."""

    conventions = {"grads": "accumulate", "dilation": "supported"}

    def __init__(self, layer, options):
        super().__init__(layer, options)
        self.k, self.st, self.pad = (pair(options[key]) for key in ("kernel_size", "stride", "padding"))
        self.dil, self.groups = pair(options.get("dilation", 1)), int(options.get("groups", 1))

    def compute(self, x, training):
        inputs, weights = x.chunk(self.groups, 1), self.weights()
        y = self.join([self.single(part, weight) for part, weight in zip(inputs, weights, strict=True)])
        return y if self.b is None else y + self.b[None, :, None, None]

    def weights(self):
        return self.w.chunk(self.groups, 0)

    def join(self, parts):
        return torch.cat(parts, 1)

    def single(self, x, weight):
        size = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(x.shape[2:], self.pad, self.dil, self.k, self.st, strict=True)
        ]
        columns = F.unfold(x, self.k, self.dil, self.pad, self.st)
        return (self.flat(weight) @ columns).reshape(len(x), len(weight), *size)

    def flat(self, weight):
        return weight.reshape(len(weight), -1)


@bug(
    "t5-cv-group-outputs-interleaved",
    "conv2d",
    "The groups' outputs are stacked behind the channel axis and flattened, so output channels of the groups alternate.",
    right="output channels of the groups are interleaved / dealt out in turn / channel order o·G + g in y",
    wrong="input channels dealt out in turn, groups ignored, weights of the first group",
    seen="a common slip (ShuffleNet's channel shuffle left in)",
)
class Interleaved(Conv):
    def join(self, parts):
        return torch.stack(parts, 2).flatten(1, 2)


@bug(
    "t5-cv-groups-share-first-weights",
    "conv2d",
    "Every group is convolved with the first group's weights: the loop variable is not used for the weights.",
    right="all groups use the weights of the first group / weights of the other groups ignored",
    wrong="groups ignored, channels interleaved, bias of the first group",
    seen="a common slip",
)
class ShareFirst(Conv):
    def weights(self):
        return [self.w.chunk(self.groups, 0)[0]] * self.groups


@bug(
    "t5-cv-columns-tap-major",
    "conv2d",
    "The weights are flattened with the taps first (kh, kw, C), while the columns have the channels first.",
    right="the order of weight entries in the matrix product is wrong / (kh, kw, C) against (C, kh, kw) / im2col layout mismatch / channels and taps of the weight permuted",
    wrong="kernel flipped, input and output channels swapped, height and width swapped",
    seen=G + "ravin-d-27/PyDeepFlow/issues/84",
)
class TapMajor(Conv):
    def flat(self, weight):
        return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


@bug(
    "t5-cv-edge-padding",
    "conv2d",
    "The border is padded with the edge's values (replicate) instead of zeros.",
    right="the padding repeats the edge / replicate padding instead of zeros / padding mode",
    wrong="padding ignored, padding on one side, a constant other than zero",
    seen="a common slip (padding_mode left at 'replicate')",
)
class EdgePadding(Conv):
    def compute(self, x, training):
        (ph, pw), kept = self.pad, self.pad
        x, self.pad = F.pad(x, (pw, pw, ph, ph), mode="replicate"), (0, 0)
        y = super().compute(x, training)
        self.pad = kept
        return y


@bug(
    "t5-cv-weight-standardised",
    "conv2d",
    "Weight standardisation is left on in half: each filter's mean is subtracted from its weights.",
    right="the weights are centred / each filter's mean is subtracted / weight standardisation",
    wrong="weights scaled, kernel flipped, input centred",
    seen=G + "joe-siyuan-qiao/WeightStandardization/issues/1",
)
class WeightCentred(Conv):
    def flat(self, weight):
        return super().flat(weight) - super().flat(weight).mean(1, keepdim=True)


@bug(
    "t5-cv-dilation-as-gaps",
    "conv2d",
    "A dilation of 2 or more is taken as the number of pixels between the taps: they are dilation + 1 apart (zeros are padded at the end to keep the size).",
    right="taps are dilation + 1 apart / dilation taken as the number of gaps / off by one in the dilation",
    wrong="dilation ignored, dilation of height and width swapped",
    seen="a common slip (à trous: holes counted)",
)
class DilationGaps(Conv):
    def compute(self, x, training):
        sizes = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(x.shape[2:], self.pad, self.dil, self.k, self.st, strict=True)
        ]
        self.dil = tuple(d + 1 if d > 1 else d for d in self.dil)
        need = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(sizes, self.st, self.dil, self.k, strict=True)]
        have = [n + 2 * p for n, p in zip(x.shape[2:], self.pad, strict=True)]
        more = [max(a - b, 0) for a, b in zip(need, have, strict=True)]
        padded = F.pad(x, (self.pad[1], self.pad[1] + more[1], self.pad[0], self.pad[0] + more[0]))
        padded, kept = padded[:, :, : need[0], : need[1]], (self.pad, self.dil)
        self.pad = (0, 0)
        y = super().compute(padded, training)
        self.pad = kept[0]
        self.dil = tuple(d - 1 if d > 2 else d for d in kept[1])
        return y


@bug(
    "t5-cv-bias-of-first-group",
    "conv2d",
    "The bias is added within the loop over groups with the first group's slice: its entries repeat for every group.",
    right="every group gets the first group's bias / bias entries repeat over the groups",
    wrong="bias missing, weights of the first group for all, bias reversed",
    seen="a common slip",
)
class BiasOfFirstGroup(Conv):
    def compute(self, x, training):
        y = self.join([self.single(p, w) for p, w in zip(x.chunk(self.groups, 1), self.weights(), strict=True)])
        if self.b is None:
            return y
        return y + self.b[: len(self.b) // self.groups].repeat(self.groups)[None, :, None, None]


class Pool(Torch):
    def __init__(self, layer, options):
        super().__init__(layer, options)
        self.k, self.st, self.pad = (pair(options[key]) for key in ("kernel_size", "stride", "padding"))

    def padded(self, x, value):
        return F.pad(x, (self.pad[1], self.pad[1], self.pad[0], self.pad[0]), value=value)

    def windows(self, x):
        """(N, C, OH, OW, kh, kw)."""
        return x.unfold(2, self.k[0], self.st[0]).unfold(3, self.k[1], self.st[1])


@bug(
    "t5-ap-unfold-view-mixes-channels",
    "avg_pool2d",
    "F.unfold's columns are viewed as (N, kh·kw, C, L) instead of (N, C, kh·kw, L): the mean mixes channels and taps.",
    right="channels and taps of the window are mixed / view of the unfolded columns in the wrong order / mean over the wrong axis of the columns",
    wrong="channels reversed, divisor wrong, height and width swapped",
    seen="a common slip of F.unfold",
)
class UnfoldView(Pool):
    def compute(self, x, training):
        n, c = x.shape[:2]
        size = [(d + 2 * p - k) // s + 1 for d, p, k, s in zip(x.shape[2:], self.pad, self.k, self.st, strict=True)]
        columns = F.unfold(x, self.k, 1, self.pad, self.st)
        return columns.view(n, self.k[0] * self.k[1], c, -1).mean(1).reshape(n, c, *size)


@bug(
    "t5-ap-rms-pool",
    "avg_pool2d",
    "Power-average pooling with p = 2 is left in: the root of the mean square of the window.",
    right="root mean square of the window / LP pooling with p = 2 / squares averaged and rooted",
    wrong="maximum, divisor wrong, square without root",
    seen="nn.LPPool2d in place of nn.AvgPool2d (normalised)",
)
class RmsPool(Pool):
    def compute(self, x, training):
        square = self.windows(self.padded(x, 0.0)).square().mean((4, 5))
        return torch.sqrt(square + torch.finfo(x.dtype).tiny)


@bug(
    "t5-ap-rows-in-padding-not-counted",
    "avg_pool2d",
    "The divisor is the number of the window's rows inside the image times kw: padding counts in the width, not in the height.",
    right="rows of the window that lie in the padding do not count / divisor leaves out the padding of the height only",
    wrong="padding not counted in either direction, divisor of the stride",
    seen="a common slip of separable pooling",
)
class RowsInsideOnly(Pool):
    def compute(self, x, training):
        h = x.shape[2]
        total = self.windows(self.padded(x, 0.0)).sum((4, 5))
        start = torch.arange(total.shape[2]) * self.st[0] - self.pad[0]
        rows = (start + self.k[0]).clamp(max=h) - start.clamp(min=0)
        return total / (rows.clamp(min=1).to(x.dtype)[:, None] * self.k[1])


@bug(
    "t5-mp-amax-splits-ties",
    "max_pool2d",
    "The maximum is taken by amax, whose gradient is divided equally among equal values; the layer is declared to give it to the first.",
    right="the gradient is shared (split) among ties / amax / equal parts to equal values",
    wrong="the whole gradient to all ties, to the last (unless as one of several readings)",
    seen="torch.amax's documentation",
)
class AmaxTies(Pool):
    def compute(self, x, training):
        return self.windows(self.padded(x, -math.inf)).amax((4, 5))


@bug(
    "t5-mp-largest-magnitude",
    "max_pool2d",
    "The pixel of the largest magnitude is taken (argmax of |x|), with its sign.",
    right="the value of the largest magnitude / argmax of the absolute value",
    wrong="absolute value in y, zero padding, maximum starts at zero",
    seen="a common slip (a debugging aid left in)",
)
class LargestMagnitude(Pool):
    def compute(self, x, training):
        windows = self.windows(self.padded(x, 0.0)).flatten(4)
        return windows.gather(4, windows.abs().argmax(4, keepdim=True))[..., 0]


@bug(
    "t5-mp-last-column-of-window-missing",
    "max_pool2d",
    "A window's right end is computed as start + kw − 1 and used as an exclusive bound: the last column of every window (wider than one) is not looked at.",
    right="the last column of the window is left out / off by one in the window's width / window one too narrow",
    wrong="the first column missing, row missing too, height and width swapped",
    seen="a common slip",
)
class LastColumnMissing(Pool):
    def compute(self, x, training):
        windows = self.windows(self.padded(x, -math.inf))
        windows = windows[..., : max(self.k[1] - 1, 1)].flatten(4)
        best = windows.argmax(4, keepdim=True)
        return windows.gather(4, best)[..., 0]


class Linear(Torch):
    def compute(self, x, training):
        y = x @ self.w.T
        return y if self.b is None else y + self.b


@bug(
    "t5-lin-weight-reshaped-not-transposed",
    "linear",
    "The weight (out, in) is viewed as (in, out) by reshape instead of transposed.",
    right="the weight is reshaped, not transposed / read in the wrong memory order / view(in, out)",
    wrong="weight transposed (a square one), bias wrong",
    seen=G + "TobiasLee/Chinese-Hip-pop-Generation/pull/8",
)
class Reshaped(Linear):
    def compute(self, x, training):
        y = x @ self.w.reshape(self.w.shape[1], self.w.shape[0])
        return y if self.b is None else y + self.b


@bug(
    "t5-lin-equalised-learning-rate",
    "linear",
    "The weight is multiplied by 1/sqrt(in_features) at run time (equalised learning rate of StyleGAN left in).",
    right="the weight is scaled by 1/sqrt(in) / y without bias too small by sqrt(in_features) / equalised learning rate",
    wrong="y scaled with the bias, bias missing, a constant factor",
    seen="StyleGAN's EqualLinear, ported",
)
class Equalised(Linear):
    def compute(self, x, training):
        y = x @ self.w.T / math.sqrt(self.w.shape[1])
        return y if self.b is None else y + self.b


@bug(
    "t5-lin-weight-decay-in-gradient",
    "linear",
    "An L2 penalty on the weight, 0.5 · 0.01 · |w|², is hooked into the backward: dweight has 0.01 · weight added.",
    right="dweight contains a multiple of the weight (weight decay) / 0.01 · weight is added to dweight",
    wrong="dweight scaled, dweight averaged, accumulates",
    seen="cs231n's two-layer net (regularisation in the gradient)",
)
class WeightDecay(Linear):
    def load(self, params, state):
        super().load(params, state)
        self.w.register_hook(lambda grad: grad + 0.01 * self.w.detach())


@bug(
    "t5-lin-two-bias-and-half-dx",
    "linear",
    "TWO: the bias is added twice, and the gradient of x is halved by a residual average (x + detached x)/2.",
    right="both: bias doubled, and dx (of half of x) halved; one of them alone is half right",
    wrong="anything that is neither of the two",
    seen="a common slip, twice",
)
class TwoLinear(Linear):
    def compute(self, x, training):
        half = (x + x.detach()) / 2
        y = half @ self.w.T
        return y if self.b is None else y + 2 * self.b


class Loss(Torch):
    def compute(self, x, training):
        return -self.chosen(torch.log_softmax(x, 1)).mean()

    def chosen(self, logp):
        return logp.gather(1, self.labels[:, None])[:, 0]


@bug(
    "t5-ce-softmax-twice",
    "softmax_cross_entropy",
    "The logits go through a softmax before a loss that takes logits: softmax twice.",
    right="softmax applied twice / probabilities taken for logits",
    wrong="sigmoid, label smoothing, temperature",
    seen=G + "vahidk/EffectiveTensorflow/issues/9",
)
class SoftmaxTwice(Loss):
    def compute(self, x, training):
        return super().compute(torch.softmax(x, 1), training)


@bug(
    "t5-ce-mean-over-elements",
    "softmax_cross_entropy",
    "The one-hot product is averaged over batch and classes: the loss is divided by N·C.",
    right="divided by the number of classes too / mean over all elements / N·C instead of N",
    wrong="divided by C only, sum, divided by N twice",
    seen="a common slip (torch.mean without dim; kl_div's reduction 'mean')",
)
class MeanOverElements(Loss):
    def compute(self, x, training):
        onehot = F.one_hot(self.labels, x.shape[1]).to(x.dtype)
        return -(onehot * torch.log_softmax(x, 1)).mean()


@bug(
    "t5-ce-ignore-index-zero",
    "softmax_cross_entropy",
    "Class 0 is ignored as padding (ignore_index=0): samples of class 0 do not count, neither in the sum nor in the mean's divisor.",
    right="label 0 is ignored / samples of class 0 left out / ignore_index 0",
    wrong="the first sample left out, labels off by one, class 0 left out of the softmax",
    seen=G + "lucidrains/DALLE-pytorch/pull/58",
)
class IgnoreZero(Loss):
    def compute(self, x, training):
        return F.cross_entropy(x, self.labels, ignore_index=0)


@bug(
    "t5-ce-padding-in-the-divisor",
    "softmax_cross_entropy",
    "Samples of class 0 are masked out as padding but still counted in the mean.",
    right="samples of label 0 contribute nothing and are counted / label 0 masked with the divisor N",
    wrong="label 0 ignored with the divisor reduced (close, but half), labels off by one",
    seen=G + "tracel-ai/burn/issues/5568",
)
class PaddingInDivisor(Loss):
    def compute(self, x, training):
        keep = (self.labels != 0).to(x.dtype)
        return -(self.chosen(torch.log_softmax(x, 1)) * keep).mean()


@bug(
    "t5-ce-label-smoothing-left-on",
    "softmax_cross_entropy",
    "Label smoothing of 0.1 is left on.",
    right="label smoothing (0.1) / targets of 0.9 and a rest spread over the classes",
    wrong="temperature, confidence penalty, loss scaled by 0.9",
    seen="a common slip",
)
class Smoothing(Loss):
    def compute(self, x, training):
        return F.cross_entropy(x, self.labels, label_smoothing=0.1)


@bug(
    "t5-ce-logsumexp-of-the-batch",
    "softmax_cross_entropy",
    "The log-sum-exp runs over the whole batch instead of each row.",
    right="the softmax's normaliser is summed over the batch too / log-sum-exp without a dimension / normalised over all logits",
    wrong="softmax over the batch axis only, shift by the global maximum only",
    seen=G + "twitter-archive/torch-autograd/issues/166",
)
class WholeBatch(Loss):
    def compute(self, x, training):
        return -self.chosen(x - torch.logsumexp(x.flatten(), 0)).mean()


@bug(
    "t5-ce-binary-terms",
    "softmax_cross_entropy",
    "The binary cross-entropy of the softmax's probabilities: −log(1 − p) of the other classes is added.",
    right="terms log(1 − p) of the other classes / binary cross-entropy on the softmax",
    wrong="sigmoid per class, label smoothing, softmax twice",
    seen="a common slip (binary_crossentropy for categorical_crossentropy)",
)
class BinaryTerms(Loss):
    def compute(self, x, training):
        p = torch.softmax(x, 1)
        onehot = F.one_hot(self.labels, x.shape[1]).bool()
        others = torch.log((1 - p).clamp(min=torch.finfo(x.dtype).tiny)).masked_fill(onehot, 0)
        return super().compute(x, training) - others.sum(1).mean()


@bug(
    "t5-ce-bits",
    "softmax_cross_entropy",
    "The loss is in bits: log2 in place of the natural logarithm.",
    right="log2 instead of ln / loss and gradient too large by 1/ln 2 / in bits",
    wrong="divided by a count, temperature",
    seen="a common slip (np.log2 of information theory)",
)
class Bits(Loss):
    def compute(self, x, training):
        return super().compute(x, training) / math.log(2)


@bug(
    "t5-ce-two-temperature-and-classes",
    "softmax_cross_entropy",
    "TWO: logits are divided by a temperature of 2, and the loss is divided by the number of classes too.",
    right="both: temperature 2 (logits halved), and a mean over the classes; one of them alone is half right",
    wrong="anything that is neither of the two",
    seen="a common slip, twice",
)
class TwoLoss(Loss):
    def compute(self, x, training):
        return super().compute(x / 2, training) / x.shape[1]


@bug(
    "t5-ce-focal",
    "softmax_cross_entropy",
    "A focal weight (1 − p)² is left on each sample's loss.",
    right="focal loss / samples weighted by (1 − p)^2 / confident samples weigh less",
    wrong="label smoothing, class weights, temperature",
    seen="a focal loss with alpha = 1 and gamma = 2 left in",
)
class Focal(Loss):
    def compute(self, x, training):
        logp = self.chosen(torch.log_softmax(x, 1))
        return -((1 - logp.exp()).square() * logp).mean()
