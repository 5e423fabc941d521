"""What a layer must give, looked at while a batch goes through a network: arrays, and gradients of their shapes."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .. import log
from ..backend import Array, array_module
from ..layers.base import FLOATING, Layer
from .finite import layer_name
from .named import is_own_norm
from .places import place_of, place_of_method

_METHODS = ("forward", "backward")


class LayerError(ValueError):
    """A layer does not give what it must; the message names its class, the file and the line."""


class Rules:
    """What is known of the layers of a network while a batch goes through it; `following` makes it.

    Attributes
    ----------
    noticed : tuple or None
        The last exception that came out of a layer, the innermost such layer, and what to say of it.
    shaper : str
        The last layer of one's own, with its place, that gave an output of a shape which nothing else tells: no norm.
    told : set
        Classes and the names of their arrays of which it was said that they are not saved.
    """

    def __init__(self, warn: bool = True) -> None:
        self._warn = warn
        self.noticed: tuple[BaseException, Layer, str] | None = None
        self.shaper = ""
        self.told: set[tuple[type, str]] = set()
        self._input: Array = None  # of the network
        self._wider: set[tuple[type, str]] = set()  # classes and methods whose wider dtype was said
        self._written: list[Array] = []  # arrays that a layer was given and wrote to
        self._writing: set[tuple[type, str]] = set()  # classes and methods of which that was said
        self._inputs: dict[int, list[Array]] = {}  # of each layer, by its id: what backward has to give gradients of
        self._shapes: dict[int, dict[str, tuple[int, ...]]] = {}  # of each layer's parameters and buffers, by name
        self._givers: dict[
            int, tuple[Array, str]
        ] = {}  # by the id of an array, which is kept so that the id is its own

    def begin(self, path: str, layer: Layer) -> None:
        """Look at the arrays of a layer as it was made."""
        self._arrays(path, layer, "__init__")
        self._shapes[id(layer)] = {name: array.shape for name, array in (*layer.params.items(), *layer.buffers.items())}
        if self._warn and (place := place_of(type(layer))):
            known = {id(array) for arrays in (layer.params, layer.grads, layer.buffers) for array in arrays.values()}
            for name, value in vars(layer).items():
                if is_array(value) and value.dtype in FLOATING and id(value) not in known:
                    self.told.add((type(layer), name))
                    log.warn(
                        "minidl",
                        f"{layer_name(path, layer)}: the array {name} is neither trained nor saved{place}; "
                        f"if it is to be, make it by self.add_param({name!r}, ...), or keep it in self.buffers",
                    )

    def forward(self, path: str, layer: Layer, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Return what a forward gives, looked at where it is given one array."""
        alone = len(args) == 1 and not named
        if path == "" and self._input is None and alone:
            self._input = args[0]
        before = self._copy(layer, "forward", args)
        y = self._called(path, layer, "forward", method, *args, **named)
        self._look_written(path, layer, "forward", args, before)
        self._arrays(path, layer, "forward")
        if not alone:
            return y
        x = args[0]
        self._look(path, layer, "forward", y, "the output", None)
        if is_own_norm(layer) and y.shape != x.shape:
            raise _wrong(path, layer, "forward", f"a norm must give an output of its input's shape {x.shape}", y)
        self._look_wider(path, layer, "forward", x, y)
        self._inputs.setdefault(id(layer), []).append(x)
        if place := place_of_method(layer, "forward"):
            self._givers.setdefault(id(y), (y, f"{layer_name(path, layer)}{place}"))
            if not is_own_norm(layer):
                self.shaper = f"{layer_name(path, layer)}{place}"
        return y

    def backward(self, path: str, layer: Layer, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Return what a backward gives, which must be the gradient of what its forward was given."""
        before = self._copy(layer, "backward", args)
        dx = self._called(path, layer, "backward", method, *args, **named)
        self._look_written(path, layer, "backward", args, before)
        self._arrays(path, layer, "backward")
        if not self._inputs.get(id(layer)):
            return dx
        x = self._inputs[id(layer)].pop()
        unused = x is self._input or not all(each.needs_dx for _, each in layer.named_layers())
        if dx is not None or not unused:
            self._look(path, layer, "backward", dx, "the gradient of its input", x.shape)
            self._look_wider(path, layer, "backward", args[0] if args else None, dx)
        return dx

    def _called(self, path: str, layer: Layer, name: str, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Call a method of a layer; of an error that comes out note the innermost layer, and what gave it its input."""
        try:
            return method(*args, **named)
        except Exception as error:
            *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
            if (
                isinstance(error, TypeError) and innermost.f_code.co_filename == __file__
            ):  # called otherwise than it takes
                wants = "x" if name == "forward" else "dy"
                raise LayerError(
                    f"{layer_name(path, layer)}: TypeError: {error}{place_of_method(layer, name)}; "
                    f"define it as {name}(self, {wants})"
                ) from error
            if self.noticed is None or self.noticed[0] is not error:
                giver = self._givers.get(id(args[0]), (None, ""))[1] if args else ""
                text = f", in {layer_name(path, layer)}" + (f", whose input came from {giver.strip()}" if giver else "")
                self.noticed = error, layer, text
            raise

    def _arrays(self, path: str, layer: Layer, name: str) -> None:
        """Raise LayerError unless parameters, gradients and buffers are such that they can be trained and kept."""

        def refuse(rule: str) -> None:
            place = place_of_method(layer, name) or place_of(type(layer))
            raise LayerError(f"{layer_name(path, layer)}: {rule}{place}")

        for what, arrays in (("parameter", layer.params), ("buffer", layer.buffers)):
            for key, array in arrays.items():
                if not is_array(array):
                    refuse(f"the {what} {key} must be an array, got {describe(array)}")
                if array.dtype not in FLOATING and (what == "parameter" or array.dtype.kind not in "iub"):
                    refuse(f"the {what} {key} must be of a real dtype, such as float32, got {array.dtype}")
        shapes = {key: array.shape for key, array in (*layer.params.items(), *layer.buffers.items())}
        for key, shape in self._shapes.get(id(layer), {}).items():
            if shapes.pop(key, None) != shape:
                now = (layer.params | layer.buffers).get(key)
                refuse(f"the array {key} must stay of the shape {shape} that it was made with, got {describe(now)}")
        if id(layer) in self._shapes and shapes:
            refuse(f"its arrays must be made in __init__, where a checkpoint finds them, got {', '.join(shapes)} later")
        if layer.grads.keys() != layer.params.keys():
            refuse(f"grads must have the names of params, {_names(layer.params)}, got {_names(layer.grads)}")
        for key, param in layer.params.items():
            grad = layer.grads[key]
            if not is_array(grad) or grad.shape != param.shape or grad.dtype != param.dtype:
                got = f"{grad.dtype} {grad.shape}" if is_array(grad) else describe(grad)
                refuse(f"the gradient of {key} must be {param.dtype} {param.shape}, got {got}")

    def _look(self, path: str, layer: Layer, name: str, array: Any, what: str, shape: tuple[int, ...] | None) -> None:
        """Raise LayerError unless this is a floating array, of the shape if one is known."""
        wanted = f"{what} must be an array" + ("" if shape is None else f" of the shape {shape}")
        if not is_array(array) or (shape is not None and array.shape != shape):
            none = name == "backward" and array is None
            more = "; return it, or set needs_dx = False where nobody needs it" if none else ""
            if type(array).__module__.partition(".")[0] == "torch":
                more = "; minidl takes NumPy's arrays: return that of .detach().numpy()"
            raise _wrong(path, layer, name, wanted, array, more)
        if array.dtype not in FLOATING:
            raise _wrong(path, layer, name, f"{what} must be of a real floating dtype", array)

    def _look_wider(self, path: str, layer: Layer, name: str, given: Any, array: Array) -> None:
        """Warn, once for a class, where a method of one's own gives a wider dtype than it is given."""
        if (
            not self._warn
            or not is_array(given)
            or given.dtype not in FLOATING
            or array.dtype.itemsize <= given.dtype.itemsize
        ):
            return
        place = place_of_method(layer, name)
        if place and (type(layer), name) not in self._wider:
            self._wider.add((type(layer), name))
            y, x = ("y", "x") if name == "forward" else ("dx", "dy")
            log.warn(
                "minidl",
                f"{layer_name(path, layer)}.{name}: it is given {given.dtype} and gives {array.dtype}, in which every "
                f"layer {'after' if name == 'forward' else 'before'} it then computes, several times slower{place}; "
                f"return {y}.astype({x}.dtype)",
            )

    def _copy(self, layer: Layer, name: str, args: tuple[Any, ...]) -> Array:
        """Return a copy of what a method of one's own is given, else None."""
        own = self._warn and args and is_array(args[0]) and place_of_method(layer, name)
        return args[0].copy() if own else None

    def _look_written(self, path: str, layer: Layer, name: str, args: tuple[Any, ...], before: Array) -> None:
        """Warn, once for a class, where a method wrote into what it was given; of two the inner one comes first."""
        if before is None or any(args[0] is each for each in self._written):
            return
        given = args[0]
        if given.shape == before.shape and bool(((given == before) | (before != before)).all()):
            return
        self._written.append(given)
        if (type(layer), name) in self._writing:
            return
        self._writing.add((type(layer), name))
        x, other = ("x", "before") if name == "forward" else ("dy", "after")
        log.warn(
            "minidl",
            f"{layer_name(path, layer)}.{name}: it writes into {x}, which is also the array of the layer {other} it, "
            f"so that gradients may be wrong{place_of_method(layer, name)}; compute a new one, as {x} = {x} * 2 does",
        )

    def warn_of_untrained(self, model: Layer) -> None:
        """Warn of each parameter of a layer of one's own whose gradient is 0 everywhere after a backward pass."""
        told = set()
        for path, layer in model.named_layers():
            place = place_of_method(layer, "backward") or place_of(type(layer))
            for name, grad in layer.grads.items() if place_of(type(layer)) else ():
                if grad.size and not grad.any() and (type(layer), name) not in told:
                    told.add((type(layer), name))
                    log.warn(
                        "minidl",
                        f"{layer_name(path, layer)}: the gradient of {name} is exactly 0 on random images, so that it "
                        f"would not be trained{place}; let backward add to self.grads[{name!r}]",
                    )


@contextmanager
def following(model: Layer, warn: bool = True) -> Iterator[Rules]:
    """Look at all that the layers of a network give within the ``with`` block.

    Parameters
    ----------
    model : Layer
    warn : bool
        Whether to warn of arrays that are not saved and of wider dtypes: a trained network has had these warnings.

    Raises
    ------
    LayerError
        From the first layer that gives no array, or a gradient of another shape than that of its input.
    """
    rules = Rules(warn)
    followed = [(path, layer, vars(layer).copy()) for path, layer in model.named_layers()]
    try:
        for path, layer, _ in followed:
            rules.begin(path, layer)
            _follow(rules, path, layer)
        yield rules
    finally:
        for _, layer, own in followed:
            for name in _METHODS:
                vars(layer).pop(name, None)
                if name in own:
                    vars(layer)[name] = own[name]


def _follow(rules: Rules, path: str, layer: Layer) -> None:
    forward, backward = layer.forward, layer.backward

    def followed_forward(*args: Any, **named: Any) -> Any:
        return rules.forward(path, layer, forward, *args, **named)

    def followed_backward(*args: Any, **named: Any) -> Any:
        return rules.backward(path, layer, backward, *args, **named)

    vars(layer).update(forward=followed_forward, backward=followed_backward)


def is_array(thing: Any) -> bool:
    """Whether something is an array of a library that is known."""
    if thing is None:
        return False
    try:
        array_module(thing)
    except TypeError:
        return False
    return True


def describe(thing: Any) -> str:
    """Return what something is, for the end of a message: an array by its shape, and its dtype where that is wrong."""
    if is_array(thing):
        return f"{thing.shape}" if thing.dtype in FLOATING else f"{thing.dtype} {thing.shape}"
    if thing is None:
        return "None"
    kind = type(thing).__name__
    if isinstance(thing, list | tuple):
        return f"a {kind} of {len(thing)}"
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _names(arrays: Mapping[str, Array]) -> str:
    return ", ".join(sorted(arrays)) or "none"


def _wrong(path: str, layer: Layer, name: str, rule: str, got: Any, more: str = "") -> LayerError:
    place = place_of_method(layer, name)
    return LayerError(f"{layer_name(path, layer)}.{name}: {rule}, got {describe(got)}{place}{more}")
