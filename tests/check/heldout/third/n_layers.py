"""Convolution, pooling, the affine map and the loss in NumPy, with the backward by hand."""

from __future__ import annotations

import numpy as np

from heldout.third.nbase import AvgPool, Conv, Linear, Loss, MaxPool
from heldout.third.registry import bug

G = "https://github.com/"


@bug(
    "n3-conv-wgrad-swapped", "conv2d",
    "In the weight's gradient stride and dilation have changed places.",
    right="stride and dilation swapped in dweight",
    wrong="stride ignored in dx, dilation ignored in the forward pass, groups",
    seen=G + "iree-org/iree-turbine/pull/1223",
)
class WgradSwapped(Conv):
    def dweight(self, dyg):
        saved = self.st, self.dil
        self.st, self.dil = self.dil, self.st
        try:
            return super().dweight(dyg)
        finally:
            self.st, self.dil = saved


@bug(
    "n3-conv-wgrad-far-end", "conv2d",
    "With groups, where the stride leaves a rest, dweight is cut from the far end of the larger correlation instead of the near end.",
    right="dweight shifted / misaligned where the stride leaves a rest, with groups",
    wrong="dx misaligned, groups mixed, stride ignored",
    seen=G + "tracel-ai/burn/pull/1891",
)
class WgradFarEnd(Conv):
    def dweight(self, dyg):
        if self.groups == 1:
            return super().dweight(dyg)
        saved = self.xp
        reach = [d * (k - 1) + (o - 1) * s + 1 for d, k, o, s in zip(self.dil, self.k, self.out, self.st, strict=True)]
        self.xp = saved[..., saved.shape[3] - reach[0] :, saved.shape[4] - reach[1] :]
        try:
            return super().dweight(dyg)
        finally:
            self.xp = saved


@bug(
    "n3-conv-bias-of-sample", "conv2d",
    "The bias is indexed by the sample instead of by the output channel.",
    right="bias taken of the batch index / bias of the wrong axis",
    wrong="bias missing, bias added several times, weight layout",
    seen=G + "kraiskil/onnx2c/issues/7",
)
class BiasOfSample(Conv):
    def with_bias(self, y):
        if "bias" not in self.p:
            return y
        index = np.arange(len(y)) % len(self.p["bias"])
        return y + self.p["bias"][index][:, None, None, None]


@bug(
    "n3-conv-rows-by-pixel", "conv2d",
    "im2col places a patch in the row of its pixel, i·W_out + j, where i and j step by the stride, instead of in the row of its number.",
    right="patches misplaced with a stride / im2col rows wrong when the stride is not 1",
    wrong="stride ignored in backward, padding, kernel flipped",
    seen=G + "mengxinZHANG/numpy-realizes-CNN/issues/2",
)
class RowsByPixel(Conv):
    def forward(self, x, training):
        y = super().forward(x, training)
        (oh, ow), (sh, sw) = self.out, self.st
        flat = y.reshape(*y.shape[:2], -1)
        table = np.zeros((*y.shape[:2], (oh * sh + 1) * ow + ow * sw + 1), y.dtype)
        table[:] = 0 if "bias" not in self.p else self.p["bias"][None, :, None]
        for i in range(oh):
            for j in range(ow):
                table[:, :, i * sh * ow + j * sw] = flat[:, :, i * ow + j]
        return table[:, :, : oh * ow].reshape(y.shape)


@bug(
    "n3-conv-dilation-gaps", "conv2d",
    "dilation counts the gaps between the taps: a given dilation of 2 puts the taps 3 pixels apart.",
    right="dilation too large by one / taps spaced dilation + 1",
    wrong="dilation ignored, height and width swapped",
    seen=G + "ddbourgin/numpy-ml/issues/27",
)
class DilationGaps(Conv):
    def __init__(self, layer, options):
        super().__init__(layer, options)
        if "dilation" in options:
            self.dil = tuple(d + 1 for d in self.dil)


@bug(
    "n3-conv-overwritten", "conv2d",
    "Gradients should add up over backwards; dbias does, dweight is stored anew each time (beta = 0).",
    right="dweight overwritten instead of accumulated",
    wrong="gradients doubled, all gradients overwritten only if dbias is blamed too, last sample",
    seen=G + "BVLC/caffe/pull/3254",
)
class ConvOverwritten(Conv):
    conventions = {"grads": "accumulate", "dilation": "supported"}
    total = 0

    def backward(self, dy):
        grads = super().backward(dy)
        if "dbias" in grads:
            self.total = self.total + grads["dbias"]
            grads["dbias"] = self.total.copy()
        return grads


@bug(
    "n3-conv-group-offset", "conv2d",
    "Every group reads the input channels of the first group: the offset of the group is missing in the input's index.",
    right="all groups see the first group's input / group offset missing",
    wrong="groups in turn, weight of the first group, groups ignored",
    seen=G + "pytorch/pytorch/pull/18463",
)
class GroupOffset(Conv):
    def forward(self, x, training):
        per = x.shape[1] // self.groups
        return super().forward(np.tile(x[:, :per], (1, self.groups, 1, 1)), training)


@bug(
    "n3-conv-dx-no-dilation", "conv2d",
    "dx is scattered with adjacent taps: backward ignores the dilation.",
    right="dilation ignored in dx / in backward",
    wrong="dilation ignored in the forward pass, stride ignored, kernel flipped",
    seen=G + "mlpack/mlpack/issues/2986",
)
class DxNoDilation(Conv):
    def dx(self, dyg):
        saved, self.dil = self.dil, (1, 1)
        try:
            return super().dx(dyg)
        finally:
            self.dil = saved


@bug(
    "n3-max-early-return", "max_pool2d",
    "backward returns inside its loop: only the first window passes its gradient on.",
    right="only the first window gets a gradient / dx zero elsewhere",
    wrong="overlap assigned, ties, dx zero altogether",
    seen=G + "riccardoandreoni0/CNN-from-scratch/issues/1",
)
class EarlyReturn(MaxPool):
    def backward(self, dy):
        for i in range(self.out[0]):
            for j in range(self.out[1]):
                first = np.zeros_like(dy)
                first[:, :, i, j] = dy[:, :, i, j]
                return super().backward(first)


@bug(
    "n3-max-batch-offset", "max_pool2d",
    "The flat argmax index does not count the sample: all gradients of the batch land in the first sample.",
    right="gradients of all samples in the first / batch offset missing in the index",
    wrong="gradients summed over the batch by intent, ties, overlap",
    seen=G + "tensorflow/tensorflow/issues/2821",
)
class BatchOffset(MaxPool):
    def backward(self, dy):
        dx = super().backward(dy)["dx"]
        flat = np.zeros_like(dx)
        flat[0] = dx.sum(0)
        return {"dx": flat}


@bug(
    "n3-max-kernel-step", "max_pool2d",
    "backward places window (i, j) at (i·kernel, j·kernel) instead of (i·stride, j·stride).",
    right="backward takes the kernel for the stride / windows placed by the kernel size",
    wrong="forward stride, overlap assigned, padding offset",
    seen=G + "devitocodes/joey/pull/5",
)
class KernelStep(MaxPool):
    def backward(self, dy):
        n, c, h, w = self.shape
        kh, kw = self.k
        dxp = np.zeros((n, c, h + 2 * self.pad[0] + kh * self.out[0], w + 2 * self.pad[1] + kw * self.out[1]), self.kind)
        for i, (a, b) in enumerate(self.taps):
            view = dxp[:, :, a : a + kh * (self.out[0] - 1) + 1 : kh, b : b + kw * (self.out[1] - 1) + 1 : kw]
            view += np.where(self.best == i, dy, 0)
        return {"dx": self.crop(dxp)}


@bug(
    "n3-avg-clamp-pad", "avg_pool2d",
    "The divisor clips the window's lower end with the padding of the width instead of that of the height.",
    right="divisor wrong at the lower border / paddings of height and width confused in the count",
    wrong="padding not counted at all, paddings swapped in the windows, kernel square",
    seen=G + "microsoft/onnxruntime/pull/27375",
)
class ClampPad(AvgPool):
    def count(self):
        start = np.arange(self.out[0]) * self.st[0] - self.pad[0]
        end = np.minimum(start + self.k[0], self.shape[2] + self.pad[1])  # pads[1] where pads[2] belongs
        return (np.maximum(end - start, 1) * self.k[1])[:, None]

    def run(self, stack, taps):
        self.taps = taps
        return stack.sum(0) / self.count()

    def backward(self, dy):
        return super().backward(dy * len(self.taps) / self.count())


@bug(
    "n3-avg-backward-no-offset", "avg_pool2d",
    "backward maps a pixel to its windows without adding the padding: dx is that of windows shifted by the padding.",
    right="dx shifted by the padding / padding forgotten in backward",
    wrong="padding not counted in the mean, overlap, divisor",
    seen=G + "pytorch/pytorch/pull/188345",
)
class NoOffset(AvgPool):
    def crop(self, dxp):
        h, w = self.shape[2:]
        return dxp[:, :, :h, :w].astype(self.kind)


@bug(
    "n3-avg-backward-kernel", "avg_pool2d",
    "backward recomputes the kernel size from the input's and the output's sizes instead of using its own.",
    right="wrong window or divisor in dx / kernel recomputed in backward",
    wrong="forward divisor, padding shift alone, overlap assigned",
    seen=G + "mlpack/mlpack/pull/2865",
)
class BackwardKernel(AvgPool):
    def backward(self, dy):
        dxp = self.buffer()
        kh = max(self.shape[2] // self.out[0], 1)
        kw = max(self.shape[3] // self.out[1], 1)
        for i in range(self.out[0]):
            for j in range(self.out[1]):
                top, left = i * self.st[0], j * self.st[1]
                dxp[:, :, top : top + kh, left : left + kw] += dy[:, :, i : i + 1, j : j + 1] / (kh * kw)
        return {"dx": self.crop(dxp)}


@bug(
    "n3-lin-dx-square", "linear",
    "backward decides by the shapes whether to transpose the weight: where it is square it multiplies by the transpose.",
    right="dx with the transposed weight where it is square",
    wrong="forward transposed, dweight transposed, all shapes",
    seen=G + "nntile/nntile/pull/433",
)
class DxSquare(Linear):
    def dx(self, dy):
        weight = self.p["weight"]
        return dy @ weight.T if weight.shape[1] == dy.shape[1] else dy @ weight


@bug(
    "n3-lin-db-from-dw", "linear",
    "dbias sums the rows of dweight instead of dy over the batch.",
    right="dbias computed from dweight / from dy·x",
    wrong="dbias a mean, dbias one number for all, dbias not summed",
    seen=G + "rust0258/Deeplearning.ai-Natural-Language-Processing-Specialization/issues/62",
)
class DbFromDw(Linear):
    def dbias(self, dy, dweight):
        return dweight.sum(1)


@bug(
    "n3-lin-db-unsummed", "linear",
    "dbias is dy itself, of shape (N, out): the sum over the batch, which undoes the broadcast, is missing.",
    right="dbias not summed over the batch / wrong shape of dbias",
    wrong="dbias a mean, dbias summed over all",
    seen=G + "jimfleming/differentiation/issues/1",
)
class DbUnsummed(Linear):
    def dbias(self, dy, dweight):
        return dy.copy()


@bug(
    "n3-sce-first-shift", "softmax_cross_entropy",
    "The softmax subtracts the first logit of the row instead of the largest: exp overflows where another is far above it.",
    right="softmax without the right shift / overflow of exp for large logits",
    wrong="labels, log of a rounded softmax alone, dx divided wrongly",
    seen=G + "ROCm/AMDMIGraphX/pull/1290",
)
class FirstShift(Loss):
    def probabilities(self, x):
        z = x - x[:, :1]
        e = np.exp(z)
        total = e.sum(1, keepdims=True)
        return e / total, z - np.log(total)


@bug(
    "n3-sce-max-from-zero", "softmax_cross_entropy",
    "The search for the row's maximum starts at 0: in a row of very negative logits every exp underflows and log(0) follows.",
    right="maximum starts at 0 / underflow for rows of negative logits / wrong shift",
    wrong="overflow alone, labels, a missing shift for positive logits",
    seen=G + "uTensor/uTensor/pull/176",
)
class MaxFromZero(Loss):
    def probabilities(self, x):
        z = x - np.maximum(x.max(1, keepdims=True), 0)
        e = np.exp(z)
        total = e.sum(1, keepdims=True)
        return e / total, z - np.log(total)


@bug(
    "n3-sce-fancy-index", "softmax_cross_entropy",
    "The 1 is subtracted at [:, labels], in every row, instead of at each row's own label.",
    right="1 subtracted in the label's column of every row / one-hot wrong in dx",
    wrong="dx divided wrongly, softmax axis, sign",
    seen="https://stackoverflow.com/questions/41653482/scaling-of-backpropagation",
)
class FancyIndex(Loss):
    def backward(self, dy):
        d = self.prob.copy()
        d[:, self.p["labels"]] -= 1
        return {"dx": (d * dy / len(d)).astype(self.prob.dtype)}
