"""Convolution, pooling, the affine map and the loss in NumPy as public code gets them wrong; the backward is by hand."""

from __future__ import annotations

import numpy as np

from heldout.sixth.registry import bug
from heldout.third.nbase import AvgPool, Conv, Linear, Loss, MaxPool, softmax

SLIP = "a common slip"


@bug(
    "n6-cv-kernel-flipped",
    "conv2d",
    "A true convolution: the kernel is flipped in both directions, in forward and backward.",
    right="the kernel is flipped (rotated by 180°) / convolution in place of cross-correlation",
    wrong="height and width exchanged, channels exchanged, flipped in dx only",
    seen="a common slip (scipy.signal.convolve2d)",
)
class Flipped(Conv):
    def load(self, params, state):
        super().load(params, state)
        self.p["weight"] = self.p["weight"][:, :, ::-1, ::-1].copy()

    def dweight(self, dyg):
        return super().dweight(dyg)[:, :, ::-1, ::-1]


@bug(
    "n6-cv-dx-kernel-rotated",
    "conv2d",
    "dx scatters with the kernel rotated by 180°; the forward and dweight are right.",
    right="the kernel is flipped (rotated) in dx / dx uses the rotated kernel",
    wrong="flipped in the forward, padding, stride",
    seen=SLIP,
)
class DxRotated(Conv):
    def dx(self, dyg):
        kept = self.p["weight"]
        self.p["weight"] = kept[:, :, ::-1, ::-1]
        dx = super().dx(dyg)
        self.p["weight"] = kept
        return dx


@bug(
    "n6-cv-dweight-averaged",
    "conv2d",
    "dweight is divided by the batch size; dbias and dx are not.",
    right="dweight is a mean over the batch / divided by N",
    wrong="dbias too, over the pixels too",
    seen="a common slip (cs231n-like code with the loss's mean taken again)",
)
class DweightMean(Conv):
    def dweight(self, dyg):
        return super().dweight(dyg) / len(dyg)


@bug(
    "n6-mp-padded-with-zeros",
    "max_pool2d",
    "The border is padded with zeros, so a window of negative values gives 0.",
    right="padding with zeros in place of minus infinity / zeros of the border take part in the maximum",
    wrong="relu, ties, stride",
    seen=SLIP,
)
class ZeroPadding(MaxPool):
    border = 0.0


@bug(
    "n6-mp-overlap-overwrites",
    "max_pool2d",
    "The gradient is assigned to the winner (=), not added: where windows overlap the last one remains.",
    right="overlapping windows overwrite the gradient / assigned in place of added in dx",
    wrong="ties, the winner's index wrong, stride",
    seen="cf. a common slip in loops over windows",
)
class Overwrites(MaxPool):
    def backward(self, dy):
        dxp = self.buffer()
        dy = np.asarray(dy)
        n, c = np.indices(dy.shape[:2])
        (sh, sw) = self.st
        for i in range(dy.shape[2]):
            for j in range(dy.shape[3]):
                a, b = np.array(self.taps)[self.best[:, :, i, j]].transpose(2, 0, 1)
                dxp[n, c, i * sh + a, j * sw + b] = dy[:, :, i, j]
        return {"dx": self.crop(dxp)}


@bug(
    "n6-ap-backward-counts-valid",
    "avg_pool2d",
    "The forward divides by the whole window, the backward by the pixels of the window that lie in the image.",
    right="dx is divided by the valid pixels only / count_include_pad no in the backward alone / another count in the backward",
    wrong="count in the forward too, stride, padding",
    seen=SLIP,
)
class BackwardValid(AvgPool):
    def backward(self, dy):
        inside = np.pad(np.ones((1, 1, *self.shape[2:])), ((0, 0), (0, 0), (self.pad[0],) * 2, (self.pad[1],) * 2))
        count = sum(inside[self.window(a, b)] for a, b in self.taps)
        scaled = np.asarray(dy) * (len(self.taps) / np.maximum(count, 1)).astype(self.kind)
        return super().backward(scaled)


@bug(
    "n6-ap-dx-not-divided",
    "avg_pool2d",
    "The backward hands dy to every pixel of the window without dividing by the window's size.",
    right="dx is not divided by the size of the window / the factor 1/(kh·kw) is missing in dx",
    wrong="divided by something else, overlap, stride",
    seen=SLIP,
)
class NotDivided(AvgPool):
    def backward(self, dy):
        return super().backward(np.asarray(dy) * len(self.taps))


@bug(
    "n6-li-gradients-divided-by-batch",
    "linear",
    "dweight and dbias are divided by the batch size, as in courses where the loss gives a sum.",
    right="dweight and dbias are means over the batch / divided by N",
    wrong="dx too, transposed",
    seen=SLIP,
)
class OverBatch(Linear):
    def backward(self, dy):
        grads = super().backward(dy)
        return {k: v if k == "dx" else v / len(dy) for k, v in grads.items()}


@bug(
    "n6-li-dbias-total",
    "linear",
    "dbias is the sum of all of dy, over both axes, and so the same number for every output.",
    right="dbias is summed over both axes / one number (the total) for all outputs",
    wrong="averaged, weight's gradient, the first output only",
    seen="a common slip (np.sum(dy) without axis)",
)
class DbiasTotal(Linear):
    def dbias(self, dy, dweight):
        return np.full_like(self.p["bias"], dy.sum())


@bug(
    "n6-ce-softmax-over-batch",
    "softmax_cross_entropy",
    "The softmax runs over axis 0, the batch; dx is softmax minus one-hot as usual.",
    right="softmax over the batch (axis 0) / softmax over the wrong axis",
    wrong="not shifted, double softmax, mean over the wrong count",
    seen=SLIP,
)
class WrongAxis(Loss):
    def probabilities(self, x):
        prob = softmax(x, 0)
        with np.errstate(divide="ignore"):
            return prob, np.log(prob)


@bug(
    "n6-ce-dx-not-divided",
    "softmax_cross_entropy",
    "y is the mean over the batch, dx is that of the sum: not divided by N.",
    right="dx is not divided by N / dx of the sum, y of the mean",
    wrong="reduction wrong in y, softmax",
    seen=SLIP,
)
class DxOfSum(Loss):
    def backward(self, dy):
        return {"dx": super().backward(dy)["dx"] * len(self.prob)}


@bug(
    "n6-ce-eps-in-log",
    "softmax_cross_entropy",
    "y is −mean log(p + 1e-3), to avoid log(0); dx is (p − one-hot)/N.",
    right="a constant is added inside the logarithm / log(p + eps) / the loss saturates (is bounded) by an eps / p clipped",
    wrong="label smoothing, softmax not shifted, double softmax",
    seen="a common slip (log(p + eps))",
)
class EpsInLog(Loss):
    def probabilities(self, x):
        prob = softmax(x, 1)
        return prob, np.log(prob + prob.dtype.type(1e-3))


@bug(
    "n6-ce-two-not-divided-and-dy-ignored",
    "softmax_cross_entropy",
    "Two bugs: dx is not divided by N, and dy is not multiplied in.",
    right="both: dx not divided by N, and dy ignored",
    wrong="either with a wrong second name",
    seen=SLIP,
)
class TwoLoss(Loss):
    def backward(self, dy):
        d = self.prob.copy()
        d[self.rows, self.p["labels"]] -= 1
        return {"dx": d}
