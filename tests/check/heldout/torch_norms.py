"""Held-out bugs: batch, instance, layer and group norm in PyTorch, gradients by autograd."""

from __future__ import annotations

from heldout.registry import bug
from heldout.torch_base import Torch, col, torch


@bug(
    "t-bn-unbiased",
    "batch_norm",
    "unbiased variance normalises",
    "x.var() divides by n − 1, and that variance normalises x",
    "pytorch/pytorch#19902",
)
class BnUnbiased(Torch):
    def compute(self, x, training):
        if not training:
            m, v = self.s["running_mean"], self.s["running_var"]
        else:
            m, v = x.mean((0, 2)), x.transpose(0, 1).flatten(1).var(1)
            self.blend(m, v)
        return self.affine((x - col(m)) / torch.sqrt(col(v) + self.eps))


class Bn(Torch):
    """Batch norm whose pieces the bugs below write anew."""

    def moments(self, x):
        return x.mean((0, 2)), x.var((0, 2), unbiased=False)

    def compute(self, x, training):
        if training:
            m, v = self.moments(x)
            self.update(m, v)
        else:
            m, v = self.s["running_mean"], self.s["running_var"]
        return self.apply(x, m, v)

    def update(self, m, v):
        self.blend(m, self.bessel(v))

    def apply(self, x, m, v):
        return self.affine((x - col(m)) * torch.rsqrt(col(v) + self.eps))


@bug(
    "t-bn-eps-outside",
    "batch_norm",
    "eps added to the standard deviation",
    "divides by sqrt(var) + eps",
    "tracel-ai/burn#2185",
)
class BnEpsOutside(Bn):
    def apply(self, x, m, v):
        return self.affine((x - col(m)) / (col(v).sqrt() + self.eps))


@bug("t-bn-eps-squared", "batch_norm", "eps squared", "adds eps ** 2 to the variance, for eps was meant for the std")
class BnEpsSquared(Bn):
    def apply(self, x, m, v):
        return self.affine((x - col(m)) / (col(v) + self.eps**2).sqrt())


@bug(
    "t-bn-eps-max",
    "batch_norm",
    "variance clamped at eps instead of eps added",
    "guards the root by max(var, eps) in place of var + eps",
)
class BnEpsMax(Bn):
    def apply(self, x, m, v):
        return self.affine((x - col(m)) / col(v).clamp(min=self.eps).sqrt())


@bug(
    "t-bn-one-pass",
    "batch_norm",
    "one-pass variance",
    "takes E[x²] − E[x]² for the variance, which cancels where the mean is large",
    "google/flax#1491",
)
class BnOnePass(Bn):
    def moments(self, x):
        m = x.mean((0, 2))
        return m, (x * x).mean((0, 2)) - m * m


@bug(
    "t-bn-momentum",
    "batch_norm",
    "momentum swapped",
    "momentum multiplies the old running statistics",
    "bonlime/pytorch-tools#97",
)
class BnMomentum(Bn):
    def update(self, m, v):
        self.blend(m, self.bessel(v), 1 - self.momentum)


@bug(
    "t-bn-running-biased",
    "batch_norm",
    "running variance biased",
    "the running variance is fed the batch variance without n / (n − 1)",
    "tenstorrent/tt-metal#55438",
)
class BnRunningBiased(Bn):
    def update(self, m, v):
        self.blend(m, v)


@bug(
    "t-bn-running-eps",
    "batch_norm",
    "eps in the running variance",
    "the running variance is fed var + eps, the value that stood under the root",
    "keras-team/keras-contrib#287",
)
class BnRunningEps(Bn):
    def update(self, m, v):
        self.blend(m, self.bessel(v) + self.eps)


@bug(
    "t-bn-running-std",
    "batch_norm",
    "running variance holds the standard deviation",
    "blends the standard deviation into running_var",
)
class BnRunningStd(Bn):
    def update(self, m, v):
        self.blend(m, self.bessel(v).sqrt())


@bug(
    "t-bn-running-overwritten",
    "batch_norm",
    "running statistics overwritten",
    "the running statistics are replaced by the last batch's; momentum is unused",
)
class BnOverwritten(Bn):
    def update(self, m, v):
        self.blend(m, self.bessel(v), 1.0)


@bug(
    "t-bn-running-never",
    "batch_norm",
    "running statistics never updated",
    "the running statistics stay as they were made",
    "paiml/aprender#2166",
)
class BnNever(Bn):
    def update(self, m, v):
        pass


@bug(
    "t-bn-eval-updates",
    "batch_norm",
    "running statistics updated in evaluation",
    "evaluation normalises by the running statistics, and updates them from its batch",
)
class BnEvalUpdates(Bn):
    def compute(self, x, training):
        y = super().compute(x, training)
        if not training and self.n_values > 1:
            self.update(*self.moments(x))
        return y


@bug(
    "t-bn-eval-batch",
    "batch_norm",
    "batch statistics in evaluation",
    "the training flag is ignored when normalising: evaluation takes the batch's statistics",
)
class BnEvalBatch(Bn):
    def compute(self, x, training):
        m, v = self.moments(x)
        if training:
            self.update(m, v)
        return self.apply(x, m, v)


@bug(
    "t-bn-train-running",
    "batch_norm",
    "training normalises by the running statistics",
    "training updates the running statistics and then normalises by them",
    "tenstorrent/tt-metal#45578, alike",
)
class BnTrainRunning(Bn):
    def compute(self, x, training):
        if training:
            self.update(*self.moments(x))
        return self.apply(x, self.s["running_mean"], self.s["running_var"])


@bug(
    "t-bn-detached",
    "batch_norm",
    "statistics detached",
    "mean and variance are computed under no_grad, so that no gradient flows through them",
)
class BnDetached(Bn):
    def moments(self, x):
        with torch.no_grad():
            return super().moments(x)


@bug(
    "t-bn-var-detached",
    "batch_norm",
    "variance detached",
    "the variance is detached: the gradient flows through the mean alone",
)
class BnVarDetached(Bn):
    def moments(self, x):
        m, v = super().moments(x)
        return m, v.detach()


@bug(
    "t-bn-batch-axis",
    "batch_norm",
    "statistics over the batch axis alone",
    "mean and variance over axis 0 alone, one for each pixel; the running ones average them",
)
class BnBatchAxis(Bn):
    def compute(self, x, training):
        if not training:
            return super().compute(x, training)
        m, v = x.mean(0, keepdim=True), x.var(0, unbiased=False, keepdim=True)
        self.update(m.mean((0, 2)), v.mean((0, 2)))
        return self.affine((x - m) / (v + self.eps).sqrt())


@bug(
    "t-bn-affine-first",
    "batch_norm",
    "affine before normalisation",
    "scales and shifts x first and normalises after it, which undoes both",
)
class BnAffineFirst(Bn):
    def apply(self, x, m, v):
        return (self.affine(x) - col(m)) / (col(v) + self.eps).sqrt()


@bug("t-bn-swapped", "batch_norm", "weight and bias swapped", "multiplies by bias and adds weight")
class BnSwapped(Bn):
    def affine(self, xhat):
        return xhat * col(self.b) + col(self.w)


@bug(
    "t-in-batch",
    "instance_norm",
    "statistics over the batch too",
    "reduces over batch and pixels: batch norm under another name",
)
class InBatch(Torch):
    def compute(self, x, training):
        m, v = x.mean((0, 2), keepdim=True), x.var((0, 2), unbiased=False, keepdim=True)
        return self.affine((x - m) / (v + self.eps).sqrt())


@bug("t-in-unbiased", "instance_norm", "unbiased variance", "x.var over the pixels divides by P − 1")
class InUnbiased(Torch):
    def compute(self, x, training):
        return self.affine((x - x.mean(2, keepdim=True)) / (x.var(2, keepdim=True) + self.eps).sqrt())


@bug("t-in-no-bias", "instance_norm", "bias never added", "the bias is a parameter, and the forward forgets it")
class InNoBias(Torch):
    def compute(self, x, training):
        xhat = (x - x.mean(2, keepdim=True)) / (x.var(2, keepdim=True, unbiased=False) + self.eps).sqrt()
        return xhat * col(self.w)


@bug(
    "t-ln-std-eps",
    "layer_norm",
    "eps added to the standard deviation",
    "divides by x.std(unbiased=False) + eps",
    "codertimo/BERT-pytorch#30, hkproj/pytorch-transformer#31",
)
class LnStdEps(Torch):
    def compute(self, x, training):
        flat = x.flatten(1)
        m = flat.mean(1)[:, None, None]
        s = (flat - flat.mean(1, keepdim=True)).square().mean(1).sqrt()[:, None, None]
        return self.affine((x - m) / (s + self.eps))


@bug(
    "t-ln-unbiased",
    "layer_norm",
    "unbiased variance",
    "torch.var divides by n − 1 unless told otherwise",
    "harvardnlp/annotated-transformer#119",
)
class LnUnbiased(Torch):
    def compute(self, x, training):
        return self.affine((x - x.mean((1, 2), keepdim=True)) / (x.var((1, 2), keepdim=True) + self.eps) ** 0.5)


@bug(
    "t-ln-squared",
    "layer_norm",
    "square in place of the root",
    "std = (variance + eps) ** 2 where ** 0.5 was meant",
    "131250208/TPlinker-joint-extraction#37",
)
class LnSquared(Torch):
    def compute(self, x, training):
        v = x.var((1, 2), keepdim=True, unbiased=False)
        return self.affine((x - x.mean((1, 2), keepdim=True)) / (v + self.eps) ** 2)


@bug("t-ln-rms", "layer_norm", "mean not subtracted", "divides by the root mean square; the mean stays in")
class LnRms(Torch):
    def compute(self, x, training):
        return self.affine(x / (x.square().mean((1, 2), keepdim=True) + self.eps).sqrt())


@bug(
    "t-ln-pixel",
    "layer_norm",
    "statistics over channels alone, each pixel apart",
    "reduces over the channel axis alone, as a LayerNorm2d for channels does",
)
class LnPixel(Torch):
    def compute(self, x, training):
        m, v = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        return self.affine((x - m) / (v + self.eps).sqrt())


class Gn(Torch):
    """Group norm; the bugs write how channels fall into groups."""

    def compute(self, x, training):
        n, c, p = x.shape
        groups = self.o["num_groups"]
        if c % groups:
            raise ValueError("channels must be divisible by the number of groups")
        return self.grouped(x, n, groups, c // groups, p)

    def standard(self, z, axes):
        return (z - z.mean(axes, keepdim=True)) / (z.var(axes, keepdim=True, unbiased=False) + self.eps).sqrt()


@bug("t-gn-interleaved", "group_norm", "groups interleaved", "channel c falls into group c mod G")
class GnInterleaved(Gn):
    def grouped(self, x, n, g, size, p):
        return self.affine(self.standard(x.reshape(n, size, g, p), (1, 3)).reshape(x.shape))


@bug(
    "t-gn-nhwc",
    "group_norm",
    "channels-last data reshaped without a transpose",
    "x is moved to (N, H, W, C) and reshaped to (N, G, H, W, C/G) at once, which mixes pixels and channels",
    "tensorflow/addons#751, titu1994/Keras-Group-Normalization#6",
)
class GnNhwc(Gn):
    def grouped(self, x, n, g, size, p):
        last = x.transpose(1, 2).reshape(n, g, p, size)
        return self.affine(self.standard(last, (2, 3)).reshape(n, p, g * size).transpose(1, 2))


@bug("t-gn-count", "group_norm", "num_groups taken as channels a group", "makes C / G groups of G channels")
class GnCount(Gn):
    def grouped(self, x, n, g, size, p):
        return self.affine(self.standard(x.reshape(n, size, g, p), (2, 3)).reshape(x.shape))


@bug(
    "t-gn-group-affine",
    "group_norm",
    "affine a group instead of a channel",
    "gamma and beta of a group's first channel serve all channels of it",
    "apache/mxnet#17139",
)
class GnGroupAffine(Gn):
    def grouped(self, x, n, g, size, p):
        z = self.standard(x.reshape(n, g, size, p), (2, 3)).reshape(x.shape)
        first = torch.arange(g * size) // size * size
        return z * col(self.w[first]) + col(self.b[first])


@bug(
    "t-gn-per-pixel",
    "group_norm",
    "statistics of each pixel apart",
    "reduces over the group's channels, and forgets the pixels",
)
class GnPixel(Gn):
    def grouped(self, x, n, g, size, p):
        return self.affine(self.standard(x.reshape(n, g, size, p), (2,)).reshape(x.shape))


@bug(
    "t-gn-eps-outside",
    "group_norm",
    "eps added to the standard deviation",
    "divides by std + eps",
    "taokong/group_normalization#1",
)
class GnEps(Gn):
    def grouped(self, x, n, g, size, p):
        z = x.reshape(n, g, size * p)
        z = z - z.mean(2, keepdim=True)
        return self.affine((z / (z.square().mean(2, keepdim=True).sqrt() + self.eps)).reshape(x.shape))
