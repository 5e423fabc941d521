"""The parts of a normalization, each with one right choice and many slips, in words and as functions.

Over which values the mean and the variance are, what the variance is about and divided by, where eps is, how x is
centred, how y is formed, and whose statistics are picked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np

from minidl.check.case import LAST_AXIS
from minidl.check.plain.arith import detach, mean, sqrt

LAYERS = ("batch_norm", "instance_norm", "layer_norm", "group_norm", *LAST_AXIS)
REGIONS: dict[str, tuple[int, ...]] = {  # axes of (batch, groups, channels of a group, height, width)
    "the batch alone": (0,),
    "the batch and the channels": (0, 1, 2),
    "the channels of each pixel": (1, 2),
    "the channels of a group at each pixel": (2,),
    "the pixels of each channel": (3, 4),
    "the first axis of space alone": (3,),
    "the width alone": (4,),
    "each sample": (1, 2, 3, 4),
    "each group": (2, 3, 4),
    "all values of x": (0, 1, 2, 3, 4),
    "each channel over the batch": (0, 2, 3, 4),
    "the batch and the height": (0, 3),
    "the batch and the width": (0, 4),
    "the channels and the height": (1, 2, 3),
    "the channels and the width": (1, 2, 4),
    "each pixel over batch and channels": (0, 1, 2),
    "the sample but for its last axis": (1, 2, -1),
    "the batch and space but for its last axis": (0, -1),
    "the last axis alone": (-2,),
}
LAST_REGIONS: dict[str, tuple[int, ...]] = {  # axes of (batch, heads, tokens, values)
    "the batch alone": (0,),
    "the tokens": (2,),
    "the tokens and the values": (2, 3),
    "each sample": (1, 2, 3),
    "all values of x": (0, 1, 2, 3),
    "the batch and the values": (0, 3),
    "all but the last axis": (0, 1, 2),
    "the second axis": (-3,),
}
Statistic = Callable[[Any], Any]
ABOUT: dict[str, str] = {
    "": "centred",
    "the variance is about zero": "raw",
    "the variance is E[x²] − 2 E[x]²": "twice",
    "the variance is E[x²] + E[x]²": "plus",
    "the variance is E[x]²": "mean",
    "the variance is that of the magnitudes": "magnitudes",
    "the mean magnitude of x − mean stands for the deviation": "absolute",
    "the mean magnitude of x stands for the deviation": "raw absolute",
    "the largest magnitude of x − mean stands for the deviation": "largest",
    "the largest magnitude of x stands for the deviation": "raw largest",
    "the range of x stands for the deviation": "range",
    "the mean of the fourth powers' root stands for the variance": "fourth",
}
PARTS_OF: dict[str, tuple[str, str]] = {  # the spread within regions, each about its own mean, or that of their means
    f"the variance {words} {region}": (kind, region)
    for table in (REGIONS, LAST_REGIONS)
    for region in table
    for kind, words in (("within", "is the mean of the variances within"), ("between", "is that of the means of"))
}
SEEN: dict[str, Callable[[Any], Any]] = {  # the values that statistics are taken of
    "": lambda x: x,
    "statistics are of the first half of the last axis": lambda x: x[..., : max(x.shape[-1] // 2, 1)],
    "statistics are of the second half of the last axis": lambda x: x[..., x.shape[-1] // 2 :],
    "statistics are of the first quarter of the last axis": lambda x: x[..., : max(x.shape[-1] // 4, 1)],
    "statistics are of every other value of the last axis": lambda x: x[..., ::2],
    "statistics are of all but the last value of the last axis": lambda x: x[..., : max(x.shape[-1] - 1, 1)],
    "statistics are of all but the first value of the last axis": lambda x: x[..., min(1, x.shape[-1] - 1) :],
    "statistics are of the first half of the batch": lambda x: x[: max(len(x) // 2, 1)],
    "statistics are of all but the last sample": lambda x: x[: max(len(x) - 1, 1)],
    "statistics are of all but the first sample": lambda x: x[min(1, len(x) - 1) :],
}
CHUNKS: dict[str, Callable[[int], list[int]]] = {  # where a batch of n is cut, each part with its own statistics
    "": lambda n: [],
    "each half of the batch has its own statistics": lambda n: [n // 2] if n > 1 else [],
    "each half of the batch has its own statistics, the larger first": lambda n: [-(-n // 2)] if n > 1 else [],
    "each 2 samples have their own statistics": lambda n: list(range(2, n, 2)),
    "each 4 samples have their own statistics": lambda n: list(range(4, n, 4)),
}
COUNTS: dict[str, Callable[[int, tuple[int, ...]], float]] = {  # by n, and the shape of the view
    "": lambda n, s: 1.0,
    "divides by n − 1": lambda n, s: n / max(n - 1, 1),
    "divides by n + 1": lambda n, s: n / (n + 1),
    "is a sum": lambda n, s: float(n),
    "is divided by n twice": lambda n, s: 1.0 / n,
    "divides by n − 2": lambda n, s: n / max(n - 2, 1),
    "is doubled": lambda n, s: 2.0,
    "is halved": lambda n, s: 0.5,
    "divides by the batch": lambda n, s: n / s[0],
    "divides by the batch less 1": lambda n, s: n / max(s[0] - 1, 1),
    "has a factor N/(N − 1) of the batch": lambda n, s: s[0] / max(s[0] - 1, 1),
    "divides by the pixels": lambda n, s: n / float(np.prod(s[3:]) or 1),
    "divides by the channels": lambda n, s: n / float(s[1] * (s[2] if len(s) > 4 else 1)),
    "divides by the channels of a group": lambda n, s: n / float(s[2]),
    "divides by all values of x": lambda n, s: n / float(np.prod(s)),
    "divides by the values of a sample": lambda n, s: n / float(np.prod(s[1:])),
    "has a factor of the batch": lambda n, s: float(s[0]),
}
ROOTS: dict[str, Callable[[Any, float, int], Any]] = {
    "": lambda v, e, n: 1 / sqrt(v + e),
    "eps is outside the root": lambda v, e, n: 1 / (sqrt(v) + e),
    "eps is outside the root too": lambda v, e, n: 1 / (sqrt(v + e) + e),
    "eps is missing": lambda v, e, n: 1 / sqrt(v),
    "eps is squared": lambda v, e, n: 1 / sqrt(v + e * e),
    "the root of eps is added": lambda v, e, n: 1 / sqrt(v + e**0.5),
    "eps is subtracted": lambda v, e, n: 1 / sqrt(v - e),
    "eps is doubled": lambda v, e, n: 1 / sqrt(v + 2 * e),
    "eps is halved": lambda v, e, n: 1 / sqrt(v + e / 2),
    "eps is divided by n": lambda v, e, n: 1 / sqrt(v + e / n),
    "eps is multiplied by n": lambda v, e, n: 1 / sqrt(v + e * n),
    "eps is 1": lambda v, e, n: 1 / sqrt(v + 1),
    "eps is added after 1/sigma": lambda v, e, n: 1 / sqrt(v) + e,
    "eps is a floor of the variance": lambda v, e, n: 1 / sqrt(np.maximum(v, e)),
    "eps is a floor of the deviation": lambda v, e, n: 1 / np.maximum(sqrt(v), e),
    "eps is a floor of the variance, eps is added too": lambda v, e, n: 1 / sqrt(np.maximum(v, e) + e),
    "eps is fixed at 1e-5": lambda v, e, n: 1 / sqrt(v + 1e-5),
    "eps is fixed at 1e-6": lambda v, e, n: 1 / sqrt(v + 1e-6),
    "eps is fixed at 1e-8": lambda v, e, n: 1 / sqrt(v + 1e-8),
    "eps is fixed at 1e-12": lambda v, e, n: 1 / sqrt(v + 1e-12),
    "eps is fixed at 1e-4": lambda v, e, n: 1 / sqrt(v + 1e-4),
    "eps is fixed at 1e-2": lambda v, e, n: 1 / sqrt(v + 1e-2),
    "the root is missing": lambda v, e, n: 1 / (v + e),
    "the root is missing, eps too": lambda v, e, n: 1 / v,
    "the root is taken twice": lambda v, e, n: 1 / sqrt(sqrt(v + e)),
    "the variance is squared for its root": lambda v, e, n: 1 / ((v + e) * (v + e)),
    "x is multiplied by sigma": lambda v, e, n: sqrt(v + e),
    "x is multiplied by sigma²": lambda v, e, n: v + e,
    "sigma is detached": lambda v, e, n: 1 / sqrt(detach(v) + e),
    "x is not divided by sigma": lambda v, e, n: 1 + 0 * v,
    "sigma has 1 added": lambda v, e, n: 1 / (sqrt(v + e) + 1),
    "sigma is clipped to 1 from below": lambda v, e, n: 1 / np.maximum(sqrt(v + e), 1.0),
}
CENTRES: dict[str, str] = {
    "": "mean",
    "the mean is not subtracted": "none",
    "the mean is added": "added",
    "the mean is subtracted twice": "twice",
    "the mean is subtracted after the division": "after",
    "the mean is detached": "detached",
    "the mean is that of the magnitudes": "magnitudes",
    "the mean is a root mean square": "rms",
    "the largest value is subtracted for the mean": "largest",
    "the median is subtracted for the mean": "median",
    "the middle of the range is subtracted for the mean": "middle",
    "the first value is subtracted for the mean": "first",
    "eps is added after the division": "eps",
    "eps is added to x − mean": "eps before",
}
WEIGHTS: dict[str, Callable[[Any, Any], Any]] = {
    "": lambda w, b: w,
    "weight is ignored": lambda w, b: 1.0,
    "weight has 1 added": lambda w, b: 1 + w,
    "weight has 1 subtracted": lambda w, b: w - 1,
    "weight multiplies twice": lambda w, b: w * w,
    "y is divided by weight": lambda w, b: 1 / w,
    "bias stands for weight": lambda w, b: b,
    "bias multiplies too": lambda w, b: w * b,
    "weight has the wrong sign": lambda w, b: -w,
}
BIASES: dict[str, Callable[[Any, Any], Any]] = {
    "": lambda w, b: b,
    "bias is ignored": lambda w, b: 0.0,
    "bias is subtracted": lambda w, b: -b,
    "bias is added twice": lambda w, b: 2 * b,
    "bias is added before weight multiplies": lambda w, b: w * b,
    "weight stands for bias": lambda w, b: w,
    "bias is subtracted before weight multiplies": lambda w, b: -w * b,
    "weight is added too": lambda w, b: w + b,
}


def _formed(of_weight: Callable[[Any, Any], Any], of_bias: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    return lambda h, w, b: of_weight(w, b) * h + of_bias(w, b)


FORMS: dict[str, Callable[[Any, Any, Any], Any]] = {
    " and ".join(filter(None, (one, other))): _formed(of_weight, of_bias)
    for one, of_weight in WEIGHTS.items()
    for other, of_bias in BIASES.items()
}
PICKS: dict[str, Callable[[Any], Any]] = {
    "those of the first group or channel for all": lambda v: v[:, :1],
    "those of the last group or channel for all": lambda v: v[:, -1:],
    "those of the first sample for all": lambda v: v[:1],
    "those of the last sample for all": lambda v: v[-1:],
    "averaged over the batch": lambda v: mean(v, 0),
    "averaged over the groups or channels": lambda v: mean(v, 1),
    "those of the group or channel before": lambda v: v[:, [-1, *range(v.shape[1] - 1)]],
    "those of the next group or channel": lambda v: v[:, [*range(1, v.shape[1]), 0]],
    "those of the sample before": lambda v: v[[-1, *range(len(v) - 1)]],
    "summed over the batch": lambda v: mean(v, 0) * len(v),
}
PICKED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    f"{what} {name.replace('those', 'that') if which != 'mv' else name}": (which, pick)
    for which, what in (("mv", "mean and variance are"), ("m", "the mean is"), ("v", "the variance is"))
    for name, pick in PICKS.items()
}
BEFORE = "the affine map is before the normalisation"
INSIDE = "weight and bias are applied before the division by sigma"
FOLDED = "weight is missing in the folded shift, bias − mean/sigma"
SCALED = "weight multiplies x before the normalisation"


SHORT = {  # slips that are listed variants too, by those variants' names
    "the variance divides by n − 1": "unbiased variance",
    "the variance is a sum": "variance is a sum",
    "the mean is a sum": "mean is a sum",
    "the variance is about zero": "variance about zero",
    "the mean is not subtracted": "mean not subtracted",
    "eps is outside the root": "eps outside the root",
    "eps is outside the root too": "eps under the root and outside",
    "eps is missing": "eps missing",
    "eps is squared": "eps squared",
    "the root of eps is added": "root of eps",
    "eps is subtracted": "eps subtracted",
    "eps is doubled": "eps twice",
    "eps is a floor of the variance": "eps as a floor",
    "eps is a floor of the deviation": "eps as a floor of the deviation",
    "the root is missing": "root missing",
    "the variance is squared for its root": "square in place of the root",
    "x is multiplied by sigma": "multiplied by the deviation",
    "weight is ignored": "weight ignored",
    "bias is ignored": "bias ignored",
    "weight has 1 added": "weight plus one",
    "weight multiplies twice": "weight squared",
    "y is divided by weight": "y divided by weight",
    "bias is subtracted": "bias subtracted",
    "bias is added twice": "bias added twice",
    "bias is added before weight multiplies": "bias before weight",
} | {f"eps is fixed at {value}": f"eps fixed at {value}" for value in ("1e-5", "1e-6", "1e-8", "1e-12", "1e-4", "1e-2")}


@dataclass(frozen=True)
class Parts:
    """The choice of each part, the right one being ''."""

    mean_over: str = ""
    var_over: str = ""
    about: str = ""
    count: str = ""
    mean_count: str = ""
    root: str = ""
    centre: str = ""
    form: str = ""
    picked: str = ""
    seen: str = ""
    chunk: str = ""
    tracked: bool = False  # whether the running variance takes in what y is normalised by

    @property
    def single(self) -> bool:
        """Whether one choice is wrong, that of where both statistics are over counting as one."""
        over = {self.mean_over, self.var_over} - {""}
        one_region = bool(over) and (not self.mean_over or not self.var_over or len(over) == 1)
        where = (self.picked, self.seen, self.chunk)
        others = (self.about, self.count, self.mean_count, self.centre, self.root, self.form, *where)
        return sum(map(bool, others)) + (1 if one_region else 2 if over else 0) == 1

    @property
    def slips(self) -> list[str]:
        """What is wrong, in words."""
        over = {k: v for k, v in (("mean", self.mean_over), ("variance", self.var_over)) if v}
        words = []
        if len(over) == 2 and self.mean_over == self.var_over:
            words.append(f"statistics are over {self.mean_over}")
        else:
            words += [f"the {what} is over {region}" for what, region in over.items()]
        words += [f"the {what} {w}" for what, w in (("mean", self.mean_count), ("variance", self.count)) if w]
        forms = self.form.split(" and ") if self.form in FORMS else [self.form]
        return words + [
            w for w in (self.about, self.centre, self.root, *forms, self.picked, self.seen, self.chunk) if w
        ]


def regions(layer: str) -> Mapping[str, tuple[int, ...]]:
    """The values that statistics may be taken over, in words."""
    return LAST_REGIONS if layer in LAST_AXIS else REGIONS


def right_region(layer: str) -> tuple[int, ...]:
    """The axes that statistics are taken over."""
    return {
        "batch_norm": (0, 3, 4),
        "instance_norm": (3, 4),
        "layer_norm": (1, 2, 3, 4),
        "group_norm": (2, 3, 4),
    }.get(layer, (3,))


def axes_of(layer: str, name: str) -> tuple[int, ...]:
    """The axes of a region by its name."""
    return regions(layer)[name] if name else right_region(layer)


def actual(axes: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a region; −1 is the first axis of space where space has two, −2 the last axis of x, −3 the second."""
    if axes == (-2,):
        return (4,) if len(shape) > 4 and shape[4] > 1 else (3,)
    if axes == (-3,):
        return (1,) if shape[1] > 1 else (2,) if shape[2] > 1 else (3,)
    if -1 not in axes:
        return axes
    return axes[:-1] + ((3,) if shape[-1] > 1 else ())


SINGLES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("about", ABOUT),
    ("count", COUNTS),
    ("mean_count", COUNTS),
    ("root", ROOTS),
    ("centre", CENTRES),
    ("form", {**FORMS, BEFORE: None, SCALED: None, FOLDED: None, INSIDE: None}),
    ("picked", PICKED),
    ("seen", SEEN),
    ("chunk", CHUNKS),
)


@cache
def choices(layer: str) -> tuple[Parts, ...]:
    """Parts with one slip, then those with two."""
    slips: list[dict[str, Any]] = []
    for region, axes in regions(layer).items():
        if axes != right_region(layer):
            slips += [{"mean_over": region, "var_over": region}, {"mean_over": region}, {"var_over": region}]
    for name, table in SINGLES:
        slips += [{name: word} for word in table if word and (word != FOLDED or layer != "rms_norm")]
    pairs = [one | other for one, other in combinations(slips, 2) if not one.keys() & other.keys()]
    alone = [{"about": words} for words, (_, region) in PARTS_OF.items() if region in regions(layer)]
    return tuple(dict.fromkeys(Parts(**slip) for slip in [*slips, *alone, *pairs]))
