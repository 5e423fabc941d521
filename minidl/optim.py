"""Stochastic gradient descent on flat buffers.

A network has dozens of small arrays, and a NumPy call costs about as much on ten numbers as on a thousand. So the
optimiser lays all parameters side by side in one buffer and all gradients in another, and gives the layers views into
them: a step is then a handful of calls, however many layers there are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arguments import arithmetic
from .backend import Array, array_module, to_host
from .engine import engine
from .layers.base import Layer

Groups = Mapping[str, Mapping[str, float]]  # {how a parameter's name begins: {"lr": ..., "weight_decay": ...}}


@dataclass
class _Flat:
    """All arrays of one dtype and group: buffers of equal length, and where each array lies in them."""

    params: Array
    grads: Array
    scratch: Array
    kept: dict[str, Array]  # what the optimiser keeps for each parameter
    places: dict[str, tuple[slice, tuple[int, ...]]]  # {"path.name": (where, shape)}
    members: list["_Member"]
    lr: float = 1.0  # what the rate is multiplied by
    weight_decay: float | None = None  # instead of the optimiser's

    def attach(self) -> None:
        """Take arrays that came in the place of the views into these buffers, with their values, and make them views.

        They come there by a copy or a pickle of network and optimiser, by another optimiser over the same network, or
        by an assignment to `layer.params[name]`.

        Raises
        ------
        RuntimeError
            If an array is gone, or of another shape or dtype.
        """
        for member in self.members:
            layer, name = member.layer, member.name
            if layer.params.get(name) is not member.param:
                member.take(layer.params, self.params)
            if layer.grads.get(name) is not member.grad:
                member.take(layer.grads, self.grads)


@dataclass
class _Member:
    """One array of a layer: its place in the buffers, and the views that the layer was given of it."""

    layer: Layer
    name: str
    full: str
    where: slice
    shape: tuple[int, ...]
    param: Array = None
    grad: Array = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the views out of a copy and of a pickle: arrays come there as arrays of their own."""
        return vars(self) | {"param": None, "grad": None}

    def take(self, arrays: dict[str, Array], buffer: Array) -> None:
        """Write the layer's array into the buffer, and give the layer a view of it instead."""
        array, view = arrays.get(self.name), buffer[self.where].reshape(self.shape)
        if array is None or array.shape != self.shape or array.dtype != buffer.dtype:
            got = "none" if array is None else f"one of {array.shape}, {array.dtype}"
            raise RuntimeError(
                f"{self.full} must be an array of {self.shape}, {buffer.dtype}, as the optimiser found it, got {got}; "
                "make a new optimiser after changing the network"
            )
        view[...] = array
        arrays[self.name] = view
        if arrays is self.layer.params:
            self.param = view
        else:
            self.grad = view


class FlatOptimiser:
    """What optimisers share: flat buffers, the learning rate, and the state that a checkpoint holds.

    Parameters
    ----------
    model : Layer
        Its parameters and gradients move into flat buffers (one a dtype), and `layer.params[...]`, `layer.grads[...]`
        become views of them: arrays taken from the model earlier are no longer its parameters.
    lr : float
        The learning rate. The attribute `lr` may be set before any step.
    kept : tuple of str
        Names of the buffers that the rule keeps beside the parameters, 0 at first.
    groups : mapping, optional
        For parameters whose own name begins so, such as "gate.": what "lr" is multiplied by, and a "weight_decay" of
        their own.
    """

    def __init__(self, model: Layer, lr: float, kept: tuple[str, ...], groups: Groups | None = None) -> None:
        if not 0 <= lr < math.inf:
            self._refuse("lr", "be at least 0 and finite", lr, 0.1)
        for prefix, rates in (groups or {}).items():
            if unknown := rates.keys() - {"lr", "weight_decay"}:
                self._refuse("groups", "have lr and weight_decay alone", ", ".join(sorted(unknown)), '{"lr": 0.1}')
            for name, value in rates.items():
                if not 0 <= value < math.inf:
                    self._refuse(f"{name} of {prefix}", "be at least 0 and finite", value, 0.1)
        self.lr = lr
        self._kept, self._groups = kept, dict(groups or {})
        self._flats = _flatten(model, kept, self._groups)

    def _refuse(self, name: str, rule: str, value: object, cure: object) -> None:
        raise ValueError(f"{type(self).__name__}: {name} must {rule}, got {value}; try {cure}")

    def step(self) -> None:
        """Change every parameter along its gradient, in place."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Set every gradient to zero."""
        for flat in self._flats:
            flat.attach()
            flat.grads.fill(0)

    def state(self) -> dict[str, np.ndarray]:
        """Return copies on the host of what is kept for each parameter, as {"velocity.path.name": array}."""
        return {
            name: np.array(to_host(buffer[where])).reshape(shape)
            for name, (buffer, where, shape) in self._places().items()
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state` returned.

        Parameters
        ----------
        state : mapping of names to arrays
            Copied.

        Raises
        ------
        ValueError
            If an array is missing, unknown, or of another shape; nothing is changed then.
        """
        places = self._places()
        for problem, names in (("missing", places.keys() - state.keys()), ("unexpected", state.keys() - places.keys())):
            if names:
                raise ValueError(
                    f"{type(self).__name__}.load_state: state must fit the model, got {problem} "
                    f"{', '.join(sorted(names))}; load the state of the same network and optimiser"
                )
        for name, (_, _, shape) in places.items():
            if np.shape(state[name]) != shape:
                raise ValueError(
                    f"{type(self).__name__}.load_state: {name} must have shape {shape}, got {np.shape(state[name])}; "
                    "load the state of the same network and optimiser"
                )
        for name, (buffer, where, _) in places.items():
            buffer[where] = array_module(buffer).asarray(state[name], dtype=buffer.dtype).ravel()

    def follow(self, model: Layer, rows: Mapping[str, Sequence[int]]) -> None:
        """Lay out anew a network of which some arrays gained or lost rows; what is kept for a row goes with it.

        Parameters
        ----------
        model : Layer
            The network, changed: `minidl.norm.select`.
        rows : {"path.name": rows}
            The arrays that changed, and of which rows of their former selves they consist.
        """
        state = self.state()
        for name, array in state.items():
            path = name.partition(".")[2]
            if path in rows:
                state[name] = array[list(rows[path])]
        self._flats = _flatten(model, self._kept, self._groups)
        self.load_state(state)

    def _places(self) -> dict[str, tuple[Array, slice, tuple[int, ...]]]:
        """Return {"velocity.path.name": (buffer, where, shape)}."""
        return {
            f"{kind}.{path}": (buffer, where, shape)
            for flat in self._flats
            for kind, buffer in flat.kept.items()
            for path, (where, shape) in flat.places.items()
        }


def sgd(
    p: Array, g: Array, v: Array, scratch: Array, lr: float, momentum: float, weight_decay: float, nesterov: bool
) -> None:
    """Change the parameters p and the velocities v in place, along the gradients g, for arrays of one shape.

    g' = g + weight_decay·p,  v ← momentum·v + g',  p ← p − lr·v, or with nesterov p ← p − lr·(g' + momentum·v).
    `scratch` is memory to work in.
    """
    xp = array_module(p, g, v)
    if weight_decay:
        xp.multiply(p, weight_decay, out=scratch)
        g = xp.add(scratch, g, out=scratch)  # g'
    if momentum:
        xp.multiply(v, momentum, out=v)
        xp.add(v, g, out=v)
    xp.multiply(g if nesterov or not momentum else v, lr, out=scratch)
    xp.subtract(p, scratch, out=p)
    if nesterov:
        xp.multiply(v, lr * momentum, out=scratch)
        xp.subtract(p, scratch, out=p)


class SGD(FlatOptimiser):
    """Stochastic gradient descent with momentum, Nesterov's momentum and weight decay.

    With p a parameter, g its gradient and v its velocity (0 at first), one step is

        g' = g + weight_decay·p
        v  ← momentum·v + g'
        p  ← p − lr·v                    or, with nesterov,  p ← p − lr·(g' + momentum·v).

    Parameters
    ----------
    model : Layer
        Its parameters and gradients move into flat buffers (one a dtype), and `layer.params[...]`, `layer.grads[...]`
        become views of them: arrays taken from the model earlier are no longer its parameters. Arrays that are put in
        their place later, by a copy of network and optimiser or by another optimiser, are taken over at the next step.
    lr : float
        The learning rate. The attribute `lr` may be set before any step.
    momentum : float
        The share of the velocity that a step keeps.
    weight_decay : float
        Added to every parameter's gradient, times the parameter: those of norms and biases as well.
    nesterov : bool
        Step along the velocity that the next step would have if the gradient stayed: Nesterov's accelerated gradient in
        the form of Sutskever et al. 2013 (On the importance of initialization and momentum in deep learning, ICML,
        section 2), written in terms of the point where the gradient is taken.
    groups : mapping, optional
        Rates of their own for parameters whose own name begins so: ``{"gate.": {"lr": 0.1, "weight_decay": 1e-3}}``
        lets the gates of mode norms learn at a tenth of `lr`, with this decay.

    Raises
    ------
    ValueError
        If lr or weight_decay is negative, momentum is outside [0, 1), or nesterov is asked for without momentum.

    Notes
    -----
    This is PyTorch's rule: lr multiplies the whole velocity, so a drop of lr acts on the next step at once.

    Examples
    --------
    >>> import numpy as np
    >>> from minidl import SGD, Linear
    >>> layer = Linear(3, 2, rng=np.random.default_rng(0))
    >>> before = layer.params["bias"].copy()
    >>> optimiser = SGD(layer, lr=0.5)
    >>> layer.grads["bias"][:] = [1.0, 2.0]
    >>> optimiser.step()
    >>> layer.params["bias"] - before
    array([-0.5, -1. ], dtype=float32)
    """

    def __init__(
        self,
        model: Layer,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(model, lr, ("velocity",), groups)
        if not 0 <= momentum < 1:
            self._refuse("momentum", "lie in [0, 1)", momentum, 0.9)
        if not 0 <= weight_decay < math.inf:
            self._refuse("weight_decay", "be at least 0 and finite", weight_decay, "1e-4")
        if nesterov and momentum == 0:
            raise ValueError("SGD: nesterov must be used with momentum, got momentum 0; try momentum=0.9")
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.nesterov = nesterov

    @arithmetic()
    def step(self) -> None:
        """Change every parameter along its gradient, in place."""
        for flat in self._flats:
            flat.attach()
            decay = self.weight_decay if flat.weight_decay is None else flat.weight_decay
            rates = self.lr * flat.lr, self.momentum, decay, self.nesterov
            on = engine(flat.params)
            on(sgd)(flat.params, flat.grads, flat.kept["velocity"], flat.scratch, *rates)


def _flatten(model: Layer, kept: tuple[str, ...], groups: Groups) -> list[_Flat]:
    """Move the model's parameters and gradients into one buffer a dtype and group, in the order of the layers."""
    together: dict[tuple[str, str], list[tuple[str, Layer, str]]] = {}
    for path, layer in model.named_layers():
        for name, param in layer.params.items():
            full = f"{path}.{name}" if path else name
            group = next((prefix for prefix in groups if name.startswith(prefix)), "")
            together.setdefault((str(param.dtype), group), []).append((full, layer, name))

    flats = []
    for (dtype, group), members in together.items():
        xp = array_module(*(layer.params[name] for _, layer, name in members))
        size = sum(layer.params[name].size for _, layer, name in members)
        params, grads, scratch = (xp.zeros(size, dtype) for _ in range(3))
        flat = _Flat(params, grads, scratch, {name: xp.zeros(size, dtype) for name in kept}, places={}, members=[])
        flat.lr = groups.get(group, {}).get("lr", 1.0)
        flat.weight_decay = groups.get(group, {}).get("weight_decay")
        start = 0
        for full, layer, name in members:
            shape = layer.params[name].shape
            where = slice(start, start + layer.params[name].size)
            start = where.stop
            flat.places[full] = (where, shape)
            flat.members.append(_Member(layer, name, full, where, shape))
        flat.attach()
        flats.append(flat)
    return flats
