"""Expected values and tolerances of a case, from the plain layer.

The tolerance of an element is 8 times the largest of: the effect of one unit of rounding in the inputs and in each
operation of the formula (``TRIALS`` random draws; a sum counts the magnitudes of its terms), and one unit of the value
itself; and not less than the mean of that over a sample's channel (see ``shared``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from minidl.check.case import DTYPES, Array, Case
from minidl.check.noise import noisy_class, shaken
from minidl.check.plain import plain_class
from minidl.check.program import Make, play

TRIALS = 16
FACTOR = 8.0
UNIT = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
TINY = {"bfloat16": 2.0**-116, "float16": 2.0**-14, "float32": 2.0**-116, "float64": 2.0**-1012}  # flushed to zero
ACCURATE = ("y", "dx", "dweight", "dbias", "dgate.bias")
EXACT_INPUTS = ("max_pool2d",)


def compute(case: Case, place: Callable[[str, Array], Array], make: Make | None = None) -> dict[str, Array]:
    """Outputs of the plain layer, or of another, on the case, from inputs that ``place`` prepared."""
    with np.errstate(all="ignore"):
        return dict(play(make or plain_class(case.layer), case, place))


def exactly(case: Case) -> dict[str, Array]:
    """Outputs of the plain layer in longdouble, without noise."""
    return compute(case, lambda name, array: array if array.dtype.kind == "i" else array.astype(np.longdouble))


def rounded_up(tolerance: Array) -> Array:
    """Tolerances with 4 bits, rounded up, as float32: small files, the same bytes wherever they are made."""
    mantissa, exponent = np.frexp(tolerance.astype(np.float64))
    bits = np.ldexp(np.ceil(mantissa * 16) / 16, exponent)
    return np.asarray(np.maximum(bits, 2.0**-149).astype(np.float32))


def shared(name: str, effect: Array) -> Array:
    """What elements share whose formulas may be arranged so that they cancel against each other.

    The gradients of Psi sum to zero over the modes; y and dx of a sample's channel pass through its mean.
    """
    if ".dgate." in name:
        return np.asarray(np.maximum(effect, effect.max(axis=0, keepdims=True)))
    if effect.ndim > 2 and np.isfinite(effect).all():
        return np.asarray(np.maximum(effect, effect.mean(axis=tuple(range(2, effect.ndim)), keepdims=True)))
    return effect


def tolerances(case: Case, dtype: str, want: Mapping[str, Array], make: Make | None = None) -> dict[str, Array]:
    """Return the elementwise absolute tolerance of each wanted tensor for a layer computing in dtype.

    ``make`` is a layer of the same value whose operations round in another way than the plain layer's.
    """
    unit, tiny = UNIT[dtype], TINY[dtype]
    centre = exactly(case)
    worst = {name: unit * np.abs(value.astype(np.float64)) + tiny for name, value in want.items()}
    for trial in range(TRIALS):
        key = f"{case.layer} {case.flag} {dtype} {trial}"
        noisy = noisy_class(unit, key)

        def place(name: str, array: Array, key: str = key, noisy: type[Array] = noisy) -> Array:
            if array.dtype.kind == "i" or case.layer in EXACT_INPUTS:
                return array if array.dtype.kind == "i" else array.astype(np.longdouble)
            return shaken(array, unit, f"{key} {name}", tiny * 2.0**-10).view(noisy)

        moved = compute(case, place, make)
        for name in want:
            effect = np.abs(np.asarray(moved[name]) - np.asarray(centre[name])).astype(np.float64)
            worst[name] = np.fmax(worst[name], effect)
    worst = {name: shared(name, value) for name, value in worst.items()}
    return {name: rounded_up(np.where(np.isfinite(value), FACTOR * value, 0)) for name, value in worst.items()}


def centred(case: Case) -> Case:
    """The same case with its offset taken off x, and put into the gates' bias instead: what *accurate* is measured
    by.
    """
    inputs = dict(case.inputs)
    for name, value in case.inputs.items():
        if name.startswith("in.x."):
            inputs[name] = value.astype(np.longdouble) - case.offset
    if "param.gate.weight" in inputs:
        lift = inputs["param.gate.weight"].astype(np.longdouble).sum(axis=1) * case.offset
        inputs["param.gate.bias"] = inputs["param.gate.bias"] + lift
    return replace(case, inputs=inputs)


def accurate_tolerances(case: Case, dtype: str, want: Mapping[str, Array]) -> dict[str, Array]:
    """Tolerances that do not grow with the mean, for the outputs that do not depend on it."""
    if not case.offset:
        return {}
    chosen = {n: v for n, v in want.items() if n.startswith("out.") and re.sub(r"^out\.|\.\d+$", "", n) in ACCURATE}
    return tolerances(centred(case), dtype, chosen)


def fill(case: Case, want: Mapping[str, Array]) -> Case:
    """The case with expected values and the tolerances of every dtype it runs in."""
    dtypes = [dtype for dtype in DTYPES if case.runs_in(dtype)]
    tol = {dtype: tolerances(case, dtype, want) for dtype in dtypes}
    accurate = {dtype: accurate_tolerances(case, dtype, want) for dtype in dtypes} if case.offset else {}
    return replace(case, expected=dict(want), tol=tol, accurate=accurate)
