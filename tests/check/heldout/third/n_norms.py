"""Batch, instance, layer and group norm in NumPy, with the backward by hand."""

from __future__ import annotations

import numpy as np

from heldout.third.nbase import Bn, Grouped, col, wide
from heldout.third.registry import bug

G = "https://github.com/"


@bug(
    "n3-bn-caffe-sums", "batch_norm",
    "The running statistics are sums with a scale factor, blob = (1 − λ) blob + batch, and are read without dividing by the factor.",
    right="batch's weight missing in the update / running statistics not divided by the scale factor / update weights do not sum to 1",
    wrong="momentum swapped, biased variance, updated twice",
    seen=G + "BVLC/caffe/issues/4885",
)
class CaffeSums(Bn):
    scale = 1.0

    def update(self, mean, var):
        keep = 1 - self.momentum
        self.scale = keep * self.scale + 1
        for name, value in (("running_mean", mean), ("running_var", var)):
            self.s[name] = (keep * self.s[name] + value).astype(self.s[name].dtype)


@bug(
    "n3-bn-eval-reversed-axes", "batch_norm",
    "Evaluation normalises by ((x.T − mean) / std).T: the transpose reverses every axis, so that the statistics meet the batch axis; it raises unless N = C.",
    right="statistics along the wrong axis in evaluation / the exception of the broadcast in evaluation named",
    wrong="batch statistics in evaluation, running statistics wrong, momentum",
    seen=G + "qdrant/fastembed/pull/682",
)
class ReversedAxes(Bn):
    def normalize(self, x, mean, rstd):
        if self.t:
            return super().normalize(x, mean, rstd)
        image = x.reshape(self.shape)
        return ((image.T - mean) * rstd).T.reshape(x.shape)


@bug(
    "n3-bn-eval-asserts", "batch_norm",
    "backward refuses evaluation: an assertion demands the training mode.",
    right="no backward in evaluation / the assertion in backward after evaluation named / declare backward='training'",
    wrong="training's formula in evaluation, a wrong value anywhere",
    seen=G + "torch/torch7/issues/1169",
)
class EvalAsserts(Bn):
    def grad(self, dy):
        assert self.t, "should be in training mode when this.train is true"
        return super().grad(dy)


@bug(
    "n3-bn-eval-dgamma-batch", "batch_norm",
    "In evaluation's backward dweight takes xhat of the batch's own statistics, recomputed, while y and dx use the running ones.",
    right="dweight of evaluation uses batch statistics",
    wrong="dx of training in evaluation, evaluation's y, dweight wrong in training",
    seen=G + "apache/mxnet/issues/13399",
)
class EvalDgamma(Bn):
    def run(self, x, training):
        self.x = x
        return super().run(x, training)

    def grad(self, dy):
        grads = super().grad(dy)
        mean = self.x.mean((0, 2))
        var = ((self.x - col(mean)) ** 2).mean((0, 2))
        xhat = (self.x - col(mean)) / np.sqrt(col(var) + self.eps)
        return {**grads, "dweight": (dy * xhat).sum((0, 2))}


@bug(
    "n3-bn-mean-undivided", "batch_norm",
    "The term of dx through the mean is the sum of dy·weight, not divided by the number of values.",
    right="mean term of dx not divided by the count / mean term too large by n",
    wrong="mean term missing, wrong sign, variance term",
    seen=G + "mlpack/mlpack/pull/1327",
)
class MeanUndivided(Bn):
    def training_dx(self, d):
        return col(self.rstd) * (d - col(d.sum((0, 2))) - self.xhat * col((d * self.xhat).mean((0, 2))))


@bug(
    "n3-in-half-sum", "instance_norm", dtype="float16",
    cause="The squared deviations are summed in float16, which overflows at 65504: the variance is inf and y is the bias.",
    right="sum of squares in float16 / overflow in half precision",
    wrong="eps, mean in float16 alone, unbiased variance",
    seen=G + "openvinotoolkit/openvino/pull/35976",
)
class InHalfSum(Grouped):
    def variance(self, v, mean):
        squares = ((v - mean) ** 2).astype(np.float16)
        return wide(squares.sum(2, keepdims=True, dtype=np.float16)) / v.shape[2]


@bug(
    "n3-in-backward-batch", "instance_norm",
    "The forward pass normalises each instance, the backward is that of batch norm: its two means run over the batch too.",
    right="dx reduced over the batch too / batch norm's backward",
    wrong="forward statistics over the batch, count, statistics detached",
    seen=G + "mlpack/mlpack/pull/2900",
)
class InBackwardBatch(Grouped):
    def dx(self, d):
        rstd = self.rstd.reshape(*d.shape[:2], 1)
        return rstd * (d - col(d.mean((0, 2))) - self.xhat * col((d * self.xhat).mean((0, 2))))


@bug(
    "n3-ln-swapped-gradients", "layer_norm",
    "The gradients of weight and bias are returned in each other's place.",
    right="dweight and dbias swapped",
    wrong="weight and bias swapped in the forward pass, dweight from dy alone as the sole cause",
    seen=G + "Oneflow-Inc/oneflow/pull/6149",
)
class LnSwapped(Grouped):
    def grad(self, dy):
        grads = super().grad(dy)
        return {"dx": grads["dx"], "dweight": grads["dbias"], "dbias": grads["dweight"]}


@bug(
    "n3-ln-one-pass", "layer_norm",
    "The variance is E[x²] − E[x]² in one pass: it cancels where the mean is large beside the deviation.",
    right="one-pass variance / cancellation at a large mean",
    wrong="eps, unbiased variance, float16",
    seen=G + "tracel-ai/burn/issues/5607",
)
class LnOnePass(Grouped):
    def variance(self, v, mean):
        return (v**2).mean(2, keepdims=True) - mean**2


@bug(
    "n3-gn-extra-axes", "group_norm",
    "weight and bias are given three new axes in front, which broadcasting hands on to y: its shape is (1, 1, 1, N, C, H, W).",
    right="wrong shape of y / extra axes",
    wrong="any wrong value, layout, groups",
    seen=G + "haofeixu/cs231n/pull/3",
)
class GnExtraAxes(Grouped):
    def forward(self, x, training):
        return super().forward(x, training)[np.newaxis, np.newaxis, np.newaxis]


@bug(
    "n3-gn-backward-width", "group_norm",
    "backward takes the last axis' length for the pixels of a channel before it flattens: for images the buffer is too small and the final reshape raises.",
    right="backward fails for images / the exception in the reshape of dx named / rank taken for granted in backward",
    wrong="a wrong formula of dx, statistics",
    seen=G + "linkedin/Liger-Kernel/pull/1376",
)
class GnBackwardWidth(Grouped):
    def backward(self, dy):
        hidden = dy.shape[-1] if dy.ndim > 2 else 1
        grads = self.grad(wide(dy.reshape(*dy.shape[:2], -1)))
        buffer = np.empty(dy.shape[0] * dy.shape[1] * hidden, self.kind)
        buffer[:] = grads["dx"].astype(self.kind).ravel()[: buffer.size]
        return {k: np.asarray(v).astype(self.kind) for k, v in grads.items()} | {"dx": buffer.reshape(dy.shape)}
