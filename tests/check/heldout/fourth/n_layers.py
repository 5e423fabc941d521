"""Convolution, pooling, the affine map and the loss by hand, each wrong in one thing."""

from __future__ import annotations

import numpy as np

from heldout.fourth.registry import bug
from heldout.third import nbase


@bug(
    "n4-conv-dx-kernel-flipped",
    "conv2d",
    "dx meets the kernel turned by 180°, as if the transposed convolution were a correlation with the kernel as it is",
    right="dx: the kernel is flipped / the kernel should have been flipped and was not / height and width of the "
    "kernel run backwards in dx",
    wrong="the forward or dweight is flipped / transposed channels",
    seen="a common slip",
)
class ConvDxKernelFlipped(nbase.Conv):
    def dx(self, dyg):
        kept = self.p["weight"]
        self.p["weight"] = kept[:, :, ::-1, ::-1]
        dx = super().dx(dyg)
        self.p["weight"] = kept
        return dx


@bug(
    "n4-conv-dweight-group-order",
    "conv2d",
    "for dweight the channels of dy are dealt out to the groups in turn, while forward takes them in blocks",
    right="dweight: groups are wrong / output channels are assigned to the wrong group / groups interleaved, in "
    "dweight alone",
    wrong="the forward's groups are wrong / dx / dilation",
    seen="pytorch/pytorch#51430, tracel-ai/burn#1891",
)
class ConvDweightGroupOrder(nbase.Conv):
    def dweight(self, dyg):
        n, g, o = dyg.shape[:3]
        dealt = dyg.reshape(n, g * o, *dyg.shape[3:]).reshape(n, o, g, *dyg.shape[3:]).swapaxes(1, 2)
        return super().dweight(dealt)


@bug(
    "n4-conv-output-size-dilation",
    "conv2d",
    "the output's size subtracts dilation·kernel, not dilation·(kernel - 1) + 1, so rows and columns are lost",
    right="the output is too small where there is dilation / a wrong output size (shape) with dilation / the last "
    "rows or columns of the output are missing with dilation / an exception about shapes in a dilated convolution",
    wrong="a dilation that is ignored / padding / stride",
    seen="NVIDIA/cutlass#3526",
)
class ConvOutputSizeDilation(nbase.Conv):
    def out_size(self, h, w):
        sizes = zip((h, w), self.pad, self.dil, self.k, self.st, strict=True)
        return tuple((n + 2 * p - d * k) // s + 1 for n, p, d, k, s in sizes)


@bug(
    "n4-conv-dx-not-cropped",
    "conv2d",
    "dx is the first H rows and W columns of the padded gradient: the border's offset is forgotten",
    right="dx is shifted by the padding / the padding is not cut off (or at the wrong side) in dx / dx starts in the "
    "border",
    wrong="the forward's padding is wrong / flipped / stride",
    seen="a common slip",
)
class ConvDxNotCropped(nbase.Conv):
    def crop(self, dxp):
        h, w = self.shape[2:]
        return dxp.reshape(self.shape[0], self.shape[1], *dxp.shape[3:])[:, :, :h, :w]


@bug(
    "n4-conv-dbias-batch-mean",
    "conv2d",
    "dbias is averaged over the batch where it should be summed",
    right="dbias: a mean over the batch in place of a sum / dbias is divided by N",
    wrong="dbias is divided by the pixels too / dweight",
    seen="a common slip",
)
class ConvDbiasBatchMean(nbase.Conv):
    def backward(self, dy):
        grads = super().backward(dy)
        if "dbias" in grads:
            grads["dbias"] = np.asarray(dy).sum((2, 3)).mean(0).astype(self.kind)
        return grads


class IndexedMaxPool(nbase.MaxPool):
    """Backward by the row and column of each window's winner."""

    def backward(self, dy):
        dxp = self.buffer()
        n, c = self.shape[:2]
        oi, oj = np.meshgrid(np.arange(self.out[0]) * self.st[0], np.arange(self.out[1]) * self.st[1], indexing="ij")
        rows, cols = self.inside(self.best)
        at = np.arange(n)[:, None, None, None], np.arange(c)[:, None, None], oi + rows, oj + cols
        self.scatter(dxp, at, np.asarray(dy))
        return {"dx": self.crop(dxp)}

    def inside(self, best):
        return best // self.k[1], best % self.k[1]

    def scatter(self, dxp, at, dy):
        np.add.at(dxp, at, dy)


@bug(
    "n4-max-border-of-zeros",
    "max_pool2d",
    "the border is padded with zeros, which win over negative values",
    right="the border is zero, not minus infinity / padding takes part in the maximum / the border wins",
    wrong="ties / wrong windows / a clipped output without padding",
    seen="apache/mxnet#2753, distdl/distdl#195",
)
class MaxBorderOfZeros(nbase.MaxPool):
    border = 0.0


@bug(
    "n4-max-scatter-without-adding",
    "max_pool2d",
    "dx[index] += dy with repeated indices keeps one addition for each pixel: where a pixel wins two windows, one is "
    "lost",
    right="gradients overwrite each other where windows overlap / are not accumulated / one window's gradient is "
    "kept alone",
    wrong="ties / a wrong index / windows cut off",
    seen="ahrefs/ocannl#512, jmschrei/tangermeme#95",
)
class MaxScatterWithoutAdding(IndexedMaxPool):
    def scatter(self, dxp, at, dy):
        dxp[at] += dy


@bug(
    "n4-max-index-by-height",
    "max_pool2d",
    "the winner's index within a window is divided by the kernel's height, not its width, to find row and column",
    right="dx: the kernel's height and width are swapped in the index / the gradient goes to the wrong pixel in "
    "oblong windows / an exception says that an index is out of bounds in oblong windows",
    wrong="ties / overlap / the forward's windows",
    seen="a common slip",
)
class MaxIndexByHeight(IndexedMaxPool):
    def inside(self, best):
        return best // self.k[0], best % self.k[0]


@bug(
    "n4-avg-dx-divides-by-valid-count",
    "avg_pool2d",
    "backward divides dy by the number of real pixels in a window, though forward divides by the whole window",
    right="dx: the padding is not counted / the count excludes the border in backward alone / the divisor is too "
    "small at the border",
    wrong="the forward's count / overlap",
    seen="a common slip",
)
class AvgDxDividesByValidCount(nbase.AvgPool):
    def backward(self, dy):
        real = self.padded(np.ones(self.shape, self.kind))
        count = sum(real[self.window(a, b)] for a, b in self.taps)
        dxp = self.buffer()
        for a, b in self.taps:
            dxp[self.window(a, b)] += np.asarray(dy) / np.maximum(count, 1)
        return {"dx": self.crop(dxp)}


@bug(
    "n4-avg-dx-undivided",
    "avg_pool2d",
    "backward hands dy to each pixel of the window without dividing by the window's size",
    right="dx is not divided by the size of the window / a sum's gradient in place of a mean's / dx is kh·kw times "
    "too large",
    wrong="padding / overlap / the forward",
    seen="a common slip",
)
class AvgDxUndivided(nbase.AvgPool):
    def backward(self, dy):
        dxp = self.buffer()
        for a, b in self.taps:
            dxp[self.window(a, b)] += np.asarray(dy)
        return {"dx": self.crop(dxp)}


@bug(
    "n4-linear-dbias-mean",
    "linear",
    "dbias is the mean of dy over the batch, not the sum",
    right="dbias: a mean in place of a sum / dbias is divided by N",
    wrong="dweight or dx is wrong / dbias over the wrong axis",
    seen="a common slip",
)
class LinearDbiasMean(nbase.Linear):
    def dbias(self, dy, dweight):
        return dy.mean(0)


@bug(
    "n4-linear-reshape-for-transpose",
    "linear",
    "the weight (out, in) is reshaped to (in, out) where it should be transposed, in forward and backward alike",
    right="the weight is reshaped in place of transposed / its elements are taken in the wrong order / the weight is "
    "read in the wrong layout / where it is square: the weight is transposed",
    wrong="the bias / dx or dweight alone",
    seen="a common slip",
)
class LinearReshapeForTranspose(nbase.Linear):
    def turned(self):
        out, wide = self.p["weight"].shape
        return self.p["weight"].reshape(wide, out)

    def forward(self, x, training):
        self.x = np.array(x)
        y = self.x @ self.turned()
        return y + self.p["bias"] if "bias" in self.p else y

    def backward(self, dy):
        dy = np.asarray(dy)
        dweight = (self.x.T @ dy).reshape(self.p["weight"].shape)
        return super().backward(dy) | {"dx": dy @ self.turned().T, "dweight": dweight}


@bug(
    "n4-linear-first-x-kept",
    "linear",
    "x is kept for backward at the first forward and never replaced",
    right="backward uses the x of an earlier (the first) forward / a stale cache / dweight is of the first forward",
    wrong="a transposed dweight / gradients that accumulate or overwrite",
    seen="a common slip",
)
class LinearFirstXKept(nbase.Linear):
    first = None

    def forward(self, x, training):
        y = super().forward(x, training)
        if self.first is None:
            self.first = self.x
        return y

    def backward(self, dy):
        self.x = self.first
        return super().backward(dy)


@bug(
    "n4-ce-global-maximum",
    "softmax_cross_entropy",
    "the maximum of the whole batch is subtracted, not that of each row, so rows far below it underflow to log(0)",
    right="the shift is the maximum of all rows / underflow in rows far below the largest logit / a softmax that "
    "does not subtract the row's own maximum",
    wrong="no shift at all with overflow / a wrong axis of the softmax / the gradient",
    seen="manassharma07/crysx_nn#7",
)
class CeGlobalMaximum(nbase.Loss):
    def probabilities(self, x):
        e = np.exp(x - x.max())
        total = e.sum(1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            return e / total, np.log(e / total)


@bug(
    "n4-ce-gradient-of-sum",
    "softmax_cross_entropy",
    "the loss is the mean over the batch, but its gradient is not divided by N",
    right="dx is not divided by the batch size / the gradient of the sum / dx is N times too large",
    wrong="the loss is wrong / the labels / dy ignored",
    seen="a common slip",
)
class CeGradientOfSum(nbase.Loss):
    def backward(self, dy):
        return {"dx": super().backward(dy)["dx"] * self.prob.dtype.type(len(self.prob))}


@bug(
    "n4-ce-dy-ignored",
    "softmax_cross_entropy",
    "backward ignores dy: it returns the gradient for dy = 1",
    right="dy is ignored / the upstream gradient is not multiplied in / dy is taken for 1",
    wrong="the division by N / the labels / a constant factor in the loss",
    seen="a common slip",
)
class CeDyIgnored(nbase.Loss):
    def backward(self, dy):
        return super().backward(1)


@bug(
    "n4-ce-log-of-clipped-probability",
    "softmax_cross_entropy",
    "the loss is -log(p + 1e-7), which is bounded at 16 where the label's probability underflows",
    right="a small number is added to (or clips) the probability in the logarithm / the loss is bounded / log(p + eps)",
    wrong="no shift / a wrong reduction / the gradient",
    seen="a common slip",
)
class CeLogOfClipped(nbase.Loss):
    def probabilities(self, x):
        prob, _ = super().probabilities(x)
        return prob, np.log(prob + x.dtype.type(1e-7))
