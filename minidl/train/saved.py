"""Whether a network with layers of one's own can be saved and loaded: no array that comes later, no state beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .. import log
from ..backend import Array, to_host
from ..layers.base import Layer
from ..norm.mode import ModeNorm
from ..norm.select import by_mode
from .finite import layer_name
from .late import LateError
from .layer_rules import LayerError, describe, is_array
from .named import MADE
from .places import place_of, place_of_method

Kinds = dict[str, dict[str, tuple[tuple[int, ...], str]]]  # shape and dtype, by a layer's path and an array's name
_ROUNDING = 100  # of the dtype's eps: what two ways of summing may differ by, relative to the size of an output
_MOST = 8  # attributes that are tried one by one


def kinds(model: Layer) -> Kinds:
    """Return the shape and the dtype of each parameter and buffer, as a checkpoint has to find them again."""
    return {path: _kinds(layer) for path, layer in model.named_layers()}


def _kinds(layer: Layer) -> dict[str, tuple[tuple[int, ...], str]]:
    arrays = {**layer.params, **layer.buffers}
    return {name: (array.shape, str(array.dtype)) for name, array in arrays.items() if is_array(array)}


def check_as_made(model: Layer, made: Kinds, own: Sequence[str], step: int, kept: str) -> None:
    """Raise LateError where an array of a layer of one's own came, went or changed its shape or dtype since `made`.

    A checkpoint with it could not be loaded into the network as its constructor makes it.

    Parameters
    ----------
    model : Layer
        As it is now.
    made : dict
        What `kinds` gave before the first update.
    own : sequence of str
        The settings that name a norm or a network of one's own.
    step : int
        Updates done.
    kept : str
        What to do next.
    """
    for path, layer in model.named_layers():
        if not place_of(type(layer)) or path not in made:
            continue
        there = {**layer.params, **layer.buffers}
        before, now = made[path], _kinds(layer)
        free = by_mode(layer) if isinstance(layer, ModeNorm) else ()  # which --modes auto may change
        for name in {**before, **there}:
            if name in free:
                continue
            if before.get(name) == now.get(name) and (name in before) == (name in there):
                continue
            if name not in before:
                rule = f"{name} has come since it was made; make it in __init__, where a checkpoint finds it"
            elif name not in there:
                rule = f"{name} is gone; let it stay as __init__ made it"
            else:
                (shape, dtype), array = before[name], there[name]
                got = f"{array.dtype} {array.shape}" if is_array(array) else describe(array)
                rule = f"{name} must stay {dtype} {shape}, as it was made, got {got}"
            what = "parameter" if name in layer.params else "buffer" if name in layer.buffers else "array"
            raise LateError(
                f"{' and '.join(own) or 'model'}: after update {step}: {layer_name(path, layer)}: the {what} {rule}"
                f"{place_of(type(layer))}; mend it and {kept}"
            )


def warn_of_unsaved(twin: Layer, fresh: Callable[[], Layer], x: Array, told: set[tuple[type, str]]) -> None:
    """Warn where a network that was trained is another one after its state was saved and loaded.

    Parameters
    ----------
    twin : Layer
        In evaluation mode, after a pass of training.
    fresh : callable
        Makes the network anew, as loading does.
    x : array
        Images.
    told : set
        Classes and attributes that need no other warning.
    """
    if not any(_is_own(layer) for _, layer in twin.named_layers()):
        return
    first, second = _outputs(twin, x), _outputs(twin, x)
    if (found := _differing(first, second)) is not None:
        path, layer, _ = found
        log.warn(
            "minidl",
            f"{layer_name(path, layer)}: it gives two different outputs for the same images in evaluation"
            f"{place_of_method(layer, 'forward') or place_of(type(layer))}; draw at random and update what it keeps "
            "only where self.training is true",
        )
        return
    loaded = copy.deepcopy(fresh())  # what makes it may give the same object twice
    _refuse_other_arrays(twin, loaded)
    loaded.load_state(twin.state())
    loaded.eval()
    after = _outputs(copy.deepcopy(loaded), x)
    if (found := _differing(second, after)) is None:
        return
    changed = [*dict.fromkeys((type(layer), name) for _, layer, name in _changed(twin, loaded))]
    effective = [each for each in changed[:_MOST] if _has_effect(twin, loaded, x, after, *each)]
    suspects = effective or [each for each in changed if each[0] is type(found[1])]
    if suspects and told.issuperset(suspects):
        return
    for kind in dict.fromkeys(kind for kind, _ in suspects) or [type(found[1])]:
        names = [name for each, name in suspects if each is kind]
        path, layer = next(each for each in twin.named_layers() if type(each[1]) is kind)
        why = f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} changed since __init__ and" if names else "it"
        log.warn(
            "minidl",
            f"{layer_name(path, layer)}: once saved and loaded it gives other outputs in evaluation: {why} "
            f"{'is' if len(names) < 2 else 'are'} not saved{place_of(kind)}; keep such state in self.buffers, as "
            "arrays that __init__ makes",
        )


def _refuse_other_arrays(twin: Layer, loaded: Layer) -> None:
    """Raise LayerError where a layer of one's own has other arrays than its constructor makes."""
    made = kinds(loaded)
    for path, layer in twin.named_layers():
        if not _is_own(layer) or path not in made:
            continue
        now = _kinds(layer)
        if other := [name for name in {**made[path], **now} if made[path].get(name) != now.get(name)]:
            raise LayerError(
                f"{layer_name(path, layer)}: its arrays must stay as __init__ makes them, where a checkpoint finds "
                f"them, got another {', '.join(other)}{place_of(type(layer))}"
            )


def _is_own(layer: Layer) -> bool:
    return bool(place_of(type(layer)))


def _outputs(network: Layer, x: Array) -> list[tuple[str, Layer, np.ndarray]]:
    """Return what each layer of one's own gives for x, in the order in which they end, and what the network gives."""
    found: list[tuple[str, Layer, np.ndarray]] = []
    noted: list[tuple[Layer, Any]] = []

    def note(path: str, layer: Layer) -> None:
        forward = layer.forward

        def noting(*args: Any, **named: Any) -> Any:
            y = forward(*args, **named)
            if is_array(y):
                found.append((path, layer, np.array(to_host(y))))
            return y

        noted.append((layer, vars(layer).get("forward")))
        vars(layer)["forward"] = noting

    try:
        for path, layer in network.named_layers():
            if _is_own(layer):
                note(path, layer)
        network.forward(x)
    finally:
        for layer, before in noted:
            vars(layer).pop("forward")
            if before is not None:
                vars(layer)["forward"] = before
    return found


def _differing(
    some: list[tuple[str, Layer, np.ndarray]], others: list[tuple[str, Layer, np.ndarray]]
) -> tuple[str, Layer, np.ndarray] | None:
    """Return the first of some outputs that is not the other, to rounding."""
    for one, other in zip(some, others, strict=False):
        y, z = one[2], other[2]
        if y.shape != z.shape or y.dtype.kind != "f":
            same = y.shape == z.shape and np.array_equal(y, z)
        else:
            bound = _ROUNDING * np.finfo(y.dtype).eps * np.linalg.norm(y.astype(np.float64))
            same = bool(np.linalg.norm(y.astype(np.float64) - z) <= bound)
        if not same:
            return one
    return None


def _changed(twin: Layer, loaded: Layer) -> Iterator[tuple[str, Layer, str]]:
    """Yield path, layer and name of each attribute of a layer of one's own that loading does not bring back."""
    there = dict(loaded.named_layers())
    for path, layer in twin.named_layers():
        if not _is_own(layer) or path not in there:
            continue
        mine, its = vars(layer), vars(there[path])
        for name in {**its, **mine}:
            if name in MADE or name in ("_kept", "_output_shape"):
                continue
            if isinstance(mine.get(name), Layer) or isinstance(its.get(name), Layer):
                continue
            if (name in mine) != (name in its) or not _same(mine[name], its[name]):
                yield path, layer, name


def _same(one: Any, other: Any) -> bool:
    """Whether two attributes hold the same; what cannot be compared does."""
    if type(one) is not type(other):
        return False
    if is_array(one):
        return bool(one.shape == other.shape and np.array_equal(to_host(one), to_host(other)))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, np.random.Generator):
        return bool(one.bit_generator.state == other.bit_generator.state)
    if hasattr(one, "__dict__") and not isinstance(one, type) and not callable(one):
        return _same(vars(one), vars(other))
    try:
        return callable(one) or bool(one == other)
    except Exception:
        return True


def _has_effect(twin: Layer, loaded: Layer, x: Array, after: list[Any], kind: type, name: str) -> bool:
    """Whether a loaded network gives something else with one attribute of a class as it was before it was saved."""
    there = dict(twin.named_layers())
    other = copy.deepcopy(loaded)
    try:
        for path, layer in other.named_layers():
            if type(layer) is kind and path in there:
                vars(layer).pop(name, None)
                if name in vars(there[path]):
                    vars(layer)[name] = copy.deepcopy(vars(there[path])[name])
        return _differing(_outputs(other, x), after) is not None
    except Exception:  # it does not go without
        return True
