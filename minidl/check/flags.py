"""What each flag is there to find, and where such a bug was reported in public."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """What a flag finds, and public reports of it."""

    finds: str
    seen: tuple[str, ...] = ()


FLAGS: dict[str, Flag] = {
    "shape-nc": Flag("a rank taken for granted; statistics over the wrong axes"),
    "shape-ncl": Flag("a rank taken for granted; transposed axes"),
    "shape-nchw": Flag("transposed axes, swapped roles of weight and bias, a wrong formula"),
    "n1": Flag("a squeeze that drops the batch axis; N in place of N·P"),
    "n2-1x1": Flag("false alarms of other checkers: dx cancels to almost nothing"),
    "single-value": Flag(
        "NaN from n − 1 = 0 where a channel has one value", ("pytorch/pytorch#1381", "FluxML/Flux.jl#2716")
    ),
    "c1": Flag("a squeeze that drops the channel axis"),
    "constant": Flag("eps outside the root or missing, one-pass variance below 0", ("google/flax#1491",)),
    "mean-10": Flag("a one-pass variance"),
    "mean-1e3": Flag(
        "a one-pass variance; an error that grows with the mean", ("google/flax#1491", "pytorch/pytorch#51102")
    ),
    "mean-1e5": Flag(
        "a one-pass variance; an error that grows with the mean",
        ("tensorflow/tensorflow#3290", "pytorch/pytorch#40302"),
    ),
    "std-1e-3": Flag("eps in the wrong place", ("Tencent/ncnn#311", "keras-team/keras#8726")),
    "std-1e-8": Flag("eps missing or in the wrong place", ("Tencent/ncnn#311",)),
    "mixed-scale": Flag("statistics shared by channels that do not belong together"),
    "outlier": Flag("float16 sums, clipped values"),
    "subnormal": Flag("a division by a tiny number"),
    "nan-one-sample": Flag("a NaN that is hidden, or that spreads further than the formula says"),
    "near-6e4": Flag("sums or squares in float16, which end at 65504"),
    "train3-eval": Flag(
        "momentum swapped, biased against unbiased, statistics that are updated twice or never", ("d2l-ai/d2l-en#2213",)
    ),
    "eval-fresh": Flag("running statistics that start elsewhere than at 0 and 1"),
    "eval-twice": Flag("evaluation that changes the state"),
    "eval-backward": Flag("the training formula in the backward of evaluation", ("apache/mxnet#18209",)),
    "train-eval-train": Flag("a mode that sticks; evaluation that changes the state"),
    "momentum-0": Flag("a momentum of 0 taken for not given"),
    "momentum-1": Flag("momentum swapped", ("d2l-ai/d2l-en#2213",)),
    "momentum-0.1": Flag("momentum swapped or written into the code", ("d2l-ai/d2l-en#2213",)),
    "two-forwards": Flag("backward of an earlier forward"),
    "reload": Flag("running statistics outside the saved state", ("bayesiains/nflows#4", "d2l-ai/d2l-zh#1265")),
    "accumulate": Flag("gradients overwritten where they should add up, or the reverse", ("apache/mxnet#18499",)),
    "memory-fortran": Flag("an array read in the order of memory"),
    "memory-strided": Flag("strides that are ignored"),
    "memory-batch-innermost": Flag("an array read in the order of memory"),
    "memory-nhwc-view": Flag(
        "channels read in the order of memory", ("pytorch/pytorch#140913", "pytorch/pytorch#62594")
    ),
    "memory-broadcast-dy": Flag("a dy of stride 0 taken for a full array"),
    "memory-read-only": Flag("inputs written to"),
    "shards": Flag("shards of unequal size averaged with equal weight"),
    "one-group": Flag("group normalization that is not layer normalization with one group"),
    "one-channel-a-group": Flag("group normalization that is not instance normalization with C groups"),
    "two-groups": Flag("channels dealt out to groups in turn; one weight per group in place of a channel"),
    "indivisible": Flag("channels that do not divide into the groups, silently dropped"),
    "modes-1": Flag("one mode that is not batch normalization; a squeeze that drops the mode axis"),
    "modes-3": Flag("a formula right for two modes alone"),
    "modes-8": Flag("a formula right for two modes alone"),
    "more-modes-than-samples": Flag("modes and samples mixed up"),
    "zero-psi": Flag("constant gates that are not batch normalization: N_k wrong"),
    "gap-50": Flag("gates that underflow"),
    "gap-105": Flag("an exponential beyond float32"),
    "gap-800": Flag("an exponential beyond float64: a softmax without its shift"),
    "empty-mode": Flag("0/0 where a mode has no sample"),
    "owner": Flag("a mode that one sample owns: variance 0"),
    "ties": Flag("gates decided by argmax; a gradient that goes to all equal maxima, or to the last"),
    "negative-variance": Flag("a difference of running moments below 0, not clamped"),
    "per-mode-affine": Flag("weights of a mode that are not gated (footnote 3 of the paper)"),
    "kernel-3x3": Flag("a kernel that is flipped or transposed"),
    "kernel-oblong": Flag("height and width swapped"),
    "kernel-1x1": Flag("input and output channels swapped"),
    "kernel-2x2": Flag("windows that overlap or skip"),
    "stride": Flag("a stride that is ignored in one pass"),
    "stride-oblong": Flag("strides of height and width swapped"),
    "padding-wide": Flag("a border on one side alone, or swapped"),
    "padding-oblong": Flag("a border that wins the maximum, or that the mean does not count"),
    "shape-btc": Flag("statistics over other axes than the last; a weight of another axis"),
    "shape-bhtc": Flag("a rank taken for granted"),
    "dilation": Flag("a dilation that is ignored, or height and width swapped"),
    "groups": Flag("groups of a convolution that are ignored, or channels dealt out in turn"),
    "depthwise": Flag("several output channels for each input channel"),
    "dilation-groups": Flag("dilation and groups together"),
    "no-bias": Flag("a bias taken for granted"),
    "overlap": Flag("a gradient that overwrites where windows overlap"),
    "ragged": Flag("rows and columns that no window meets"),
    "negative": Flag("a border of zeros that wins the maximum"),
    "square": Flag("a transposed weight"),
    "two-classes": Flag("a formula of two classes or of many alone"),
    "logits-50": Flag("an exponential that overflows float16 or underflows"),
    "logits-800": Flag("a softmax without its shift: overflow, or log(0)"),
    "logits-1e4": Flag("a softmax without its shift: overflow, or log(0)"),
    "shifted": Flag("a softmax without its shift"),
    "pooled": Flag("moments of the channels' means confused with those of their values"),
}
