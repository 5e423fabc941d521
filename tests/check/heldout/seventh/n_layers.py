"""Convolution, pooling, the affine map and the loss in NumPy as public code gets them wrong; the backward is by hand."""

from __future__ import annotations

import numpy as np

from heldout.seventh.registry import bug
from heldout.third.nbase import AvgPool, Conv, Linear, Loss, MaxPool

SLIP = "a common slip"


@bug(
    "n7-cv-stride-of-the-height",
    "conv2d",
    "stride[0] is used for both axes.",
    right="the height's stride is used for the width / stride[1] ignored / strides of height and width mixed up",
    wrong="padding, kernel axes, dilation",
    seen="pytorch/pytorch#187760",
)
class StrideOfHeight(Conv):
    def __init__(self, layer, options):
        super().__init__(layer, options)
        self.st = (self.st[0], self.st[0])


@bug(
    "n7-cv-dx-assigned",
    "conv2d",
    "In the loop over the kernel's taps dx is assigned (=), not added, where windows overlap.",
    right="dx assigned in place of added / overlapping windows overwrite / col2im without accumulation / only the last tap remains in dx",
    wrong="kernel flipped, padding, dweight",
    seen="col2im by fancy-index assignment in from-scratch code",
)
class Assigned(Conv):
    def dx(self, dyg):
        weight = self.p["weight"]
        wg = weight.reshape(self.groups, -1, *weight.shape[1:])
        dxp = np.zeros(self.xp.shape, self.kind)
        for a, b in self.taps():
            dxp[self.window(a, b)] = np.einsum("ngoij,goc->ngcij", dyg, wg[..., a, b])
        return self.crop(dxp)


@bug(
    "n7-cv-dweight-axes-swapped",
    "conv2d",
    "dweight's kernel axes are swapped: where the kernel is square, dweight is transposed over height and width.",
    right="dweight: kernel height and width swapped / dweight transposed over the kernel",
    wrong="dweight flipped, input and output channels swapped, averaged",
    seen=SLIP,
)
class AxesSwapped(Conv):
    def dweight(self, dyg):
        dw = super().dweight(dyg)
        return np.ascontiguousarray(np.swapaxes(dw, 2, 3)) if dw.shape[2] == dw.shape[3] else dw


@bug(
    "n7-cv-groups-interleaved",
    "conv2d",
    "With groups the output channel o belongs to group o mod G, not to o // (O / G): the axes of group and channel are reshaped in the wrong "
    "order; the backward fits.",
    right="output channels of the groups interleaved / channel shuffle / wrong order of the groups' output channels",
    wrong="groups ignored, input channels, dilation",
    seen="reshape(N, O/G, G, …) in grouped convolutions",
)
class GroupsInterleaved(Conv):
    def shuffle(self, a, axis):
        order = np.arange(a.shape[axis]).reshape(self.groups, -1).T.ravel()
        return np.take(a, order, axis)

    def unshuffle(self, a, axis):
        order = np.arange(a.shape[axis]).reshape(-1, self.groups).T.ravel()
        return np.take(a, order, axis)

    def with_bias(self, y):
        return super().with_bias(self.shuffle(y, 1))

    def backward(self, dy):
        grads = super().backward(self.unshuffle(np.asarray(dy), 1))
        if "bias" in self.p:
            grads["dbias"] = np.asarray(dy).sum((0, 2, 3)).astype(self.kind)
        return grads


@bug(
    "n7-mp-zero-padding",
    "max_pool2d",
    "The border is padded with zeros, not with −∞; the backward fits.",
    right="zero padding in place of −∞ / the padding's zeros win / padded with zeros",
    wrong="ceil, ties, stride",
    seen="pytorch/pytorch#33382, distdl/distdl#195",
)
class ZeroPadding(MaxPool):
    border = 0.0


@bug(
    "n7-mp-index-by-height",
    "max_pool2d",
    "The backward unravels the argmax with the kernel's height in place of its width: (i // kh, i % kh). Square kernels are right.",
    right="dx: the argmax is unravelled with the wrong side of the kernel / kernel height and width mixed up in dx / gradient at the wrong pixel "
    "for kernels that are not square",
    wrong="ties, overlapping windows overwritten, padding",
    seen=SLIP,
)
class IndexByHeight(MaxPool):
    def backward(self, dy):
        dxp = self.buffer()
        at = np.indices(dy.shape)
        rows = at[2] * self.st[0] + np.minimum(self.best // self.k[0], self.k[0] - 1)
        cols = at[3] * self.st[1] + np.minimum(self.best % self.k[0], self.k[1] - 1)
        np.add.at(dxp, (at[0], at[1], rows, cols), dy)
        return {"dx": self.crop(dxp)}


@bug(
    "n7-ap-height-padding-not-counted",
    "avg_pool2d",
    "A window's divisor leaves the padding out along the height, but counts it along the width; the backward fits.",
    right="padding is not counted along the height / wrong divisor at the upper and lower border / count_include_pad for one axis only",
    wrong="padding not counted at all, divisor of the whole",
    seen="microsoft/onnxruntime#27375",
)
class HeightNotCounted(AvgPool):
    def divisor(self):
        start = np.arange(self.out[0]) * self.st[0] - self.pad[0]
        rows = np.minimum(start + self.k[0], self.shape[2]) - np.maximum(start, 0)
        return (np.maximum(rows, 1) * self.k[1]).astype(self.kind)[:, None]

    def run(self, stack, taps):
        self.taps = taps
        return stack.sum(0) / self.divisor()

    def backward(self, dy):
        dxp = self.buffer()
        for a, b in self.taps:
            dxp[self.window(a, b)] += dy / self.divisor()
        return {"dx": self.crop(dxp)}


@bug(
    "n7-ap-dx-divided-by-stride",
    "avg_pool2d",
    "dx divides by the product of the strides, not by the window's size.",
    right="dx is divided by the stride's product / wrong divisor in dx",
    wrong="dx not divided at all, padding not counted, overlapping windows",
    seen="kernel and stride are the same in most networks",
)
class DividedByStride(AvgPool):
    def backward(self, dy):
        dxp = self.buffer()
        for a, b in self.taps:
            dxp[self.window(a, b)] += dy / (self.st[0] * self.st[1])
        return {"dx": self.crop(dxp)}


@bug(
    "n7-li-dbias-averaged",
    "linear",
    "dbias is the mean over the batch, dweight the sum.",
    right="dbias averaged over the batch / dbias divided by N",
    wrong="dweight averaged too, dbias missing, shape",
    seen=SLIP,
)
class DbiasAveraged(Linear):
    def dbias(self, dy, dweight):
        return dy.mean(0)


@bug(
    "n7-li-dx-averaged-over-outputs",
    "linear",
    "dx takes the mean over the output features of dy·weight, not the sum.",
    right="dx divided by the number of output features / dx averaged over the outputs",
    wrong="dx divided by the batch, weight transposed",
    seen="mean in place of sum in a chain rule over outputs",
)
class MeanOverOutputs(Linear):
    def dx(self, dy):
        return (dy[:, :, None] * self.p["weight"]).mean(1)


@bug(
    "n7-sce-max-of-the-batch",
    "softmax_cross_entropy",
    "The largest logit of the whole batch is subtracted, not each row's: a row far below it sums to 0, and its loss is infinite or NaN.",
    right="the maximum is taken over the batch in place of the row / one maximum for all rows / underflow: no maximum of the row subtracted",
    wrong="no maximum subtracted with overflow, eps in the log",
    seen="manassharma07/crysx_nn#7",
)
class MaxOfBatch(Loss):
    def probabilities(self, x):
        z = x - x.max()
        with np.errstate(divide="ignore", invalid="ignore"):
            logp = z - np.log(np.exp(z).sum(1, keepdims=True))
        return np.exp(logp), logp


@bug(
    "n7-sce-dx-divided-by-classes",
    "softmax_cross_entropy",
    "dx is divided by the number of classes, not by the batch size.",
    right="dx divided by the number of classes / dx divided by the wrong count",
    wrong="dx not divided at all, label not subtracted, mean over all",
    seen="y.shape[1] for y.shape[0]",
)
class ByClasses(Loss):
    def backward(self, dy):
        d = self.prob.copy()
        d[self.rows, self.p["labels"]] -= 1
        return {"dx": (d * dy / d.shape[1]).astype(self.prob.dtype)}
