"""Second held-out set: convolution, pooling, the affine map and the loss in NumPy, by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heldout.second.numpy_pieces import Affine, ColumnAvg, ColumnConv, ColumnMax, CrossEntropy
from heldout.second.registry import bug


@bug(
    "n2-conv-no-stride",
    "conv2d",
    "backward forgets the stride: windows are taken one pixel apart",
    "Kulbear/deep-learning-coursera#34",
)
class ConvNoStride(ColumnConv):
    def backward(self, dy):
        kept, self.s2 = self.s2, (1, 1)
        kh, kw = self.k
        self.columns = np.stack([self.tap(self.padded, a, b) for a in range(kh) for b in range(kw)], axis=2)
        grads = super().backward(dy)
        self.s2 = kept
        return grads


@bug(
    "n2-conv-ragged",
    "conv2d",
    "where the stride leaves a rest, dx is aligned with the far edge instead of the near one",
    "flagos-ai/FlagGems#1576, f-dangel/backpack#30",
)
class ConvRagged(ColumnConv):
    def cropped(self, dpadded):
        rest = [(n + 2 * p - k) % s for n, p, k, s in zip(self.x.shape[2:], self.p2, self.k, self.s2, strict=True)]
        return super().cropped(np.roll(dpadded, rest, (2, 3)))


@bug(
    "n2-conv-crop-height",
    "conv2d",
    "dx is cropped by the padding of the height along both axes",
    "renmengye/np-conv2d#2",
)
class ConvCropHeight(ColumnConv):
    def cropped(self, dpadded):
        ph, (h, w) = self.p2[0], self.x.shape[2:]
        wide = np.pad(dpadded, ((0, 0), (0, 0), (0, 0), (0, ph + w)))
        return wide[:, :, ph : ph + h, ph : ph + w].copy()


@bug("n2-conv-reshape", "conv2d", "the product (O, N, pixels) is reshaped to (N, O, …) where it must be transposed")
class ConvReshape(ColumnConv):
    def out(self, columns):
        y = super().out(columns)
        return np.ascontiguousarray(y.transpose(1, 0, 2, 3)).reshape(y.shape)

    def backward(self, dy):
        n, o, ho, wo = dy.shape
        return super().backward(dy.reshape(o, n, ho, wo).transpose(1, 0, 2, 3))


@bug(
    "n2-conv-last-sample",
    "conv2d",
    "dweight is that of the last sample: each sample overwrites the buffer",
    "LBANN/lbann#1022",
)
class ConvLastSample(ColumnConv):
    def dweight(self, dy):
        return np.einsum("oij,ctij->oct", dy[-1], self.columns[-1])


@bug("n2-conv-batch-mean", "conv2d", "dweight and dbias are divided by the batch size", "heyxhh/nnet-numpy#1")
class ConvBatchMean(ColumnConv):
    def dweight(self, dy):
        return super().dweight(dy) / dy.dtype.type(len(dy))

    def dbias(self, dy):
        return super().dbias(dy) / dy.dtype.type(len(dy))


@bug(
    "n2-max-assigned",
    "max_pool2d",
    "dx is assigned, not added, where windows overlap",
    "FluxML/NNlib.jl#205, 0809zheng/CS231n-assignment2019#19",
)
class MaxAssigned(ColumnMax):
    def backward(self, dy):
        dpadded, (_, kw), (sh, sw) = np.zeros_like(self.padded), self.k, self.s2
        for n, c, i, j in np.ndindex(dy.shape):
            a, b = divmod(self.first[n, c, i, j], kw)
            dpadded[n, c, i * sh + a, j * sw + b] = dy[n, c, i, j]
        return {"dx": self.cropped(dpadded)}


@bug(
    "n2-max-gate",
    "max_pool2d",
    "one gate for each pixel, set by the last window, lets every window's dy through",
    "ahrefs/ocannl#512",
)
class MaxGate(ColumnMax):
    def backward(self, dy):
        gate, kw = np.zeros_like(self.padded), self.k[1]
        for i, j in np.ndindex(dy.shape[2:]):
            for tap in range(self.columns.shape[2]):
                a, b = divmod(tap, kw)
                row, column = i * self.s2[0] + a, j * self.s2[1] + b
                gate[:, :, row, column] = self.first[:, :, i, j] == tap
        spread = np.repeat(dy[:, :, None], self.columns.shape[2], axis=2)
        return {"dx": self.cropped(gate) * self.scattered(spread)}


@bug(
    "n2-max-close", "max_pool2d", "all values within 1e-2 of the maximum get the whole gradient", "mni-ml/framework#22"
)
class MaxClose(ColumnMax):
    def backward(self, dy):
        close = np.abs(self.columns - self.columns.max(2)[:, :, None]) < 1e-2
        return {"dx": self.scattered(close * dy[:, :, None])}


@bug("n2-max-unravel", "max_pool2d", "the flat index in the window is split by the window's height, not its width")
class MaxUnravel(ColumnMax):
    def backward(self, dy):
        dpadded, (kh, kw), (sh, sw) = np.zeros_like(self.padded), self.k, self.s2
        for n, c, i, j in np.ndindex(dy.shape):
            a, b = divmod(self.first[n, c, i, j], kh)
            dpadded[n, c, i * sh + min(a, kh - 1), j * sw + min(b, kw - 1)] += dy[n, c, i, j]
        return {"dx": self.cropped(dpadded)}


@bug("n2-max-offset", "max_pool2d", "dx is written at positions of the padded image: it is shifted by the padding")
class MaxOffset(ColumnMax):
    def cropped(self, dpadded):
        h, w = self.x.shape[2:]
        return dpadded[:, :, :h, :w].copy()


@bug(
    "n2-avg-backward-count",
    "avg_pool2d",
    "y counts the padding, dx divides by the real pixels of the window",
    "CanReader/FastNN#5",
)
class AvgBackwardCount(ColumnAvg):
    def backward(self, dy):
        (ph, pw), (h, w) = self.p2, self.x.shape[2:]
        real = np.zeros_like(self.padded)
        real[:, :, ph : ph + h, pw : pw + w] = 1
        count = np.stack([self.tap(real, a, b) for a in range(self.k[0]) for b in range(self.k[1])], 2).sum(2)
        return super().backward(dy * self.columns.shape[2] / np.maximum(count, 1))


@bug("n2-avg-output-size", "avg_pool2d", "dx divides by the number of output pixels instead of the window's")
class AvgOutputSize(ColumnAvg):
    def backward(self, dy):
        return super().backward(dy * dy.dtype.type(self.columns.shape[2] / (self.ho * self.wo)))


@bug("n2-lin-total", "linear", "dbias sums over all axes: every unit gets the same number")
class LinTotal(Affine):
    def dbias(self, dy):
        return np.full_like(self.b, dy.sum())


@bug("n2-lin-not-zeroed", "linear", "gradients add up over backwards, declared to overwrite")
class LinNotZeroed(Affine):
    conventions: Mapping[str, str] = {"grads": "overwrite"}
    total: dict

    def load(self, params, state):
        super().load(params, state)
        self.total = {}

    def backward(self, dy):
        for name, value in super().backward(dy).items():
            self.total[name] = self.total.get(name, 0) + value if name != "dx" else value
        return dict(self.total)


@bug("n2-lin-batch-mean", "linear", "dweight and dbias are divided by the batch size", "heyxhh/nnet-numpy#1")
class LinBatchMean(Affine):
    def backward(self, dy):
        grads = super().backward(dy)
        return {k: v if k == "dx" else v / v.dtype.type(len(dy)) for k, v in grads.items()}


@bug("n2-loss-numel", "softmax_cross_entropy", "dx divides by batch times classes", "victorlempitsky/Mate#2")
class LossNumel(CrossEntropy):
    def backward(self, dy):
        return {"dx": super().backward(dy)["dx"] / self.log_p.dtype.type(self.log_p.shape[1])}


@bug(
    "n2-loss-axis", "softmax_cross_entropy", "dx takes its softmax over the batch", "deeplearning4j/deeplearning4j#345"
)
class LossAxis(CrossEntropy):
    def forward(self, x, training):
        y = super().forward(x, training)
        e = np.exp(x - x.max(0))
        self.batch = e / e.sum(0)
        return y

    def backward(self, dy):
        return {"dx": ((self.batch - self.target) / len(self.target) * dy).astype(self.log_p.dtype)}


@bug(
    "n2-loss-sign",
    "softmax_cross_entropy",
    "dx has the wrong sign: labels − softmax",
    "deeplearning4j/deeplearning4j#345",
)
class LossSign(CrossEntropy):
    def backward(self, dy):
        return {"dx": -super().backward(dy)["dx"]}


@bug(
    "n2-loss-probabilities",
    "softmax_cross_entropy",
    "dx is the derivative by the probabilities, −label/p",
    "fetchai/ledger#1580",
)
class LossProbabilities(CrossEntropy):
    def backward(self, dy):
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            d = np.where(self.target > 0, -np.exp(-self.log_p), self.log_p.dtype.type(0))
            return {"dx": (d / len(d) * dy).astype(d.dtype)}


@bug(
    "n2-loss-no-batch",
    "softmax_cross_entropy",
    "the loss is a mean, dx is not divided by the batch",
    "tensorflow/swift-apis#42",
)
class LossNoBatch(CrossEntropy):
    def backward(self, dy):
        return {"dx": super().backward(dy)["dx"] * self.log_p.dtype.type(len(self.log_p))}


@bug(
    "n2-loss-divides-twice",
    "softmax_cross_entropy",
    "dx is divided by the batch twice",
    "jxgu1016/MNIST_center_loss_pytorch#9",
)
class LossTwice(CrossEntropy):
    def backward(self, dy):
        return {"dx": super().backward(dy)["dx"] / self.log_p.dtype.type(len(self.log_p))}
