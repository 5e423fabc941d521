"""Layers that are right, in the styles and with the conventions of public code; no check may fail them."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from heldout.fifth.correct_layers import ChannelsLast
from heldout.fifth.n_modes import ModeGroupNorm, ModeNorm
from heldout.fifth.t_layers import Conv
from heldout.sixth.n_norms import Stepwise
from heldout.sixth.registry import correct
from heldout.sixth.t_batch_norm import OnePass
from heldout.sixth.t_batch_norm import Stepwise as TorchBn
from heldout.third import nbase
from heldout.third.tbase import Mn, Torch, pair


@correct("PyTorch", "batch_norm")
class RightBn(TorchBn):
    pass


@correct("PyTorch, one pass by design", "batch_norm", ("float32",))
class DeclaredOnePass(OnePass):
    conventions = {**OnePass.conventions, "variance": "one_pass"}

    def variance(self, x, mean):
        return super().variance(x, mean).clamp(min=0)


@correct("PyTorch, biased and of the old", "batch_norm")
class DeclaredBn(TorchBn):
    conventions = {**TorchBn.conventions, "momentum": "old", "running_var": "biased"}

    def track(self, mean, var, n):
        self.blend("running_mean", mean)
        self.blend("running_var", var)

    def blend(self, name, value):
        self.s[name] = self.momentum * self.s[name] + (1 - self.momentum) * value


@correct("torch.nn.functional", "group_norm")
class FunctionalGn(Torch):
    def compute(self, x, training):
        return F.group_norm(x, self.o["num_groups"], self.w, self.b, self.eps)


@correct("torch.nn.functional", "layer_norm_last")
class FunctionalLn(Torch):
    def compute(self, x, training):
        return F.layer_norm(x, x.shape[-1:], self.w, self.b, self.eps)


@correct("torch.nn.functional", "rms_norm")
class FunctionalRms(Torch):
    def compute(self, x, training):
        return F.rms_norm(x, x.shape[-1:], self.w, self.eps)


@correct("torch.nn.functional", "conv2d")
class FunctionalConv(Conv):
    def compute(self, x, training):
        return F.conv2d(x, self.w, self.b, self.st, self.pad, self.dil, self.groups)


@correct("torch.nn.functional, padding not counted", "avg_pool2d")
class FunctionalAvg(Torch):
    conventions = {**Torch.conventions, "count_include_pad": "no"}

    def compute(self, x, training):
        k, s, p = (pair(self.o[key]) for key in ("kernel_size", "stride", "padding"))
        return F.avg_pool2d(x, k, s, p, count_include_pad=False)


@correct("torch.nn.functional, sum", "softmax_cross_entropy")
class FunctionalSum(Torch):
    conventions = {**Torch.conventions, "reduction": "sum"}

    def compute(self, x, training):
        return F.cross_entropy(x, self.labels, reduction="sum")


@correct("PyTorch", "mode_norm")
class RightMn(Mn):
    pass


@correct("NumPy", "mode_norm")
class NumpyMn(ModeNorm):
    pass


@correct("NumPy", "mode_group_norm")
class NumpyMgn(ModeGroupNorm):
    pass


@correct("NHWC", "group_norm")
class NhwcGn(ChannelsLast, Stepwise):
    pass


@correct("NumPy two-pass", "layer_norm")
class TwoPassLn(Stepwise):
    def variance(self, v, mean):
        d = v - mean
        return (d * d).sum(2, keepdims=True) / v.shape[2]


@correct("float64 accumulation", "instance_norm")
class Float64In(nbase.Grouped):
    def forward(self, x, training):
        self.outer = x.dtype
        return super().forward(np.asarray(x, np.float64), training).astype(self.outer)

    def backward(self, dy):
        return {k: v.astype(self.outer) for k, v in super().backward(np.asarray(dy, np.float64)).items()}


@correct("NumPy", "max_pool2d")
class RightMax(nbase.MaxPool):
    pass


@correct("torch.nn.functional", "linear")
class FunctionalLinear(Torch):
    def compute(self, x, training):
        return F.linear(x, self.w, self.b)
