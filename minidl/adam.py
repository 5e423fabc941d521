"""Adam and AdamW on the flat buffers of `minidl.optim`."""

import math
from collections.abc import Mapping

import numpy as np

from .backend import Array, array_module, to_host
from .layers.base import Layer
from .optim import _flatten


def adam(
    p: Array, g: Array, m: Array, v: Array, scratch: Array, lr: float, betas: tuple[float, float], eps: float, step: int
) -> None:
    """Change the parameters p and the moments m, v in place, along the gradients g, for arrays of one shape.

    m ← β1·m + (1 − β1)·g,  v ← β2·v + (1 − β2)·g²,  p ← p − lr·m̂/(sqrt(v̂) + eps), with m̂ = m/(1 − β1^step) and
    v̂ = v/(1 − β2^step). `step` counts from 1, `scratch` is memory to work in.
    """
    xp = array_module(p, g, m, v)
    beta1, beta2 = betas
    xp.multiply(g, 1 - beta1, out=scratch)
    xp.multiply(m, beta1, out=m)
    xp.add(m, scratch, out=m)
    xp.multiply(g, g, out=scratch)
    xp.multiply(scratch, 1 - beta2, out=scratch)
    xp.multiply(v, beta2, out=v)
    xp.add(v, scratch, out=v)
    xp.sqrt(v, out=scratch)
    xp.multiply(scratch, 1 / math.sqrt(1 - beta2**step), out=scratch)
    xp.add(scratch, eps, out=scratch)
    xp.divide(m, scratch, out=scratch)
    xp.multiply(scratch, lr / (1 - beta1**step), out=scratch)
    xp.subtract(p, scratch, out=p)


class Adam:
    """Adam (Kingma & Ba 2015, Algorithm 1).

    With p a parameter, g its gradient, m and v its moments (0 at first) and t the number of the step, from 1 on,

        g' = g + weight_decay·p
        m  ← β1·m + (1 − β1)·g'
        v  ← β2·v + (1 − β2)·g'²
        p  ← p − lr·(m/(1 − β1^t)) / (sqrt(v/(1 − β2^t)) + eps).

    Parameters
    ----------
    model : Layer
        Its parameters and gradients move into flat buffers, as `minidl.SGD` moves them.
    lr : float
        The learning rate. The attribute `lr` may be set before any step.
    betas : (float, float)
        β1 and β2.
    eps : float
    weight_decay : float
        Added to every parameter's gradient, times the parameter.

    Raises
    ------
    ValueError
        If lr or weight_decay is negative, a beta is outside [0, 1), or eps is not positive.

    Examples
    --------
    >>> from minidl import Linear
    >>> layer = Linear(3, 2, rng=np.random.default_rng(0))
    >>> before = layer.params["bias"].copy()
    >>> optimiser = Adam(layer, lr=0.5)
    >>> layer.grads["bias"][:] = [1.0, -2.0]
    >>> optimiser.step()
    >>> layer.params["bias"] - before
    array([-0.5,  0.5], dtype=float32)
    """

    decoupled = False  # whether the decay is of the parameter itself, beside the gradient

    def __init__(
        self,
        model: Layer,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        name = type(self).__name__
        if not 0 <= lr < math.inf:
            raise ValueError(f"{name}.__init__: lr must be at least 0 and finite, got {lr}; try 0.001")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{name}.__init__: betas must lie in [0, 1), got {betas}; try (0.9, 0.999)")
        if not 0 < eps < math.inf:
            raise ValueError(f"{name}.__init__: eps must be positive and finite, got {eps}; try 1e-8")
        if not 0 <= weight_decay < math.inf:
            raise ValueError(
                f"{name}.__init__: weight_decay must be at least 0 and finite, got {weight_decay}; try 0.01"
            )
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.steps = 0
        self._flats = _flatten(model)  # the velocity is m
        self._squares = [array_module(flat.params).zeros_like(flat.params) for flat in self._flats]

    def step(self) -> None:
        """Change every parameter, in place."""
        self.steps += 1
        for flat, v in zip(self._flats, self._squares, strict=True):
            xp = array_module(flat.params)
            p, g = flat.params, flat.grads
            if self.weight_decay and self.decoupled:
                xp.multiply(p, 1 - self.lr * self.weight_decay, out=p)
            elif self.weight_decay:
                g = g + self.weight_decay * p
            adam(p, g, flat.velocity, v, flat.scratch, self.lr, self.betas, self.eps, self.steps)

    def zero_grad(self) -> None:
        """Set every gradient to zero."""
        for flat in self._flats:
            flat.grads.fill(0)

    def _places(self) -> dict[str, tuple[Array, slice, tuple[int, ...]]]:
        """Return {"first.path.name" or "second.path.name": (buffer, where, shape)}."""
        return {
            f"{kind}.{path}": (buffer, where, shape)
            for flat, square in zip(self._flats, self._squares, strict=True)
            for kind, buffer in (("first", flat.velocity), ("second", square))
            for path, (where, shape) in flat.places.items()
        }

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of the moments on the host, {"first.path.name": m, "second.path.name": v}, and "steps"."""
        moments = {
            name: np.array(to_host(buffer[where])).reshape(shape)
            for name, (buffer, where, shape) in self._places().items()
        }
        return {**moments, "steps": np.array([self.steps], np.int64)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state` returned.

        Raises
        ------
        ValueError
            If an array is missing, unknown, or of another shape; nothing is changed then.
        """
        places = self._places()
        shapes = {name: shape for name, (_, _, shape) in places.items()} | {"steps": (1,)}
        wrong = [f"missing {name}" for name in shapes if name not in state]
        wrong += [f"unexpected {name}" for name in state if name not in shapes]
        wrong += [
            f"{name} of shape {np.shape(state[name])} instead of {shape}"
            for name, shape in shapes.items()
            if name in state and np.shape(state[name]) != shape
        ]
        if wrong:
            raise ValueError(
                f"{type(self).__name__}.load_state: state must fit the model, got {'; '.join(wrong)}; "
                "load the state of the same network and optimiser"
            )
        for name, (buffer, where, _) in places.items():
            buffer[where] = array_module(buffer).asarray(state[name], dtype=buffer.dtype).ravel()
        self.steps = int(state["steps"][0])


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): p ← (1 − lr·weight_decay)·p, then Adam's step on g.

    Parameters, errors and state are those of `Adam`; `weight_decay` is 0.01 by default.
    """

    decoupled = True

    def __init__(
        self,
        model: Layer,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(model, lr, betas, eps, weight_decay)
