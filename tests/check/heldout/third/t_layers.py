"""Convolution, pooling, the affine map and the loss in PyTorch; autograd follows the wrong forward."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from heldout.third.registry import bug
from heldout.third.tbase import Torch, pair

G = "https://github.com/"


class Conv(Torch):
    conventions = {"grads": "accumulate", "dilation": "supported"}

    def __init__(self, layer, options):
        super().__init__(layer, options)
        self.k, self.st, self.pad = (pair(options[key]) for key in ("kernel_size", "stride", "padding"))
        self.dil, self.groups = pair(options.get("dilation", 1)), int(options.get("groups", 1))

    def compute(self, x, training):
        return F.conv2d(x, self.w, self.b, self.st, self.pad, self.dil, self.groups)


class OldGrad(torch.autograd.Function):
    """The weight's gradient as torch.nn.grad.conv2d_weight computed it up to 1.7."""

    @staticmethod
    def forward(ctx, x, w, st, pad, dil, groups):
        ctx.save_for_backward(x, w)
        ctx.how = st, pad, dil, groups
        return F.conv2d(x, w, None, st, pad, dil, groups)

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        st, pad, dil, groups = ctx.how
        dx = torch.nn.grad.conv2d_input(x.shape, w, dy, st, pad, dil, groups)
        n, c, o = x.shape[0], x.shape[1], w.shape[0]
        g = dy.contiguous().repeat(1, c // groups, 1, 1)
        g = g.reshape(g.shape[0] * g.shape[1], 1, *g.shape[2:])
        flat = x.reshape(1, n * c, *x.shape[2:])
        d = F.conv2d(flat, g, None, dil, pad, st, c * n)
        d = d.reshape(n, d.shape[1] // n, *d.shape[2:]).sum(0)
        d = d.view(c // groups, o, *d.shape[1:]).transpose(0, 1)
        return dx, d[:, :, : w.shape[2], : w.shape[3]].contiguous(), None, None, None, None


@bug(
    "t3-conv-nn-grad-groups", "conv2d",
    "With groups > 1 the weight's gradient pairs the channels wrongly: dy is repeated as if there were one group.",
    right="dweight wrong with groups / groups ignored or mixed in dweight",
    wrong="forward groups wrong, dx wrong, stride or dilation",
    seen=G + "pytorch/pytorch/issues/51430",
)
class NnGrad(Conv):
    def compute(self, x, training):
        y = OldGrad.apply(x, self.w, self.st, self.pad, self.dil, self.groups)
        return y + self.b[None, :, None, None] if self.b is not None else y


@bug(
    "t3-conv-groups-in-turn", "conv2d",
    "The output channels are dealt out to the groups in turn (o mod G) instead of in blocks (o // (O/G)): the weight's layout is that of another library's depthwise multiplier.",
    right="channels dealt to groups in turn / group order of the output channels wrong",
    wrong="groups ignored, weight transposed, bias",
    seen=G + "apache/tvm/pull/1232",
)
class GroupsInTurn(Conv):
    def compute(self, x, training):
        order = torch.arange(self.w.shape[0]).reshape(-1, self.groups).T.reshape(-1)
        y = F.conv2d(x, self.w[order], None, self.st, self.pad, self.dil, self.groups)
        y = y[:, torch.argsort(order)]
        return y + self.b[None, :, None, None] if self.b is not None else y


@bug(
    "t3-conv-width-of-height", "conv2d",
    "The output's width is computed with the height's kernel size and dilation.",
    right="kernel or dilation of height and width confused in the output size / wrong output width",
    wrong="stride, padding swapped, kernel flipped",
    seen=G + "tenstorrent/tt-metal/pull/19542",
)
class WidthOfHeight(Conv):
    def compute(self, x, training):
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = self.k, self.st, self.pad, self.dil
        oh = (x.shape[2] + 2 * ph - dh * (kh - 1) - 1) // sh + 1
        ow = (x.shape[3] + 2 * pw - dh * (kh - 1) - 1) // sw + 1
        xp = F.pad(x, (pw, pw, ph, ph))
        wg = self.w.reshape(self.groups, -1, *self.w.shape[1:])
        y = 0
        for a in range(kh):
            for b in range(kw):
                patch = xp[:, :, a * dh : a * dh + (oh - 1) * sh + 1 : sh, b * dw : b * dw + (ow - 1) * sw + 1 : sw]
                patch = patch.reshape(x.shape[0], self.groups, -1, *patch.shape[2:])
                y = y + torch.einsum("ngcij,goc->ngoij", patch, wg[..., a, b])
        y = y.reshape(x.shape[0], -1, *y.shape[3:])
        return y + self.b[None, :, None, None] if self.b is not None else y


@bug(
    "t3-conv-first-channel", "conv2d",
    "The kernel of the first input channel is used for every input channel.",
    right="one kernel for all input channels / only weight[:, 0] is used",
    wrong="channels swapped, groups, bias",
    seen=G + "LazaroHurtado/micrograd-rs/pull/31",
)
class FirstChannel(Conv):
    def compute(self, x, training):
        w = self.w[:, :1].expand_as(self.w)
        return F.conv2d(x, w, self.b, self.st, self.pad, self.dil, self.groups)


class Pool(Torch):
    def __init__(self, layer, options):
        super().__init__(layer, options)
        self.k, self.st, self.pad = (pair(options[key]) for key in ("kernel_size", "stride", "padding"))


@bug(
    "t3-max-pad-swapped", "max_pool2d",
    "The paddings of height and width are swapped: F.pad is given (ph, ph, pw, pw), though it counts from the last axis.",
    right="padding of height and width swapped",
    wrong="stride swapped, zero padding, padding on one side",
    seen=G + "autogluon/autogluon/pull/438",
)
class MaxPadSwapped(Pool):
    def compute(self, x, training):
        ph, pw = self.pad
        return F.max_pool2d(F.pad(x, (ph, ph, pw, pw), value=-torch.inf), self.k, self.st)


@bug(
    "t3-avg-ceil-overhang", "avg_pool2d",
    "The output size is rounded up, and windows that hang over the edge are divided by the whole kernel.",
    right="output size rounded up (ceil mode) / extra windows at the edge",
    wrong="padding not counted, stride ignored",
    seen=G + "apple/coremltools/pull/2844",
)
class AvgCeil(Pool):
    def compute(self, x, training):
        return F.avg_pool2d(x, self.k, self.st, self.pad, ceil_mode=True, divisor_override=self.k[0] * self.k[1])


@bug(
    "t3-avg-total-padding", "avg_pool2d",
    "The padding is taken as the total of both sides: windows start at −pad/2 and the output size counts it once.",
    right="padding counted once (total of both sides) / half the padding",
    wrong="padding on one side only, padding not counted in the mean, stride",
    seen=G + "AlexeyAB/darknet/issues/3706",
)
class AvgTotal(Pool):
    def compute(self, x, training):
        (ph, pw) = self.pad
        return F.avg_pool2d(F.pad(x, (pw // 2, pw - pw // 2, ph // 2, ph - ph // 2)), self.k, self.st)


@bug(
    "t3-lin-bias-in-sum", "linear",
    "The bias is added inside the sum over the inputs, so that it counts once for each input feature.",
    right="bias multiplied by the number of inputs / added once for each input",
    wrong="bias twice, bias missing, dbias wrong as the cause",
    seen=G + "Kulbear/deep-learning-coursera/pull/48",
)
class BiasInSum(Torch):
    def compute(self, x, training):
        products = x[:, None, :] * self.w
        if self.b is not None:
            products = products + self.b[:, None]
        return products.sum(2)


class Loss(Torch):
    def compute(self, x, training):
        return F.nll_loss(torch.log_softmax(x, 1), self.labels)

    def forward(self, x, training):
        return super().forward(x, training).astype(np.asarray(x).dtype)


@bug(
    "t3-sce-binary-form", "softmax_cross_entropy",
    "The loss is the binary form, −y log p − (1 − y) log(1 − p), summed over the classes of a softmax (p clipped, as in the report).",
    right="binary cross-entropy in place of the categorical / terms of the other classes added",
    wrong="label smoothing, label off by one, mean over classes, the clipped logarithm alone",
    seen=G + "eriklindernoren/ML-From-Scratch/issues/98",
)
class BinaryForm(Loss):
    def compute(self, x, training):
        p = torch.softmax(x, 1).clamp(1e-15, 1 - torch.finfo(x.dtype).eps)
        y = F.one_hot(self.labels, x.shape[1]).to(x.dtype)
        return (-(y * p.log()) - (1 - y) * torch.log1p(-p)).sum(1).mean()


@bug(
    "t3-sce-ignore-zero", "softmax_cross_entropy",
    "Class 0 is taken for padding (ignore_index=0): its rows count neither in the loss nor in the mean.",
    right="rows of label 0 ignored / ignore_index",
    wrong="labels off by one, sum in place of mean",
    seen=G + "Jittor/jittor/pull/233",
)
class IgnoreZero(Loss):
    def compute(self, x, training):
        return F.cross_entropy(x, self.labels, ignore_index=0)


@bug(
    "t3-sce-index-as-weights", "softmax_cross_entropy",
    "The class indices are used as if they were one-hot or soft labels: the loss is −mean(label · Σ log p).",
    right="labels used as weights / index not turned into one-hot",
    wrong="labels off by one, softmax axis, mean over classes",
    seen=G + "kekmodel/MPL-pytorch/issues/34",
)
class IndexAsWeights(Loss):
    def compute(self, x, training):
        return -(self.labels[:, None].to(x.dtype) * torch.log_softmax(x, 1)).sum(1).mean()
