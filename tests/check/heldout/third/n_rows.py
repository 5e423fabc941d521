"""Layer and RMS norm over the last axis in NumPy, with the backward by hand."""

from __future__ import annotations

import numpy as np

from heldout.third.nbase import Rms, Rows, wide
from heldout.third.registry import bug

G = "https://github.com/"


@bug(
    "n3-lnl-backward-2d", "layer_norm_last",
    "backward takes x for a matrix: rows = shape[0] and columns = all the rest, with mean and deviation of the first rows only.",
    right="backward assumes rank 2 / dx reduced over all but the first axis / rank taken for granted",
    wrong="forward statistics, weight of another axis, mean term missing",
    seen=G + "flagos-ai/FlagGems/issues/5392",
)
class Backward2d(Rows):
    def run(self, x):
        self.x, self.mean = x, x.mean(1, keepdims=True)
        return super().run(x)

    def grad(self, dy):
        m, c = self.shape[0], self.shape[-1]
        n = dy.size // m
        dy, x = dy.reshape(m, n), self.x.reshape(m, n)
        xhat = (x - self.mean[:m]) * self.rstd[:m]
        d = dy * np.resize(self.w, n)
        dx = self.rstd[:m] * (d - d.mean(1, keepdims=True) - xhat * (d * xhat).mean(1, keepdims=True))
        return {"dx": dx, "dweight": (dy * xhat).sum(0)[:c], "dbias": dy.sum(0)[:c]}


@bug(
    "n3-lnl-mean-twice", "layer_norm_last",
    "dx subtracts the mean of dy·weight twice: a register that should be cleared still holds it.",
    right="mean term of dx twice / doubled",
    wrong="mean term missing, xhat term doubled, sign",
    seen=G + "tenstorrent/tt-metal/issues/53204",
)
class MeanTwice(Rows):
    def dx(self, d):
        mean = d.mean(1, keepdims=True)
        return self.rstd * (d - 2 * mean - self.xhat * (d * self.xhat).mean(1, keepdims=True))


@bug(
    "n3-lnl-block-sum", "layer_norm_last",
    "backward works on blocks of four rows and sums its two reductions over the whole block instead of over each row.",
    right="dx reductions over several rows / over the block / over more than the last axis",
    wrong="count wrong, terms missing, forward statistics",
    seen=G + "flagos-ai/FlagGems/pull/59",
)
class BlockSum(Rows):
    def dx(self, d):
        dx = np.empty_like(d)
        for start in range(0, len(d), 4):
            rows = slice(start, start + 4)
            v, h = d[rows], self.xhat[rows]
            dx[rows] = self.rstd[rows] * (v - v.sum() / v.shape[1] - h * (v * h).sum() / v.shape[1])
        return dx


@bug(
    "n3-lnl-invertible-index", "layer_norm_last",
    "dweight recovers xhat from the output, (y − bias)/weight, with weight and bias indexed by the row instead of the column.",
    right="dweight uses weight and bias of the wrong index / of another axis / xhat wrongly recovered from y",
    wrong="dweight from x or y as such, dx, dbias",
    seen=G + "deepspeedai/DeepSpeed/pull/692",
)
class InvertibleIndex(Rows):
    def run(self, x):
        self.y = super().run(x)
        return self.y

    def grad(self, dy):
        row = np.arange(len(dy)) % self.y.shape[1]
        xhat = (self.y - self.b[row, None]) / self.w[row, None]
        return super().grad(dy) | {"dweight": (dy * xhat).sum(0)}


@bug(
    "n3-lnl-overwritten", "layer_norm_last",
    "Gradients should add up over backwards, but dweight and dbias are stored, not added.",
    right="parameter gradients overwritten instead of accumulated",
    wrong="backward of an earlier forward, gradients doubled",
    seen=G + "karpathy/llm.c/pull/408",
)
class Overwritten(Rows):
    conventions = {"grads": "accumulate"}


@bug(
    "n3-lnl-running-deviation", "layer_norm_last",
    "The one-loop variance squares the deviation from the mean that already includes the value (Welford's update with the new mean in both factors): it is too small.",
    right="variance too small through a wrong Welford update / running mean in the variance",
    wrong="unbiased variance, eps, one-pass cancellation",
    seen=G + "dacracot/Klondike3-Simulator/pull/61",
)
class RunningDeviation(Rows):
    def variance(self, x, d):
        mean, total = np.zeros_like(x[:, 0]), np.zeros_like(x[:, 0])
        for i in range(x.shape[1]):
            mean = mean + (x[:, i] - mean) / (i + 1)
            total = total + (x[:, i] - mean) ** 2
        return (total / x.shape[1])[:, None]


@bug(
    "n3-rms-dw-after-in-place", "rms_norm",
    "dx is written into the buffer of dy, and dweight is computed from that buffer afterwards: from dx instead of dy.",
    right="dweight computed from dx / buffer of dy overwritten before dweight",
    wrong="dx wrong, input changed in place (the caller's dy is not), dweight without 1/rms",
    seen=G + "unslothai/unsloth/pull/4550",
)
class AfterInPlace(Rms):
    def grad(self, dy):
        buffer = dy.copy()
        buffer[:] = self.dx(buffer * self.w)
        return {"dx": buffer, "dweight": (buffer * self.xhat).sum(0)}


@bug(
    "n3-rms-saved-mean-square", "rms_norm",
    "The forward pass saves the mean square where backward expects its reciprocal root: dx and dweight use it as rstd.",
    right="backward uses the mean square in place of 1/rms / wrong saved statistic / wrong power of the deviation",
    wrong="forward wrong, eps missing in backward, term missing",
    seen=G + "flagos-ai/FlagGems/pull/5771",
)
class SavedMeanSquare(Rms):
    def run(self, x):
        y = super().run(x)
        self.rstd = (x**2).mean(1, keepdims=True)
        self.xhat = x * self.rstd
        return y


@bug(
    "n3-rms-dot-without-weight", "rms_norm",
    "The correction of dx takes the mean of dy·x without the weight; the direct term has it.",
    right="weight missing in the second term of dx / in the reduction",
    wrong="weight missing in all of dx, correction missing, weight applied twice",
    seen=G + "karpathy/llm.c/pull/763",
)
class DotWithoutWeight(Rms):
    def grad(self, dy):
        grads = super().grad(dy)
        dot = (dy * self.xhat).mean(1, keepdims=True)
        return grads | {"dx": self.rstd * (dy * self.w - self.xhat * dot)}


@bug(
    "n3-rms-row-correction", "rms_norm",
    "The per-row correction of dx is broadcast along the columns: in a square block of rows each column gets another row's number.",
    right="correction broadcast along the wrong axis / a transposed broadcast in dx",
    wrong="correction missing, weight missing, forward",
    seen=G + "BobMcDear/attorch/issues/17",
)
class RowCorrection(Rms):
    def dx(self, d):
        dx, c = super().dx(d), d.shape[1]
        for start in range(0, len(d) - c + 1, c):
            rows = slice(start, start + c)
            dot = (d[rows] * self.xhat[rows]).mean(1)
            dx[rows] = self.rstd[rows] * (d[rows] - self.xhat[rows] * dot)
        return dx


@bug(
    "n3-rms-dy-memory-order", "rms_norm",
    "backward reads dy in the order of memory: a dy that is not contiguous is taken apart wrongly.",
    right="strides of dy ignored / memory order",
    wrong="any formula, weight, broadcast axis",
    seen=G + "flagos-ai/FlagGems/pull/1084",
)
class MemoryOrder(Rms):
    def rows(self, dy):
        return wide(dy.ravel(order="K")).reshape(-1, dy.shape[-1])


@bug(
    "n3-rms-constant-rms", "rms_norm",
    "dx is dy·weight/rms: the dependence of the rms on x is left out.",
    right="rms taken for a constant / second term of dx missing / statistics detached",
    wrong="weight missing, mean term (there is none)",
    seen=G + "ooples/AiDotNet/pull/695",
)
class ConstantRms(Rms):
    def dx(self, d):
        return d * self.rstd


@bug(
    "n3-rms-eps-built-in", "rms_norm",
    "eps is a constant of 1e-5 in the code; the given one is ignored, and that is not declared.",
    right="eps ignored / built-in 1e-5 / declare eps",
    wrong="eps outside the root, eps missing, eps squared",
    seen=G + "amd/IRON/pull/139 (second half)",
)
class EpsBuiltIn(Rms):
    def run(self, x):
        self.eps = 1e-5
        return super().run(x)
