"""Layer norm over the last axis, RMS norm, linear and the loss in NumPy, each wrong in one thing; the backward is by hand."""

from __future__ import annotations

import numpy as np

from heldout.fifth.registry import bug
from heldout.third.nbase import Linear, Loss, Rms, Rows

G = "https://github.com/"


@bug(
    "n5-lnl-padding-counts-in-var",
    "layer_norm_last",
    "The row is padded with zeros to a power of two; the padding, less the mean, is −mean and its squares are added to the variance, which is divided by the true length.",
    right="padded positions add mean² to the variance / the variance is not masked beyond the row's end / zero padding to a power of two counts in the variance",
    wrong="padding counted in the length (divided by the padded length), one-pass variance, unbiased variance",
    seen=G + "triton-lang/triton/issues/9838",
)
class PaddingInVar(Rows):
    def variance(self, x, d):
        n = x.shape[1]
        block = 1 << (n - 1).bit_length()
        padded = np.zeros((len(x), block), x.dtype)
        padded[:, :n] = x
        centred = padded - (x - d)[:, :1]
        return (centred**2).sum(1, keepdims=True) / n


@bug(
    "n5-lnl-dweight-tail-rows",
    "layer_norm_last",
    "dweight is summed in blocks of four rows, and the rows that do not fill a block are left out.",
    right="the last rows (remainder of a block of 4) are missing in dweight / tail of the reduction dropped / number of rows rounded down to a multiple of 4",
    wrong="dweight averaged, the last sample dropped in every case, dbias wrong too",
    seen="a common slip of kernels that reduce in blocks",
)
class DweightTailRows(Rows):
    def grad(self, dy):
        grads = super().grad(dy)
        blocks = len(dy) // 4
        grads["dweight"] = (dy * self.xhat)[: blocks * 4].sum(0)
        return grads


@bug(
    "n5-lnl-backward-2d-view",
    "layer_norm_last",
    "The backward views x as (first axis, the rest): its means run over all axes but the batch, while the forward normalises the last axis.",
    right="dx's means run over all axes but the first / the backward takes the array for two-dimensional / sequence axis in the backward's reduction",
    wrong="the forward normalises over more axes, means over the batch, a term forgotten",
    seen=G + "flagos-ai/FlagGems/issues/5392",
)
class Backward2dView(Rows):
    def dx(self, d):
        shape = self.shape[0], -1
        v, h = d.reshape(shape), self.xhat.reshape(shape)
        inner = v - v.mean(1, keepdims=True) - h * (v * h).mean(1, keepdims=True)
        return self.rstd * inner.reshape(d.shape)


@bug(
    "n5-lnl-dy-scaled-in-place",
    "layer_norm_last",
    "dy is multiplied by the weight in place before the parameters' gradients are computed, so dweight and dbias carry an extra factor weight.",
    right="dweight and dbias are multiplied by the weight / parameters' gradients are taken of dy · weight / dy changed in place",
    wrong="dweight alone wrong, dx wrong",
    seen="a common slip",
)
class DyInPlace(Rows):
    def rows(self, dy):
        return super().rows(dy).copy()

    def grad(self, dy):
        dy *= self.w
        return {"dx": self.dx(dy), "dweight": (dy * self.xhat).sum(0), "dbias": dy.sum(0)}


@bug(
    "n5-lnl-mean-of-first-row",
    "layer_norm_last",
    "In dx, the mean of dy·weight of the first row is subtracted from every row (a [:1] that broadcasts).",
    right="the mean term of dx is of the first row for all rows / broadcast of row 0's mean / mean term not per row",
    wrong="mean over the batch, a term forgotten, sign wrong",
    seen="a common slip",
)
class MeanOfFirstRow(Rows):
    def dx(self, d):
        mean = d.mean(1, keepdims=True)[:1]
        return self.rstd * (d - mean - self.xhat * (d * self.xhat).mean(1, keepdims=True))


@bug(
    "n5-rms-weight-twice-in-second-term",
    "rms_norm",
    "In dx's second term the weight stands twice: inside the sum and once more outside.",
    right="the second term (that of the mean square) of dx is multiplied by the weight once too often / weight · x̂ · mean(dy·weight·x̂)",
    wrong="weight missing, weight twice in the direct term, weight twice in the forward",
    seen=G + "NVIDIA/Megatron-LM/pull/6859",
)
class WeightTwice(Rms):
    def dx(self, d):
        return self.rstd * (d - self.w * self.xhat * (d * self.xhat).mean(1, keepdims=True))


@bug(
    "n5-rms-sum-without-weight",
    "rms_norm",
    "The sum in dx's second term is of dy·x̂ without the weight.",
    right="the second term of dx lacks the weight / weight forgotten in the mean of dy·x̂",
    wrong="weight missing in all of dx, weight outside the bracket",
    seen=G + "karpathy/llm.c/pull/763",
)
class SumWithoutWeight(Rms):
    def grad(self, dy):
        dx = self.rstd * (dy * self.w - self.xhat * (dy * self.xhat).mean(1, keepdims=True))
        return {"dx": dx, "dweight": (dy * self.xhat).sum(0)}


@bug(
    "n5-rms-dweight-from-overwritten-dy",
    "rms_norm",
    "dx is written into dy's buffer, and dweight is computed afterwards from that buffer: sum(dx · x̂).",
    right="dweight is computed from dx instead of dy / dy is overwritten by dx before dweight",
    wrong="dweight of x in place of x̂, dweight averaged",
    seen=G + "unslothai/unsloth/pull/4550",
)
class OverwrittenDy(Rms):
    def grad(self, dy):
        dy = dy.copy()
        dy[...] = self.dx(dy * self.w)
        return {"dx": dy, "dweight": (dy * self.xhat).sum(0)}


@bug(
    "n5-rms-second-term-rstd-power",
    "rms_norm",
    "dx's second term has rstd² where rstd³ belongs: x · rstd² · mean(dy·weight·x).",
    right="a power of rstd is missing in dx's second term / rstd² in place of rstd³ / second term lacks one factor rstd",
    wrong="the second term forgotten, the division by n forgotten, the weight missing",
    seen="a common slip",
)
class RstdPower(Rms):
    def dx(self, d):
        return self.rstd * d - self.d * self.rstd**2 * (d * self.d).mean(1, keepdims=True)


@bug(
    "n5-rms-two-unbiased-and-dweight-mean",
    "rms_norm",
    "TWO: dweight is averaged over the rows instead of summed, and the mean square is divided by n − 1.",
    right="both: mean square divided by n − 1 (unbiased), and dweight averaged over the rows; one of them alone is half right",
    wrong="anything that is neither of the two",
    seen="a common slip, twice",
)
class TwoRms(Rms):
    def variance(self, x, d):
        return (d**2).sum(1, keepdims=True) / max(x.shape[1] - 1, 1)

    def dx(self, d):
        n = d.shape[1]
        return self.rstd * (d - self.xhat * (d * self.xhat).sum(1, keepdims=True) / max(n - 1, 1))

    def grad(self, dy):
        return super().grad(dy) | {"dweight": (dy * self.xhat).mean(0)}


@bug(
    "n5-lin-outer-of-means",
    "linear",
    "dweight is the outer product of the summed dy and the batch mean of x, instead of the sum of the samples' outer products.",
    right="dweight is an outer product of batch sums (means) / sum of dy times mean of x / x averaged over the batch before the product",
    wrong="dweight averaged over the batch, dweight transposed",
    seen="a common slip",
)
class OuterOfMeans(Linear):
    def backward(self, dy):
        grads = super().backward(dy)
        grads["dweight"] = np.outer(np.asarray(dy).sum(0), self.x.mean(0)).astype(self.x.dtype)
        return grads


@bug(
    "n5-lin-dbias-total-sum",
    "linear",
    "dbias is one number, the sum of dy over batch and features, broadcast to every feature.",
    right="dbias is summed over the features too / the total sum for every entry / sum without an axis",
    wrong="dbias averaged, dbias not summed over the batch",
    seen=G + "rasbt/stat453-deep-learning-ss21/issues/5",
)
class DbiasTotal(Linear):
    def dbias(self, dy, dweight):
        return np.full(dy.shape[1], dy.sum(), dy.dtype)


@bug(
    "n5-lin-dbias-not-accumulated",
    "linear",
    "Gradients accumulate over backwards, but dbias is overwritten by each backward.",
    right="dbias is overwritten where it should accumulate / dbias = in place of +=",
    wrong="dweight overwritten, all gradients overwritten, dbias doubled",
    seen="a common slip",
)
class DbiasOverwritten(Linear):
    conventions = {"grads": "accumulate"}
    dw = 0

    def backward(self, dy):
        grads = super().backward(dy)
        self.dw = self.dw + grads["dweight"]
        return grads | {"dweight": self.dw.copy()}


@bug(
    "n5-lin-dx-accumulates",
    "linear",
    "dx is added to a buffer that is not cleared between backwards.",
    right="dx accumulates over the backwards / the buffer of dx is not cleared / += in dx",
    wrong="parameters' gradients accumulate, dx doubled in every case",
    seen="a common slip",
)
class DxAccumulates(Linear):
    kept = None

    def dx(self, dy):
        new = super().dx(dy)
        self.kept = new if self.kept is None or self.kept.shape != new.shape else self.kept + new
        return self.kept.copy()


@bug(
    "n5-lin-keeps-first-input",
    "linear",
    "The input is kept for the backward at the first forward only (`if self.kept is None`), so dweight of a later forward uses the first input.",
    right="dweight uses the input of the first forward / an earlier forward's x / input cached once",
    wrong="gradients accumulate, dy of an earlier call",
    seen="a common slip",
)
class KeepsFirstInput(Linear):
    kept = None

    def forward(self, x, training):
        y = super().forward(x, training)
        if self.kept is None or self.kept.shape != self.x.shape:
            self.kept = self.x
        self.x = self.kept
        return y


@bug(
    "n5-lin-reduction-tail-dropped",
    "linear",
    "The dot products are tiled by four and the in_features that do not fill a tile are left out of y.",
    right="the last in_features (remainder of 4) are missing in y / tail of the reduction dropped / in_features rounded down to a multiple of 4",
    wrong="the last input feature is dropped in every case, bias missing",
    seen="a common slip of tiled matrix products",
)
class ReductionTail(Linear):
    def forward(self, x, training):
        super().forward(x, training)
        k = self.x.shape[1] // 4 * 4
        y = self.x[:, :k] @ self.p["weight"][:, :k].T
        return y + self.p["bias"] if "bias" in self.p else y


@bug(
    "n5-ce-gradient-over-n-twice",
    "softmax_cross_entropy",
    "The gradient is divided by the batch size twice: in the loss and again in the softmax.",
    right="dx is divided by the batch size twice / 1/N² / an extra 1/N in dx",
    wrong="the loss is wrong, dx not divided at all, divided by classes",
    seen=G + "tensorflow/swift-apis/pull/42",
)
class OverNTwice(Loss):
    def backward(self, dy):
        return {"dx": super().backward(dy)["dx"] / len(self.prob)}


@bug(
    "n5-ce-labels-from-one",
    "softmax_cross_entropy",
    "Labels are taken to count from 1: the column label − 1 is read, and label 0 reads the last class.",
    right="labels off by one / label − 1 is used / classes counted from 1",
    wrong="labels ignored, argmax in place of the label, classes reversed",
    seen="a common slip",
)
class LabelsFromOne(Loss):
    def load(self, params, state):
        super().load(params, state)
        self.p["labels"] = self.p["labels"] - 1


@bug(
    "n5-ce-diagonal-jacobian",
    "softmax_cross_entropy",
    "The softmax's derivative is taken as p(1 − p) of each class by itself (its Jacobian's diagonal): dx is p − 1 at the label and 0 elsewhere.",
    right="only the diagonal of the softmax Jacobian is used / the gradient of the other classes is missing (zero) / dx nonzero at the label only",
    wrong="the one-hot subtraction forgotten, wrong sign, not divided by N",
    seen=G + "eriklindernoren/ML-From-Scratch/issues/71",
)
class DiagonalJacobian(Loss):
    def backward(self, dy):
        p, labels = self.prob, self.p["labels"]
        dprob = np.zeros_like(p)
        dprob[self.rows, labels] = -1 / np.maximum(p[self.rows, labels], np.finfo(p.dtype).tiny)
        return {"dx": (dprob * p * (1 - p) * dy / len(p)).astype(p.dtype)}


@bug(
    "n5-ce-clipped-probability",
    "softmax_cross_entropy",
    "The probabilities are clipped to [1e-7, 1 − 1e-7] before the logarithm, as Keras does with probabilities.",
    right="probabilities are clipped (1e-7) before the log / the loss is bounded by −log(1e-7) / log(p + tiny) or a floor of p",
    wrong="softmax without the shift, overflow, label smoothing",
    seen="Keras's categorical_crossentropy of probabilities, ported",
)
class ClippedProbability(Loss):
    def probabilities(self, x):
        p, _ = super().probabilities(x)
        return p, np.log(np.clip(p, 1e-7, 1 - 1e-7))


@bug(
    "n5-ce-onehot-subtracted-per-batch",
    "softmax_cross_entropy",
    "1 is subtracted from the label's column in every row (p[:, labels] −= 1), not from each row's own label.",
    right="the one-hot is subtracted for all rows / p[:, labels] in place of p[rows, labels] / labels of other samples are subtracted too",
    wrong="one-hot forgotten, labels off by one, not divided by N",
    seen="a common slip of fancy indexing",
)
class OnehotEveryRow(Loss):
    def backward(self, dy):
        d = self.prob.copy()
        d[:, self.p["labels"]] -= 1
        return {"dx": (d * dy / len(d)).astype(self.prob.dtype)}


@bug(
    "n5-ce-mean-after-log",
    "softmax_cross_entropy",
    "The loss is −log of the mean of the labels' probabilities, instead of the mean of −log of each.",
    right="the mean is taken before the logarithm / log of the mean probability / −log(mean p)",
    wrong="sum instead of mean, arithmetic slip of N, clipped probabilities",
    seen="a common slip",
)
class MeanBeforeLog(Loss):
    def forward(self, x, training):
        super().forward(x, training)
        self.chosen = self.prob[self.rows, self.p["labels"]]
        with np.errstate(divide="ignore"):
            return np.asarray(-np.log(self.chosen.mean()), x.dtype)

    def backward(self, dy):
        with np.errstate(divide="ignore", invalid="ignore"):
            share = self.chosen / self.chosen.sum()
        d = self.prob.copy()
        d[self.rows, self.p["labels"]] -= 1
        return {"dx": (d * share[:, None] * dy).astype(self.prob.dtype)}
