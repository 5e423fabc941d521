"""Convolution and pooling in NumPy, each wrong in one thing; the backward is by hand."""

from __future__ import annotations

import numpy as np

from heldout.fifth.registry import bug
from heldout.third.nbase import AvgPool, Conv, MaxPool

G = "https://github.com/"


@bug(
    "n5-cv-dx-kernel-not-flipped",
    "conv2d",
    "dx is the full correlation of dy with the kernel, which is not turned by 180 degrees: tap (a, b) scatters to where tap (kh−1−a, kw−1−b) belongs.",
    right="the kernel is not flipped (rotated) in dx / taps of the weight reversed in dx / full correlation in place of convolution in the backward",
    wrong="the kernel flipped in the forward, input and output channels swapped, height and width swapped",
    seen="a common slip",
)
class DxNotFlipped(Conv):
    def dx(self, dyg):
        kept = self.p["weight"]
        self.p["weight"] = np.ascontiguousarray(kept[:, :, ::-1, ::-1])
        dx = super().dx(dyg)
        self.p["weight"] = kept
        return dx


@bug(
    "n5-cv-dweight-over-bhw",
    "conv2d",
    "dweight is divided by batch times output pixels.",
    right="dweight is a mean over batch and output pixels / divided by N·H·W / averaged in place of summed",
    wrong="dweight divided by N only, dbias averaged, dx averaged",
    seen=G + "sebgao/cTensor/issues/3",
)
class DweightOverBhw(Conv):
    def dweight(self, dyg):
        return super().dweight(dyg) / (dyg.shape[0] * dyg.shape[3] * dyg.shape[4])


@bug(
    "n5-cv-dx-cut-by-height-padding",
    "conv2d",
    "The border of dx is cut off with the height's padding in both directions.",
    right="dx's crop uses the padding of the height for the width too / padding of height and width mixed up in dx",
    wrong="the forward's padding swapped, stride mixed up, height and width swapped everywhere",
    seen=G + "renmengye/np-conv2d/pull/2",
)
class CutByHeight(Conv):
    def crop(self, dxp):
        dxp = dxp.reshape(self.shape[0], self.shape[1], *dxp.shape[3:])
        p, (h, w) = self.pad[0], self.shape[2:]
        return np.pad(dxp, ((0, 0), (0, 0), (0, p), (0, p)))[:, :, p : p + h, p : p + w]


@bug(
    "n5-cv-dweight-without-dilation",
    "conv2d",
    "dweight gathers the taps one pixel apart, whatever the dilation.",
    right="the dilation is ignored in dweight / dweight with dilation 1",
    wrong="dilation ignored in the forward or in dx, stride ignored",
    seen="cf. " + G + "pytorch/pytorch/issues/13008",
)
class DweightNoDilation(Conv):
    def dweight(self, dyg):
        kept, self.dil = self.dil, (1, 1)
        dw = super().dweight(dyg)
        self.dil = kept
        return dw


@bug(
    "n5-cv-dbias-mean-over-batch",
    "conv2d",
    "dbias is summed over the pixels but averaged over the batch.",
    right="dbias is averaged over the batch / divided by N",
    wrong="dbias averaged over the pixels (too), dweight averaged",
    seen="a common slip",
)
class DbiasMean(Conv):
    def backward(self, dy):
        grads = super().backward(dy)
        if "dbias" in grads:
            grads["dbias"] = np.asarray(dy).sum((2, 3)).mean(0)
        return grads


@bug(
    "n5-cv-dx-rest-at-the-top",
    "conv2d",
    "Where the stride leaves a rest of the padded image, the missing rows and columns of dx are put at the top and left instead of the bottom and right.",
    right="dx is shifted by the rest of the stride / the output padding of the transposed convolution is on the wrong side / rows that no window meets are taken to be the first",
    wrong="padding on one side in the forward, stride ignored, shift in every case",
    seen=G + "f-dangel/backpack/issues/30",
)
class RestAtTheTop(Conv):
    def crop(self, dxp):
        rest = [
            (n + 2 * p - d * (k - 1) - 1) % s
            for n, p, d, k, s in zip(self.shape[2:], self.pad, self.dil, self.k, self.st, strict=True)
        ]
        moved = np.zeros_like(dxp)
        h, w = dxp.shape[3:]
        moved[:, :, :, rest[0] :, rest[1] :] = dxp[:, :, :, : h - rest[0], : w - rest[1]]
        return super().crop(moved)


@bug(
    "n5-cv-dweight-first-group-input",
    "conv2d",
    "dweight of every group is computed with the first group's input channels (the loop forgets to move the slice).",
    right="dweight uses the input channels of the first group for all groups / group offset missing in dweight's input",
    wrong="groups ignored in the forward, weights of the first group for all, channels dealt out in turn",
    seen="a common slip of grouped convolutions",
)
class DweightFirstGroup(Conv):
    def dweight(self, dyg):
        kept = self.xp
        self.xp = np.repeat(kept[:, :1], self.groups, axis=1)
        dw = super().dweight(dyg)
        self.xp = kept
        return dw


@bug(
    "n5-cv-two-bias-reversed-and-dx-mean",
    "conv2d",
    "TWO: the bias is added with its channels reversed, and dx is divided by the batch size.",
    right="both: bias channels reversed in y, and dx divided by N; one of them alone is half right",
    wrong="anything that is neither of the two",
    seen="a common slip, twice",
)
class TwoConv(Conv):
    def with_bias(self, y):
        return y + self.p["bias"][::-1][None, :, None, None] if "bias" in self.p else y

    def backward(self, dy):
        grads = super().backward(dy)
        if "dbias" in grads:
            grads["dbias"] = grads["dbias"][::-1].copy()
        grads["dx"] = grads["dx"] / len(dy)
        return grads


@bug(
    "n5-ap-dx-over-stride",
    "avg_pool2d",
    "dy is divided by the product of the strides instead of the size of the window.",
    right="dx is divided by the stride's area instead of the kernel's / stride and kernel mixed up in the backward's divisor",
    wrong="the forward's divisor, padding not counted, divided by one side",
    seen=G + "torch/cunn/pull/200",
)
class DxOverStride(AvgPool):
    def backward(self, dy):
        return {"dx": super().backward(dy)["dx"] * (self.k[0] * self.k[1]) / (self.st[0] * self.st[1])}


class AvgCounts(AvgPool):
    """A mean whose divisor is counted per window."""

    def clipped(self, axis, leading, trailing):
        n, p, k, s = self.shape[2 + axis], self.pad[axis], self.k[axis], self.st[axis]
        low = np.arange(self.out[axis]) * s - p
        high = low + k
        low = np.maximum(low, 0) if leading else low
        return (np.minimum(high, n) if trailing else high) - low

    def divisor(self, leading=False, trailing=False):
        return self.clipped(0, leading, trailing)[:, None] * self.clipped(1, leading, trailing)


@bug(
    "n5-ap-leading-padding-not-counted",
    "avg_pool2d",
    "The window's start is clipped to the image before the divisor is taken, its end is not: padding at the top and left does not count, at the bottom and right it does.",
    right="the padding of one side (top, left) is left out of the divisor / the divisor counts trailing but not leading padding",
    wrong="padding not counted at all (count_include_pad=no on both sides), border on one side in the sum",
    seen=G + "ROCm/AMDMIGraphX/pull/5007",
)
class LeadingNotCounted(AvgCounts):
    def run(self, stack, taps):
        self.taps = taps
        return stack.sum(0) / self.divisor(leading=True)

    def backward(self, dy):
        return super().backward(np.asarray(dy) * self.k[0] * self.k[1] / self.divisor(leading=True))


@bug(
    "n5-ap-backward-excludes-padding",
    "avg_pool2d",
    "The forward counts the padding in its divisor, the backward divides by the pixels inside the image alone.",
    right="the backward's divisor leaves out the padding (forward counts it) / count_include_pad differs between the passes / dx as of count_include_pad=no",
    wrong="the forward's divisor wrong, divided by the stride",
    seen="a common slip (count_include_pad brought into one pass alone)",
)
class BackwardExcludes(AvgCounts):
    def backward(self, dy):
        inside = self.divisor(leading=True, trailing=True)
        return super().backward(np.asarray(dy) * self.k[0] * self.k[1] / np.maximum(inside, 1))


@bug(
    "n5-ap-integral-image-off-by-one",
    "avg_pool2d",
    "Window sums are differences of an integral image without its leading row and column of zeros: the first row and column of each window are left out.",
    right="the first row and column of the window are missing in the sum / off by one in the integral image / window one pixel too small at its start with the whole divisor",
    wrong="the last row or column missing, padding on one side, divisor wrong",
    seen="a common slip of summed-area tables",
)
class IntegralImage(AvgPool):
    def padded(self, x):
        self.image = super().padded(x)
        return self.image

    def run(self, stack, taps):
        self.taps = taps
        table = self.image.cumsum(2, dtype=np.float64).cumsum(3)
        rows = np.arange(self.out[0]) * self.st[0]
        cols = np.arange(self.out[1]) * self.st[1]
        top, bottom = table[:, :, rows], table[:, :, rows + self.k[0] - 1]
        total = bottom[..., cols + self.k[1] - 1] - bottom[..., cols] - top[..., cols + self.k[1] - 1] + top[..., cols]
        return total / len(taps)


@bug(
    "n5-ap-two-leading-padding-and-stride",
    "avg_pool2d",
    "TWO: y leaves the leading padding out of its divisor, and dx is spread with the stride's area as divisor.",
    right="both: leading padding not counted in y, and dx divided by the stride's area; one of them alone is half right",
    wrong="anything that is neither of the two",
    seen="a common slip, twice",
)
class TwoAvg(AvgCounts):
    def run(self, stack, taps):
        self.taps = taps
        return stack.sum(0) / self.divisor(leading=True)

    def backward(self, dy):
        return {"dx": super().backward(dy)["dx"] * (self.k[0] * self.k[1]) / (self.st[0] * self.st[1])}


@bug(
    "n5-mp-index-decoded-by-height",
    "max_pool2d",
    "The index of the largest value within a window is row · kw + column and is decoded with kh: the gradient goes to another pixel of the window if the window is not square.",
    right="the argmax is decoded with the kernel's height instead of its width / gradient to the wrong pixel of an oblong window / index // kh",
    wrong="ties, overlapping windows overwritten, forward wrong",
    seen="a common slip",
)
class DecodedByHeight(MaxPool):
    def backward(self, dy):
        dxp = self.buffer()
        kh = self.k[0]
        for i in range(len(self.taps)):
            a, b = i // kh, i % kh
            rows = np.minimum(a + np.arange(self.out[0]) * self.st[0], dxp.shape[2] - 1)
            cols = np.minimum(b + np.arange(self.out[1]) * self.st[1], dxp.shape[3] - 1)
            np.add.at(dxp, np.s_[:, :, rows[:, None], cols], np.where(self.best == i, dy, 0))
        return {"dx": self.crop(dxp)}


@bug(
    "n5-mp-cut-from-the-corner",
    "max_pool2d",
    "dx of the padded image is cut to size at the bottom and right alone: it is shifted by the padding.",
    right="dx is shifted by the padding / the padding is not cut off at the top and left / padded coordinates taken for the image's",
    wrong="padding on one side in the forward, gradient overwritten, ties",
    seen=G + "FluxML/NNlib.jl/issues/133",
)
class CutFromCorner(MaxPool):
    def crop(self, dxp):
        h, w = self.shape[2:]
        return dxp[:, :, :h, :w].astype(self.kind)


@bug(
    "n5-mp-last-window-gate",
    "max_pool2d",
    "The maxima and dy are spread back over the image, each window overwriting the ones before; a pixel gets the gradient of the last window that covers it, if it equals that window's maximum.",
    right="where windows overlap only the last window's gradient counts / last write wins / gradient overwritten (not accumulated) in overlaps",
    wrong="ties, gradient to the wrong pixel of a window, forward wrong",
    seen=G + "ahrefs/ocannl/issues/512",
)
class LastWindowGate(MaxPool):
    def forward(self, x, training):
        y = super().forward(x, training)
        self.image, self.y = self.padded(x), y
        return y

    def backward(self, dy):
        gate, spread = np.full_like(self.image, np.nan), np.zeros_like(self.image)
        for i in range(self.out[0]):
            for j in range(self.out[1]):
                top, left = i * self.st[0], j * self.st[1]
                window = np.s_[:, :, top : top + self.k[0], left : left + self.k[1]]
                gate[window] = self.y[:, :, i, j, None, None]
                spread[window] = np.asarray(dy)[:, :, i, j, None, None]
        return {"dx": self.crop(np.where(self.image == gate, spread, 0))}


@bug(
    "n5-mp-best-starts-at-flt-min",
    "max_pool2d",
    "The search for the maximum starts at FLT_MIN, which is the smallest positive float: a window of negative values gives about 0, and no gradient.",
    right="the maximum starts at (about) zero / FLT_MIN in place of −FLT_MAX / max(0, window) / negative windows give 0",
    wrong="padding with zeros (unless it is said to hold without padding), absolute values",
    seen=G + "uxlfoundation/oneDNN/pull/1677",
)
class StartsAtFltMin(MaxPool):
    def run(self, stack, taps):
        y = super().run(stack, taps)
        tiny = np.finfo(np.float32).tiny
        self.best = np.where(y > tiny, self.best, -1)
        return np.where(y > tiny, y, tiny)


@bug(
    "n5-mp-window-offset-half-padding",
    "max_pool2d",
    "Windows start at −(padding // 2), as in Darknet where padding is the total of both sides; the rest of the padding is at the bottom and right.",
    right="windows are shifted: half of the padding at the start / padding taken as the total of both sides / border on one side (more at the end)",
    wrong="padding ignored, padding with zeros, height and width swapped",
    seen=G + "AlexeyAB/darknet/issues/3706",
)
class HalfPadding(MaxPool):
    def padded(self, x):
        (ph, pw) = self.pad
        sides = (ph // 2, 2 * ph - ph // 2), (pw // 2, 2 * pw - pw // 2)
        return np.pad(x, ((0, 0), (0, 0), *sides), constant_values=-np.inf)

    def crop(self, dxp):
        (ph, pw), (h, w) = self.pad, self.shape[2:]
        return dxp[:, :, ph // 2 : ph // 2 + h, pw // 2 : pw // 2 + w].astype(self.kind)
