"""Every gradient of every norm against central differences, for whatever setting hypothesis draws.

A failing example is shrunk and printed as one `Setting`: the smallest shape, the fewest modes and the plainest numbers
that show the error. The numeric slopes are those of the layer's own forward. The tolerance is their error (see
`gradients.slope`) and how far rounding may move the gradient (see `gradient_rounding`). A setting in which a slope
drowns in that error is refused; a gradient that the mathematics makes zero must be zero.
"""

import dataclasses
import re
from collections.abc import Callable
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from gradients import VacuousCheckError, slope
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from layer_runs import EACH_ENGINE, host, layer_rounding, run
from layer_runs import gradients as gradients_of
from tolerance import FACTOR, TRIALS, assert_close, rounding, terms, unit

from minidl import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, ModeGroupNorm, ModeNorm, to_device, use_backend
from minidl.norm.gate_entropy import gate_entropy

EXAMPLES = 40  # a norm, beside the plain ones; test_dropped_terms.py proves that they suffice
SLOPES = 4  # an array with more elements is tried along so many random lines
CLEAR = 100  # the largest slope of an array is so many times its error, or the setting is refused

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, repr=False)
class Setting:
    """One case: all that a gradient depends on."""

    norm: str
    shape: tuple[int, ...]
    modes: int = 1  # of ModeNorm and ModeGroupNorm
    per_mode_affine: bool = False  # of ModeNorm
    moments: str = "spatial"  # of ModeGroupNorm
    gate_input: str = "plain"  # of ModeNorm, with the next two
    temperature: float = 1.0
    penalty: float = 0.0
    groups: int = 1  # of GroupNorm
    running: str = "unbiased"  # of BatchNorm
    eps: float = 1e-3
    momentum: float = 0.3
    training: bool = True
    mean: int = 0  # of x, in units of its standard deviation
    std: float = 1.0  # of x
    logits: float = 1.0  # their standard deviation
    cotangent: str = "normal"  # or "one sample", "one channel": zero elsewhere
    seed: int = 0

    def __repr__(self) -> str:
        """Show what differs from the plainest setting."""
        shown = [f for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        return f"Setting({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in shown)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Have hypothesis show it so."""
        printer.text(repr(self))

    def layer(self) -> Any:
        """Return the layer with parameters and statistics that are drawn, none of them 0 or 1."""
        C, keywords = self.shape[1], {"eps": self.eps, "dtype": "float64"}
        gates = {"num_modes": self.modes, "rng": np.random.default_rng(0)}
        layer = {
            "BatchNorm": lambda: BatchNorm(C, momentum=self.momentum, running=self.running, **keywords),
            "InstanceNorm": lambda: InstanceNorm(C, **keywords),
            "LayerNorm": lambda: LayerNorm(C, **keywords),
            "GroupNorm": lambda: GroupNorm(self.groups, C, **keywords),
            "ModeNorm": lambda: ModeNorm(
                C,
                momentum=self.momentum,
                per_mode_affine=self.per_mode_affine,
                gate_input=self.gate_input,
                gate_temperature=self.temperature,
                **gates,
                **keywords,
            ),
            "ModeGroupNorm": lambda: ModeGroupNorm(C, moments=self.moments, **gates, **keywords),
        }[self.norm]()
        for name, array in (layer.params | layer.buffers).items():
            array[...] = to_device(self._value(name, array.shape))
        if self.norm == "ModeNorm":
            layer.gate_penalty = self.penalty
        return layer.train(self.training)

    def arrays(self) -> tuple[Array, Array]:
        """Return x and dy."""
        rng = np.random.default_rng([self.seed, 0])
        x = self.std * (self.mean + rng.normal(size=self.shape))
        dy = rng.normal(size=self.shape)
        if self.cotangent == "one sample":
            dy[1:] = 0
        elif self.cotangent == "one channel":
            dy[:, 1:] = 0
        return x, dy

    def scale(self, name: str) -> float:
        """Return how far an array must move to change y much."""
        if name == "x":
            return self.std / (1 + self.logits)
        if name != "gate.weight":
            return 1.0
        if self.gate_input == "normalised":
            return self.temperature
        return self.temperature / np.hypot(self._sample(), self.std * self.mean)

    def terms(self) -> float:
        """Return the size of the terms that cancel to zero in a backward: dy · weight / sqrt(eps), moved by a line."""
        return float(np.abs(self.arrays()[1]).max() * 4 * self.std / np.sqrt(self.eps))

    def zero(self) -> set[str]:
        """Return the arrays whose gradient the mathematics makes zero."""
        (N, C), P = self.shape[:2], int(np.prod(self.shape[2:]))
        gates = {"gate.weight", "gate.bias"}
        one_value = {"x", "weight"}  # is normalised to zero
        match self.norm:
            case "ModeNorm" if self.modes == 1 or (N == 1 and self.training and not self.per_mode_affine):
                return gates
            case "ModeGroupNorm" if C * P == 1 or (C == 1 and self.moments == "spatial" and P == 1):
                return gates | one_value
            case "ModeGroupNorm" if self.modes == 1 or C == 1:
                return gates
            case "InstanceNorm" if P == 1:
                return one_value
            case "LayerNorm" if C * P == 1:
                return one_value
            case "GroupNorm" if C // self.groups * P == 1:
                return one_value
        return set()

    def _sample(self) -> float:
        """Return how far the samples' means of a logit's input lie apart."""
        width = self.shape[1] if self.norm == "ModeNorm" else 1
        return self.std * np.sqrt(width / max(1, np.prod(self.shape[2:])))

    def _value(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return a drawn parameter or statistic."""
        z = np.random.default_rng([self.seed, sum(map(ord, name))]).normal(size=shape)
        match name:
            case "weight":
                return 1.7 + 0.6 * z
            case "bias":
                return -0.7 + 0.6 * z
            case "gate.weight" if self.gate_input == "normalised":
                return self.temperature * self.logits * z
            case "gate.weight":
                return self.temperature * self.logits / self._sample() * z
            case "gate.bias" if self.gate_input == "normalised":
                return 0.5 * z
            case "gate.running_mean":
                return self.std * self.mean + self._sample() * z
            case "gate.running_var":
                return self._sample() ** 2 * (0.5 + np.abs(z))
            case "gate.bias":  # the mean of x moves no logit
                weight = self._value("gate.weight", (len(z), self.shape[1] if self.norm == "ModeNorm" else 1))
                return 0.5 * z - self.std * self.mean * weight.sum(axis=1)
            case "running_mean":
                return self.std * (self.mean + 0.5 * z)
            case "running_var":
                return self.std**2 * (0.5 + np.abs(z))
            case "running_mean_square":
                return self._value("running_mean", shape) ** 2 + self.std**2 * (0.5 + np.abs(z))
        raise AssertionError(f"{name} is of no norm here")


SIZES = st.integers(1, 7)
PIXELS = st.one_of(st.just(()), st.tuples(SIZES), st.tuples(SIZES, SIZES))


@st.composite
def settings_of(draw: Callable[..., Any], norm: str, gates: bool = False) -> Setting:
    """Draw a setting of one norm; with `gates` of ModeNorm with gates that are not the paper's."""
    training = draw(st.booleans()) if norm in ("BatchNorm", "ModeNorm") else True
    N, C, pixels = draw(SIZES), draw(SIZES), draw(PIXELS)
    if norm in ("BatchNorm", "ModeNorm") and training and (gates or N * np.prod(pixels) == 1):
        N += 1  # the layer refuses a single value per channel, and one sample's normalised gate input is 0
    drawn: dict[str, Any] = {"norm": norm, "shape": (N, C, *pixels), "training": training}
    if norm.startswith("Mode"):
        drawn |= {"modes": draw(st.integers(1, 8)), "logits": draw(st.sampled_from([1.0, 0.1, 3.0, 10.0]))}
    if gates:
        drawn |= {
            "modes": draw(st.integers(2, 8)),
            "gate_input": draw(st.sampled_from(["normalised", "plain"])),
            "temperature": draw(st.sampled_from([3.0, 0.7])),
            "penalty": draw(st.sampled_from([0.0, 7.0])),
        }
    if norm == "ModeNorm":
        drawn["per_mode_affine"] = draw(st.booleans())
    if norm == "ModeGroupNorm":
        drawn["moments"] = draw(st.sampled_from(["spatial", "pooled"]))
    if norm == "GroupNorm":
        drawn["groups"] = draw(st.sampled_from([g for g in range(1, C + 1) if C % g == 0]))
    if norm == "BatchNorm":
        drawn["running"] = draw(st.sampled_from(["unbiased", "biased", "second_moment"]))
    if norm in ("BatchNorm", "ModeNorm"):
        drawn["momentum"] = draw(st.sampled_from([0.3, 0.1, 1.0, 0.0]))
    return Setting(
        **drawn,
        eps=draw(st.sampled_from([1e-3, 1e-5, 0.1])),
        mean=draw(st.sampled_from([0, 1, -3, 1000])),
        std=draw(st.sampled_from([1.0, 0.1, 30.0])),
        cotangent=draw(st.sampled_from(["normal", "one sample", "one channel"])),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def lines(setting: Setting, name: str, shape: tuple[int, ...]) -> Array:
    """Return the lines along which an array is moved, (lines, *shape): each element, or random ones if it has many."""
    size = int(np.prod(shape))
    if size <= SLOPES:
        along = np.eye(size)
    else:
        along = np.random.default_rng([setting.seed, len(name)]).normal(size=(SLOPES, size))
    return setting.scale(name) * along.reshape(-1, *shape)


@lru_cache(maxsize=8 * EXAMPLES)
@use_backend("numpy")
def numeric(setting: Setting) -> dict[str, list[tuple[float, float]]]:
    """Return the slope along each line of each array, with its error: that of the forward on NumPy."""
    layer, (x, dy) = setting.layer(), setting.arrays()
    at = {"x": x} | {name: host(p) for name, p in layer.params.items()}

    def loss(moved: dict[str, Array]) -> Any:
        for name, value in moved.items():
            if name != "x":
                layer.params[name][...] = value
        y = layer.forward(moved["x"])
        penalty = setting.penalty * gate_entropy(layer.gates) if setting.penalty and setting.training else 0.0
        return (dy * y).sum() + penalty

    noise = rounding(lambda **moved: loss(moved), at)["y"]
    return {
        name: [
            slope(lambda h, name=name, line=line: loss(at | {name: at[name] + h * line}), noise)
            for line in lines(setting, name, value.shape)
        ]
        for name, value in at.items()
    }


@use_backend("numpy")
def gradient_rounding(setting: Setting) -> dict[str, float]:
    """Return how far rounding may move each gradient: of what goes in, and of the means.

    A mode that one value has nearly to itself has a variance near 0, and dx has terms (x − mu)/sigma³ that no move of x
    shows: its own mean moves with it. So mu, or x − mu, is moved by a unit roundoff of the largest x between forward
    and backward.
    """
    layer, (x, dy), rng = setting.layer(), setting.arrays(), np.random.default_rng(0)
    _, want = run(layer, x, dy)
    moved = dict.fromkeys(want, 0.0)
    for _ in range(TRIALS):
        layer.zero_grad()
        layer.forward(x)
        layer._kept = _means_moved(layer._kept, rng)
        found = {"dx": layer.backward(dy)} | gradients_of(layer)
        moved = {name: max(size, float(np.abs(found[name] - want[name]).max())) for name, size in moved.items()}
    of_inputs = layer_rounding(layer, x, dy)
    return {name: FACTOR * size + of_inputs[name] for name, size in moved.items()}


def _means_moved(kept: Any, rng: np.random.Generator) -> Any:
    """Return what a forward kept with each mu, or d = x − mu, moved."""
    if not isinstance(kept, tuple):
        return kept
    inside = [_means_moved(each, rng) for each in kept]
    if not hasattr(kept, "_fields"):
        return tuple(inside)
    size = max((np.abs(a).max() for name, a in kept._asdict().items() if name in ("m", "mu", "d")), default=0)
    for i, name in enumerate(kept._fields):
        if name in ("mu", "d"):
            inside[i] = inside[i] + unit("float64") * size * rng.choice((-1.0, 0.0, 1.0), inside[i].shape)
    return type(kept)(*inside)


def check(setting: Setting) -> None:
    """Hold every gradient against the numeric slopes; raise VacuousCheckError where those of an array say nothing."""
    x, dy = setting.arrays()
    moved = gradient_rounding(setting)
    zero, cancelled = setting.zero(), terms(8, setting.terms())
    wanted = {}
    for name, pairs in numeric(setting).items():
        slopes, errors = (np.array(values) for values in zip(*pairs, strict=True))
        of = f"d{name.replace('.', '_')}"
        along = lines(setting, name, x.shape if name == "x" else setting.layer().params[name].shape)
        allowed = errors + np.abs(along).reshape(len(along), -1).sum(axis=1) * moved[of]
        if name in zero:
            assert_close(slopes, 0 * slopes, errors, f"the numeric d{name}, which must be zero,")
            allowed += cancelled
        elif np.abs(slopes).max() <= CLEAR * allowed.max():
            raise VacuousCheckError(f"every slope of {name} drowns in its error")
        wanted[of] = name, along, slopes, allowed
    _, gradients = run(setting.layer(), x, dy)
    for of, (name, along, slopes, allowed) in wanted.items():
        got = np.tensordot(along, gradients[of], gradients[of].ndim)
        assert_close(got, slopes, allowed, f"d{name} along its lines")


def property_of(norm: str, gates: bool = False, **further: Any) -> Callable[[], None]:
    """Return the check of a norm on what hypothesis draws, on the library of the moment."""

    @settings(max_examples=EXAMPLES, **further)
    @given(setting=settings_of(norm, gates))
    def holds(setting: Setting) -> None:
        try:
            check(setting)
        except VacuousCheckError:
            reject()

    return holds


PROPERTIES = {
    name: property_of(name)
    for name in ("ModeNorm", "ModeGroupNorm", "BatchNorm", "GroupNorm", "LayerNorm", "InstanceNorm")
}


# Each form of a norm once: in 40 examples of some versions of hypothesis no setting has pixels, channels and modes.
PLAIN = {
    norm: [Setting(norm, (3, 4, 5), modes=3, **dict(zip(forms, of, strict=True))) for of in product(*forms.values())]
    for norm, forms in {
        "ModeNorm": {"training": (True, False), "per_mode_affine": (False, True)},
        "ModeGroupNorm": {"moments": ("spatial", "pooled")},
        "BatchNorm": {"training": (True, False), "running": ("unbiased", "second_moment")},
        "GroupNorm": {"groups": (2,)},
        "LayerNorm": {},
        "InstanceNorm": {},
    }.items()
}


def check_plain(norm: str) -> None:
    """Check the plain settings of a norm."""
    for setting in PLAIN[norm]:
        check(setting)


@EACH_ENGINE
@pytest.mark.parametrize("norm", PROPERTIES)
def test_every_gradient_is_the_slope_of_the_forward(norm):
    check_plain(norm)
    PROPERTIES[norm]()


OWN_GATES = property_of("ModeNorm", gates=True)


@EACH_ENGINE
def test_every_gradient_is_the_slope_of_the_forward_and_the_penalty_with_gates_that_are_not_the_papers():
    OWN_GATES()


@pytest.mark.parametrize("norm", PROPERTIES)
def test_a_setting_whose_slopes_say_nothing_is_refused(norm, monkeypatch):
    setting = Setting(norm, (3, 4, 5), modes=2)
    check(setting)
    x, _ = setting.arrays()
    monkeypatch.setattr(Setting, "arrays", lambda self: (x, np.zeros_like(x)))
    numeric.cache_clear()
    with pytest.raises(VacuousCheckError, match="every slope of x drowns"):
        check(setting)
    numeric.cache_clear()


def test_a_counterexample_is_shrunk_to_a_case_that_reads(monkeypatch):
    backward = ModeNorm.backward
    monkeypatch.setattr(
        ModeNorm, "backward", lambda self, dy: (1.001 if self.num_modes > 2 else 1) * backward(self, dy)
    )
    with pytest.raises(AssertionError, match="dx along its lines is off by") as found:
        property_of("ModeNorm", derandomize=True, database=None)()
    shown = re.search(r"setting=(Setting\(.*?\)),\n", "".join(found.value.__notes__), re.DOTALL)[1]
    assert shown.startswith("Setting(norm='ModeNorm', shape=(1, 1"), shown
    assert ", modes=3" in shown, shown
    with pytest.raises(AssertionError, match="dx along its lines is off by"):
        check(eval(shown))
