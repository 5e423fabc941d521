"""Layer and RMS normalization over the last axis by hand, each wrong in one thing."""

from __future__ import annotations

import numpy as np

from heldout.fourth.registry import bug
from heldout.third import nbase

TILE = 32  # rows


@bug(
    "n4-lnl-dparams-last-tile",
    "layer_norm_last",
    "dweight and dbias are summed over tiles of 32 rows, and each tile's sum replaces the one before it",
    right="dweight and dbias hold the last tile of rows alone / partial sums over rows overwrite each other / rows "
    "are left out of the parameter gradients where there are more than 32 (a limit on the rows)",
    wrong="a sum over the wrong axis / a mean in place of a sum / dx",
    seen="a common slip of tiled kernels",
)
class DparamsLastTile(nbase.Rows):
    def grad(self, dy):
        grads = super().grad(dy)
        for start in range(0, len(dy), TILE):
            rows = slice(start, start + TILE)
            grads["dweight"] = (dy[rows] * self.xhat[rows]).sum(0)
            grads["dbias"] = dy[rows].sum(0)
        return grads


@bug(
    "n4-lnl-invertible-index",
    "layer_norm_last",
    "dweight takes xhat back from y as (y - bias) / weight, with bias and weight of the row's index, not of the "
    "column's",
    right="dweight: xhat is recovered from y with the wrong bias and weight / with those of another element (indexed "
    "by row) / dweight alone uses a wrong xhat, that comes from y",
    wrong="dweight lacks a factor 1/std / a sum over wrong axes / dx / y is used for xhat as it is",
    seen="deepspeedai/DeepSpeed#692",
)
class InvertibleIndex(nbase.Rows):
    def run(self, x):
        self.y = super().run(x)
        return self.y

    def grad(self, dy):
        at = np.arange(len(dy)) % dy.shape[1]
        xhat = (self.y - self.b[at][:, None]) / self.w[at][:, None]
        return super().grad(dy) | {"dweight": (dy * xhat).sum(0)}


@bug(
    "n4-lnl-dx-dot-not-centred",
    "layer_norm_last",
    "the dot product in the variance term of dx is of d and x, not of d and x - mean",
    right="dx: the variance term's sum uses x that is not centred / x in place of x - mean (or of xhat) in the dot "
    "product / the part with mean·sum(d) is missing",
    wrong="the mean term is missing / the variance term is missing / a wrong count",
    seen="a common slip",
)
class DxDotNotCentred(nbase.Rows):
    def run(self, x):
        self.x = x
        return super().run(x)

    def dx(self, d):
        dot = (d * self.x).mean(1, keepdims=True) * self.rstd
        return self.rstd * (d - d.mean(1, keepdims=True) - self.xhat * dot)


@bug(
    "n4-rms-dx-dot-without-weight",
    "rms_norm",
    "the dot product in dx is of dy and xhat, without the weight; the direct term has it",
    right="dx: the weight is missing in the sum / in the second term / in the dot product",
    wrong="the weight is missing in the whole of dx / the second term is missing / a wrong count",
    seen="karpathy/llm.c#763",
)
class DxDotWithoutWeight(nbase.Rms):
    def grad(self, dy):
        dot = (dy * self.xhat).mean(1, keepdims=True)
        return {"dx": self.rstd * (dy * self.w - self.xhat * dot), "dweight": (dy * self.xhat).sum(0)}


@bug(
    "n4-rms-dx-sum-for-mean",
    "rms_norm",
    "the second term of dx has the sum of d·xhat where their mean belongs",
    right="dx: a sum in place of a mean / a missing division by C / the second term is too large by the number of "
    "elements",
    wrong="the second term is missing / the weight is missing",
    seen="a common slip",
)
class DxSumForMean(nbase.Rms):
    def dx(self, d):
        return self.rstd * (d - self.xhat * (d * self.xhat).sum(1, keepdims=True))


@bug(
    "n4-rms-in-place",
    "rms_norm",
    "forward scales the caller's x in place, so that x and the copy kept for backward hold y",
    right="the input is written to / x is changed in place / backward uses y where x belongs / an exception says "
    "that x is read-only",
    wrong="a missing term / a wrong weight / another forward error",
    seen="GeeeekExplorer/nano-vllm#170",
)
class RmsInPlace(nbase.Layer):
    def forward(self, x, training):
        self.shape, self.kind = x.shape, x.dtype
        self.x = nbase.wide(x).reshape(-1, x.shape[-1])
        self.rstd = 1 / np.sqrt((self.x * self.x).mean(1, keepdims=True) + self.x.dtype.type(self.eps))
        out = self.x
        out *= self.rstd
        out *= self.w
        return out.astype(self.kind).reshape(self.shape)

    def backward(self, dy):
        dy = nbase.wide(np.ascontiguousarray(dy)).reshape(self.x.shape)
        xhat, d = self.x * self.rstd, dy * self.w
        dx = self.rstd * (d - xhat * (d * xhat).mean(1, keepdims=True))
        return {"dx": dx.astype(self.kind).reshape(self.shape), "dweight": (dy * xhat).sum(0).astype(self.kind)}
