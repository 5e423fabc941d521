"""Held-out bugs in NumPy, forward and backward by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heldout.numpy_base import Avg, Bn, Conv, Linear, Loss, Max, Mgn, Mn, PerSample, col
from heldout.registry import bug

OVER = {"axis": (0, 2), "keepdims": True}


@bug(
    "n-bn-no-mean-term",
    "batch_norm",
    "mean term of dx dropped",
    "dx = r (d − xhat mean(d xhat)): the gradient through the mean is forgotten",
)
class BnNoMean(Bn):
    def training_dx(self, d):
        return col(self.r) * (d - self.xhat * (d * self.xhat).mean(**OVER))


@bug(
    "n-bn-no-variance-term",
    "batch_norm",
    "variance term of dx dropped",
    "dx = r (d − mean(d)): the gradient through the variance is forgotten",
)
class BnNoVariance(Bn):
    def training_dx(self, d):
        return col(self.r) * (d - d.mean(**OVER))


@bug(
    "n-bn-constants",
    "batch_norm",
    "evaluation's dx in training",
    "dx = r d in training too: the batch statistics are taken for constants",
)
class BnConstants(Bn):
    def training_dx(self, d):
        return col(self.r) * d


@bug("n-bn-bessel-dx", "batch_norm", "n − 1 in dx", "the means in dx divide by n − 1")
class BnBessel(Bn):
    def training_dx(self, d):
        n = max(d.size // d.shape[1] - 1, 1)
        return col(self.r) * (d - d.sum(**OVER) / n - self.xhat * (d * self.xhat).sum(**OVER) / n)


@bug(
    "n-bn-eval-dx",
    "batch_norm",
    "training's dx in evaluation",
    "backward after an evaluation forward subtracts the batch means",
    "pytorch/xla#913, apache/mxnet#9580",
)
class BnEvalDx(Bn):
    def grad(self, dy):
        return {**super().grad(dy), "dx": self.training_dx(dy * col(self.w))}


@bug("n-bn-dx-no-gamma", "batch_norm", "gamma missing in dx", "dx is formed from dy, not from gamma · dy")
class BnNoGamma(Bn):
    def training_dx(self, d):
        return super().training_dx(d / col(self.w))


@bug("n-bn-dgamma-x", "batch_norm", "dgamma from x instead of xhat", "dgamma = sum dy · x")
class BnDgammaX(Bn):
    def dweight(self, dy):
        return (dy * self.x).sum((0, 2))


@bug("n-bn-dgamma-y", "batch_norm", "dgamma from y instead of xhat", "dgamma = sum dy · y, the output was cached")
class BnDgammaY(Bn):
    def dweight(self, dy):
        return (dy * self.scale(self.xhat)).sum((0, 2))


@bug("n-bn-dbias-mean", "batch_norm", "dbias averaged", "dbeta is the mean of dy, not its sum")
class BnDbiasMean(Bn):
    def dbias(self, dy):
        return dy.mean((0, 2))


@bug(
    "n-bn-rstd-power",
    "batch_norm",
    "wrong power of the standard deviation in dx",
    "the variance term of dx has one factor 1/std too many",
)
class BnPower(Bn):
    def training_dx(self, d):
        r = col(self.r)
        return r * (d - d.mean(**OVER)) - r * r * self.xhat * (d * self.xhat).mean(**OVER)


@bug(
    "n-bn-grads-overwrite",
    "batch_norm",
    "parameter gradients overwritten",
    "gradients are said to add up over backwards; each backward overwrites them",
)
class BnOverwrite(Bn):
    conventions: Mapping[str, str] = {"grads": "accumulate", "single_value": "zero"}


@bug("n-bn-dx-accumulates", "batch_norm", "dx accumulates", "dx is added to that of the last backward of its shape")
class BnDxAdds(Bn):
    old = None

    def grad(self, dy):
        grads = super().grad(dy)
        if self.old is not None and self.old.shape == grads["dx"].shape:
            grads["dx"] = grads["dx"] + self.old
        self.old = grads["dx"]
        return grads


@bug(
    "n-bn-twice",
    "batch_norm",
    "running statistics updated twice",
    "backward runs the forward again, as checkpointing does, and updates the running statistics a second time",
    "pytorch/pytorch#96136",
)
class BnTwice(Bn):
    def grad(self, dy):
        if self.t:
            self.run(self.x, True)
        return super().grad(dy)


@bug("n-bn-start-zero", "batch_norm", "running variance starts at zero", "running_var is made with zeros")
class BnStartZero(Bn):
    def load(self, params, state):
        super().load(params, state)
        if not state:
            self.s["running_var"][:] = 0


@bug(
    "n-bn-nan-state",
    "batch_norm",
    "NaN in the running variance for one value a channel",
    "n / (n − 1) is 1 / 0 for one value a channel, and 0 · inf enters running_var",
    "pytorch/pytorch#19250, alike",
)
class BnNan(Bn):
    def update(self, m, v, n):
        if n > 1:
            super().update(m, v, n)
        else:
            self.s["running_var"] = self.s["running_var"] * np.nan


@bug(
    "n-bn-half-sums",
    "batch_norm",
    "sums in float16",
    "float16 input is summed in float16",
    "pytorch/pytorch#66707",
    dtype="float16",
)
class BnHalf(Bn):
    def moments(self, x):
        total = np.zeros(x.shape[1], np.float16)
        for row in x.astype(np.float16).transpose(0, 2, 1).reshape(-1, x.shape[1]):
            total = total + row
        m = (total / np.float16(x.size // x.shape[1])).astype(x.dtype)
        return m, np.square(x - col(m)).mean((0, 2))


@bug(
    "n-bn-single",
    "batch_norm",
    "computed in float32 whatever the dtype",
    "x is cast to float32 at the entrance; float64 comes out with seven digits",
    dtype="float64",
)
class BnSingle(Bn):
    def wide(self, x):
        return x.astype(np.float32)


@bug("n-bn-in-place-x", "batch_norm", "x changed in place", "x −= mean works on the caller's array")
class BnInPlace(Bn):
    def run(self, x, training):
        y = super().run(x, training)
        m = x.mean((0, 2)) if training else self.s["running_mean"].astype(x.dtype)
        if x.flags.writeable:
            x -= col(m)
        return y


@bug("n-bn-in-place-dy", "batch_norm", "dy changed in place", "dy *= gamma works on the caller's array")
class BnInPlaceDy(Bn):
    def grad(self, dy):
        grads = super().grad(dy)
        if dy.flags.writeable:
            dy *= col(self.w)
        return grads


@bug(
    "n-bn-stale",
    "batch_norm",
    "backward uses the cache of an earlier forward",
    "the cache is kept from the first forward, so that a second forward's backward is of the wrong input",
)
class BnStale(Bn):
    kept = None

    def run(self, x, training):
        y = super().run(x, training)
        self.kept = (self.xhat, self.r) if self.kept is None else self.kept
        return y

    def grad(self, dy):
        if self.kept[0].shape == dy.shape:
            self.xhat, self.r = self.kept
        return super().grad(dy)


@bug(
    "n-bn-128",
    "batch_norm",
    "only the first 128 values of a channel counted",
    "the sums run over one block of 128 threads and stop there",
)
class Bn128(Bn):
    def moments(self, x):
        rows = x.transpose(1, 0, 2).reshape(x.shape[1], -1)[:, :128]
        m = rows.mean(1)
        return m, np.square(rows - m[:, None]).mean(1)


@bug("n-bn-64", "batch_norm", "channels beyond 64 not normalised", "a tile of 64 channels is launched, once")
class Bn64(Bn):
    def scale(self, xhat):
        y = super().scale(xhat)
        y[:, 64:] = 0
        return y


@bug(
    "n-bn-welford",
    "batch_norm",
    "wrong merge of the batches' means",
    "the running merge over samples weighs each sample's mean by 1/2 in place of 1/(n + 1)",
)
class BnWelford(Bn):
    def moments(self, x):
        m = x[0].mean(1)
        for row in x[1:]:
            m = (m + row.mean(1)) / 2
        return m, np.square(x - col(m)).mean((0, 2))


@bug("n-in-dgamma-mean", "instance_norm", "dgamma averaged over the batch", "dgamma is the mean over samples")
class InDgamma(PerSample):
    def dweight(self, dy):
        return (dy * self.xhat).sum(2).mean(0)


@bug("n-in-count", "instance_norm", "wrong count in dx", "the means in dx divide by N·P where P was meant")
class InCount(PerSample):
    def dz(self, d):
        n = d.shape[0] * d.shape[2]
        return self.r * (d - d.sum(2, keepdims=True) / n - self.zhat * (d * self.zhat).sum(2, keepdims=True) / n)


@bug(
    "n-in-nhwc",
    "instance_norm",
    "NHWC data read as NCHW",
    "the memory of (N, C, P) is taken for (N, P, C): the statistics mix the channels",
)
class InNhwc(PerSample):
    def cut(self, a):
        return a.reshape(len(a), -1, a.shape[1]).transpose(0, 2, 1)

    def run(self, x, training):
        z = self.cut(x)
        z = z - z.mean(2, keepdims=True)
        self.r = self.root(z)
        self.zhat = z * self.r
        self.xhat = self.zhat.transpose(0, 2, 1).reshape(x.shape)
        return self.xhat * col(self.w) + col(self.b)

    def dz(self, d):
        return super().dz(d).transpose(0, 2, 1)


@bug("n-ln-no-mean-term", "layer_norm", "mean term of dx dropped", "dx lacks − mean(gamma · dy)")
class LnNoMean(PerSample):
    def dz(self, d):
        return self.r * (d - self.zhat * (d * self.zhat).mean(2, keepdims=True))


@bug(
    "n-ln-gamma-after",
    "layer_norm",
    "gamma applied after the reduction in dx",
    "the means are taken of dy, and gamma multiplies at the end; right only for equal gammas",
)
class LnGammaAfter(PerSample):
    def grad(self, dy):
        grads = super().grad(dy)
        return {**grads, "dx": self.dz(self.cut(dy)).reshape(dy.shape) * col(self.w)}


@bug("n-ln-no-eps", "layer_norm", "eps missing", "divides by sqrt(var), without eps")
class LnNoEps(PerSample):
    def root(self, z):
        return 1 / np.sqrt(np.square(z).mean(2, keepdims=True))


@bug(
    "n-gn-dx-all",
    "group_norm",
    "dx reduced over all channels",
    "the means in dx run over all channels of a sample, not over the group's",
)
class GnAll(PerSample):
    def dz(self, d):
        mean, product = d.mean((1, 2), keepdims=True), (d * self.zhat).mean((1, 2), keepdims=True)
        return self.r * (d - mean - self.zhat * product)


@bug(
    "n-gn-no-check",
    "group_norm",
    "indivisible channels accepted",
    "C % G is never checked: the remaining channels go into the last group",
)
class GnNoCheck(PerSample):
    def groups(self, c):
        g = super().groups(c)
        return g if c % g == 0 else 1


@bug("n-gn-no-variance-term", "group_norm", "variance term of dx dropped", "dx lacks xhat mean(d xhat)")
class GnNoVariance(PerSample):
    def dz(self, d):
        return self.r * (d - d.mean(2, keepdims=True))


@bug(
    "n-mn-no-share-gradient",
    "mode_norm",
    "gradient of the statistics with respect to the gates missing",
    "mu_k and sigma_k depend on the gates; that way is left out of the gates' gradient",
)
class MnNoShare(Mn):
    def through_shares(self, dmu, dvar):
        return np.zeros_like(self.g)


@bug(
    "n-mn-no-direct-gradient",
    "mode_norm",
    "gradient of the gates as weights of the output missing",
    "the gates weigh the output; that way is left out of the gates' gradient",
)
class MnNoDirect(Mn):
    def to_log_gates(self, dg, dw):
        return super().to_log_gates(0 * dg, dw)


@bug(
    "n-mn-nk-constant",
    "mode_norm",
    "N_k taken for a constant",
    "w = g / N_k is differentiated as if N_k did not depend on the gates",
)
class MnNkConstant(Mn):
    def through_shares(self, dmu, dvar):
        return np.einsum("kc,nc->nk", dmu, self.m) + np.einsum("kc,nkc->nk", dvar, np.square(self.centred).mean(3))

    def to_log_gates(self, dg, dw):
        return self.g * dg + self.share * dw


@bug(
    "n-mn-diagonal",
    "mode_norm",
    "softmax's backward has the diagonal alone",
    "dz = dg · g (1 − g): the other modes' share of the softmax Jacobian is left out",
)
class MnDiagonal(Mn):
    def to_logits(self, dlog_g):
        return dlog_g * (1 - self.g)


@bug(
    "n-mn-pooled-scale",
    "mode_norm",
    "division by the pixels missing",
    "the gradient of the pooled mean is spread over the pixels without dividing by their number",
)
class MnPixels(Mn):
    def to_input(self, dz, P):
        return super().to_input(dz, 1)


@bug("n-mn-no-variance-term", "mode_norm", "variance term of dx dropped", "dx lacks the way through sigma_k")
class MnNoVariance(Mn):
    def through_statistics(self, dmu, dvar, P):
        return super().through_statistics(dmu, 0 * dvar, P)


@bug("n-mn-no-mean-term", "mode_norm", "mean term of dx dropped", "dx lacks the way through mu_k")
class MnNoMean(Mn):
    def through_statistics(self, dmu, dvar, P):
        return super().through_statistics(0 * dmu, dvar, P)


@bug(
    "n-mgn-no-share-gradient",
    "mode_group_norm",
    "gates not differentiated",
    "the statistics' dependence on the gates is left out: psi gets no gradient",
)
class MgnNoShare(Mgn):
    def to_log_gates(self, dw):
        return np.zeros_like(dw)


@bug("n-mgn-no-k", "mode_group_norm", "1/K missing in dx", "the gradient of each mode's copy is not divided by K")
class MgnNoK(Mgn):
    def spread(self, d, K):
        return d


@bug("n-conv-col2im", "conv2d", "overlapping windows overwrite dx", "col2im assigns where it should add")
class ConvAssign(Conv):
    def scatter(self, dv, v, dy):
        super().scatter(np.zeros_like(dv), v, dy)
        dv[...] = np.einsum("no,ocab->ncab", dy, self.w)


@bug("n-conv-crop", "conv2d", "dx not cropped by the padding", "dx is cut from the padded gradient's corner")
class ConvCrop(Conv):
    def crop(self, dpadded):
        h, w = self.x.shape[2:]
        return dpadded[:, :, :h, :w].copy()


@bug("n-conv-dx-flipped", "conv2d", "kernel flipped in dx", "dx scatters through the kernel turned by 180 degrees")
class ConvDxFlip(Conv):
    def scatter(self, dv, v, dy):
        super().scatter(dv, v, dy)
        dv += np.einsum("no,ocab->ncab", dy, self.w[:, :, ::-1, ::-1] - self.w)


@bug("n-conv-dw-mean", "conv2d", "dweight averaged over the batch", "dweight is divided by N")
class ConvDwMean(Conv):
    def backward(self, dy):
        grads = super().backward(dy)
        return {**grads, "dweight": grads["dweight"] / dy.dtype.type(len(dy))}


@bug(
    "n-conv-db-batch",
    "conv2d",
    "dbias summed over one axis too few",
    "dbias adds up the batch, and takes one pixel of each image",
)
class ConvDb(Conv):
    def backward(self, dy):
        grads = super().backward(dy)
        return {**grads, "dbias": dy[:, :, 0, 0].sum(0)} if self.b is not None else grads


@bug(
    "n-max-last",
    "max_pool2d",
    "the last of equal maxima gets the gradient",
    "the comparison is >=, so that the last of equal maxima wins",
)
class MaxLast(Max):
    def scatter(self, dv, v, dy):
        flat = v.reshape(*v.shape[:2], -1)
        last = flat.shape[2] - 1 - flat[:, :, ::-1].argmax(2)
        a, b = np.unravel_index(last, v.shape[2:])
        n, c = np.indices(last.shape)
        dv[n, c, a, b] += dy


@bug("n-max-all", "max_pool2d", "all equal maxima get the whole gradient", "dx += dy · (window == maximum)")
class MaxAll(Max):
    def scatter(self, dv, v, dy):
        dv += dy[:, :, None, None] * (v == v.max((2, 3), keepdims=True))


@bug(
    "n-max-overwrite",
    "max_pool2d",
    "overlapping windows overwrite dx",
    "dx[argmax] = dy where two windows may share a maximum",
)
class MaxOverwrite(Max):
    def scatter(self, dv, v, dy):
        first = v.reshape(*v.shape[:2], -1).argmax(2)
        a, b = np.unravel_index(first, v.shape[2:])
        n, c = np.indices(first.shape)
        dv[n, c, a, b] = dy


@bug(
    "n-max-start-zero",
    "max_pool2d",
    "maximum starts at zero",
    "the running maximum is initialised with 0, so that no window is below it",
)
class MaxZero(Max):
    def window(self, v):
        return np.maximum(v.max((2, 3)), 0)


@bug("n-max-size", "max_pool2d", "stride of height and width swapped", "sh and sw are exchanged")
class MaxStride(Max):
    def __init__(self, layer, options):
        stride = options["stride"]
        options = {**options, "stride": stride if isinstance(stride, int) else list(stride)[::-1]}
        super().__init__(layer, options)


@bug("n-avg-no-division", "avg_pool2d", "dx not divided by the window's size", "dy is copied into the window whole")
class AvgNoDivision(Avg):
    def scatter(self, dv, v, dy):
        dv += dy[:, :, None, None]


@bug("n-avg-overwrite", "avg_pool2d", "overlapping windows overwrite dx", "the window's share is assigned, not added")
class AvgOverwrite(Avg):
    def scatter(self, dv, v, dy):
        dv[...] = dy[:, :, None, None] / (self.kh * self.kw)


@bug("n-avg-square", "avg_pool2d", "kernel taken for square", "divides by kh² where the kernel is kh × kw")
class AvgSquare(Avg):
    def window(self, v):
        return v.sum((2, 3)) / self.kh**2


@bug("n-lin-db-mean", "linear", "dbias averaged", "dbias is the mean over the batch")
class LinDbMean(Linear):
    def backward(self, dy):
        grads = super().backward(dy)
        return grads if self.b is None else {**grads, "dbias": dy.mean(0)}


@bug(
    "n-lin-updated",
    "linear",
    "weight updated before dx",
    "backward takes an SGD step on the weight and then computes dx with the new weight",
)
class LinUpdated(Linear):
    def backward(self, dy):
        grads = super().backward(dy)
        self.p["weight"] = self.w - 0.1 * grads["dweight"]
        return {**grads, "dx": dy @ self.w}


@bug("n-lin-transposed-dw", "linear", "dweight transposed", "dweight = x.T dy, reshaped to the weight's shape")
class LinTransposed(Linear):
    def backward(self, dy):
        grads = super().backward(dy)
        return {**grads, "dweight": (self.x.T @ dy).reshape(self.w.shape)}


@bug("n-loss-no-n", "softmax_cross_entropy", "gradient not divided by N", "the loss is a mean, its gradient a sum's")
class LossNoN(Loss):
    def backward(self, dy):
        grads = super().backward(dy)
        return {"dx": grads["dx"] * grads["dx"].dtype.type(len(grads["dx"]))}


@bug(
    "n-loss-no-dy",
    "softmax_cross_entropy",
    "incoming gradient ignored",
    "backward returns (p − t) / N whatever gradient comes in",
)
class LossNoDy(Loss):
    def backward(self, dy):
        return super().backward(np.ones_like(dy))


@bug(
    "n-loss-overflow",
    "softmax_cross_entropy",
    "exp overflows",
    "exp of the logits themselves, without the maximum taken off",
    "tensorflow/tensorflow#10142",
)
class LossOverflow(Loss):
    def forward(self, x, training):
        with np.errstate(all="ignore"):
            e = np.exp(x)
            self.log_p = np.log(e / e.sum(1, keepdims=True))
        self.rows = np.arange(len(x)), self.p["labels"]
        return np.asarray(-self.log_p[self.rows].mean(), x.dtype)


@bug(
    "n-loss-classes",
    "softmax_cross_entropy",
    "divided by the number of classes",
    "the mean runs over every element: the sum is divided by N · K",
)
class LossClasses(Loss):
    def forward(self, x, training):
        return super().forward(x, training) / x.dtype.type(x.shape[1])

    def backward(self, dy):
        dx = super().backward(dy)["dx"]
        return {"dx": dx / dx.dtype.type(dx.shape[1])}
