"""Play a known variant on a case: what it would have answered, in the conventions of the layer under test.

A wrong forward pass has two backward passes: the variant's own formula, and the gradients derived from that forward
pass as it stands, which is what automatic differentiation gives.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.check.case import Array, Case
from minidl.check.conventions import Conventions, is_gradient
from minidl.check.memory import arranged
from minidl.check.plain.derived import Derived
from minidl.check.program import play
from minidl.check.variants import Variant

FORMULA, DERIVED = "formula", "derived"
ROOM = 30000  # predictions kept
_KEPT: dict[Any, Mapping[str, Any]] = {}


def computed_in(dtype: str) -> Any:
    """The type that a layer of a dtype computes in: formats of 16 bits are lifted."""
    return np.float64 if dtype == "float64" else np.float32


def key_of(case: Case) -> tuple[Any, ...]:
    """What tells a case from others, its values included."""
    sums = tuple(zlib.crc32(np.ascontiguousarray(value).tobytes()) for value in case.inputs.values())
    return case.id, repr(sorted(case.options.items())), tuple(case.inputs), sums


def predicted(
    variant: Variant, form: str, case: Case, key: Any, kind: Any, conventions: Conventions
) -> Mapping[str, Any]:
    """The outputs of a variant on a case (as ``conventions.asked`` gives it), computed in a dtype; under "raised", the
    exception that ended it.
    """
    full = (variant.key, form, key, np.dtype(kind).char, conventions.grads)
    found = _KEPT.get(full)
    if found is None:
        if len(_KEPT) >= ROOM:
            _KEPT.clear()
        found = _KEPT[full] = _played(variant, form, case, kind, conventions)
    return found


def _played(variant: Variant, form: str, case: Case, kind: Any, conventions: Conventions) -> Mapping[str, Any]:
    def place(name: str, array: Array) -> Array:
        if array.dtype.kind == "i":
            return array.copy()
        array = array.astype(kind)
        return arranged(array, case.memory) if name.startswith("in.") else array

    def make(layer: str, options: dict[str, Any]) -> Any:
        inner = variant.plain(layer, options)
        return Derived(inner) if form == DERIVED or variant.derived else inner

    outputs: dict[str, Any] = {}
    sums: dict[str, Any] = {}
    try:
        with np.errstate(all="ignore"):
            for name, value in play(make, case, place):
                kept = np.array(value, np.float64)
                if conventions.grads == "accumulate" and not variant.declares and is_gradient(name):
                    quantity = name.split(".", 1)[1].rpartition(".")[0]
                    kept = sums[quantity] = sums.get(quantity, 0) + kept
                outputs[name] = kept
    except Exception as error:
        outputs["raised"] = error
    return outputs
