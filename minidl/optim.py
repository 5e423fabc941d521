"""Stochastic gradient descent on flat buffers.

A network has dozens of small arrays, and a NumPy call costs about as much on ten numbers as on a thousand. So the
optimiser lays all parameters side by side in one buffer and all gradients in another, and gives the layers views into
them: a step is then a handful of calls, however many layers there are.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .backend import Array, array_module, to_host
from .engine import engine
from .layers.base import Layer


@dataclass
class _Flat:
    """All arrays of one dtype: four buffers of equal length, and where each array lies in them."""

    params: Array
    grads: Array
    velocity: Array
    scratch: Array
    places: dict[str, tuple[slice, tuple[int, ...]]]  # {"path.name": (where, shape)}


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


class SGD:
    """Stochastic gradient descent with momentum, Nesterov momentum and weight decay.

    With p a parameter, g its gradient and v its velocity (0 at first), one step is

        g' = g + weight_decay·p
        v  ← momentum·v + g'
        p  ← p − lr·v                    or, with nesterov,  p ← p − lr·(g' + momentum·v).

    Parameters
    ----------
    model : Layer
        Its parameters and gradients move into flat buffers (one a dtype), and `layer.params[...]`, `layer.grads[...]`
        become views of them: arrays taken from the model earlier are no longer its parameters.
    lr : float
        The learning rate. The attribute `lr` may be set before any step.
    momentum : float
        The share of the velocity that a step keeps.
    weight_decay : float
        Added to every parameter's gradient, times the parameter: those of norms and biases as well.
    nesterov : bool
        Take the gradient a step ahead along the velocity.

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
        self, model: Layer, lr: float, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
    ) -> None:
        if not 0 <= lr < math.inf:
            raise ValueError(f"SGD.__init__: lr must be at least 0 and finite, got {lr}; try 0.1")
        if not 0 <= momentum < 1:
            raise ValueError(f"SGD.__init__: momentum must lie in [0, 1), got {momentum}; try 0.9")
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"SGD.__init__: weight_decay must be at least 0 and finite, got {weight_decay}; try 1e-4")
        if nesterov and momentum == 0:
            raise ValueError("SGD.__init__: nesterov must be used with momentum, got momentum 0; try momentum=0.9")
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.nesterov = nesterov
        self._flats = _flatten(model)

    def step(self) -> None:
        """Change every parameter along its gradient, in place."""
        rates = self.lr, self.momentum, self.weight_decay, self.nesterov
        for flat in self._flats:
            on = engine(flat.params)
            on(sgd)(flat.params, flat.grads, flat.velocity, flat.scratch, *rates)

    def zero_grad(self) -> None:
        """Set every gradient to zero."""
        for flat in self._flats:
            flat.grads.fill(0)

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of the velocities on the host, as {"velocity.path.name": array}."""
        return {
            f"velocity.{path}": np.array(to_host(flat.velocity[where])).reshape(shape)
            for flat in self._flats
            for path, (where, shape) in flat.places.items()
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over the velocities that `state` returned.

        Raises
        ------
        ValueError
            If a velocity is missing, unknown, or of another shape; nothing is changed then.
        """
        places = {
            f"velocity.{path}": (flat, where, shape)
            for flat in self._flats
            for path, (where, shape) in flat.places.items()
        }
        for problem, names in (("missing", places.keys() - state.keys()), ("unexpected", state.keys() - places.keys())):
            if names:
                raise ValueError(
                    f"SGD.load_state: state must fit the model, got {problem} {', '.join(sorted(names))}; "
                    "load the state of the same network"
                )
        for name, (_, _, shape) in places.items():
            if np.shape(state[name]) != shape:
                raise ValueError(
                    f"SGD.load_state: {name} must have shape {shape}, got {np.shape(state[name])}; "
                    "load the state of the same network"
                )
        for name, (flat, where, _) in places.items():
            xp = array_module(flat.velocity)
            flat.velocity[where] = xp.asarray(state[name], dtype=flat.velocity.dtype).ravel()


def _flatten(model: Layer) -> list[_Flat]:
    """Move the model's parameters and gradients into one buffer a dtype, in the order of the layers."""
    by_dtype: dict[str, list[tuple[str, Layer, str]]] = {}
    for path, layer in model.named_layers():
        for name, param in layer.params.items():
            full = f"{path}.{name}" if path else name
            by_dtype.setdefault(str(param.dtype), []).append((full, layer, name))

    flats = []
    for dtype, members in by_dtype.items():
        xp = array_module(*(layer.params[name] for _, layer, name in members))
        size = sum(layer.params[name].size for _, layer, name in members)
        params, grads, velocity, scratch = (xp.zeros(size, dtype) for _ in range(4))
        flat = _Flat(params, grads, velocity, scratch, places={})
        start = 0
        for full, layer, name in members:
            shape = layer.params[name].shape
            where = slice(start, start + layer.params[name].size)
            start = where.stop
            flat.places[full] = (where, shape)
            for arrays, buffer in ((layer.params, flat.params), (layer.grads, flat.grads)):
                view = buffer[where].reshape(shape)
                view[...] = arrays[name]
                arrays[name] = view
        flats.append(flat)
    return flats
