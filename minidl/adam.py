"""Adam and AdamW on the flat buffers of `minidl.optim`."""

import math
from collections.abc import Mapping

import numpy as np

from .arguments import arithmetic
from .backend import Array, array_module
from .engine import engine
from .layers.base import Layer
from .optim import FlatOptimiser, Groups


def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    scratch: Array,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
    step: int,
) -> None:
    """Change the parameters p and the moments m, v in place, along the gradients g, for arrays of one shape.

    g' = g + weight_decay·p, or where the decay is decoupled  p ← (1 − lr·weight_decay)·p  and g' = g; then
    m ← β1·m + (1 − β1)·g',  v ← β2·v + (1 − β2)·g'²,  p ← p − lr·m̂/(sqrt(v̂) + eps), with m̂ = m/(1 − β1^step) and
    v̂ = v/(1 − β2^step). `step` counts from 1, `scratch` is memory to work in.
    """
    xp = array_module(p, g, m, v)
    beta1, beta2 = betas
    if weight_decay and decoupled:
        xp.multiply(p, 1 - lr * weight_decay, out=p)
    elif weight_decay:
        xp.multiply(p, weight_decay, out=scratch)
        g = xp.add(scratch, g, out=scratch)  # g'
    xp.multiply(m, beta1 / (1 - beta1), out=m)
    xp.add(m, g, out=m)
    xp.multiply(m, 1 - beta1, out=m)
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


class Adam(FlatOptimiser):
    """Adam (Kingma & Ba 2015, Adam: a method for stochastic optimization, ICLR, Algorithm 1).

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
        β1 and β2: the share of the moments that a step keeps.
    eps : float
        Added to the root of the second moment, so that a parameter whose gradients vanish stays.
    weight_decay : float
        Added to every parameter's gradient, times the parameter: those of norms and biases as well.
    groups : mapping, optional
        Rates of their own for some parameters, as in `minidl.SGD`.

    Raises
    ------
    ValueError
        If lr or weight_decay is negative, a beta is outside [0, 1), eps is not positive, or a parameter is float16, in
        which squares of gradients vanish.

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
        groups: Groups | None = None,
    ) -> None:
        super().__init__(model, lr, ("first", "second"), groups)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            self._refuse("betas", "be two numbers in [0, 1)", betas, "(0.9, 0.999)")
        if not 0 < eps < math.inf:
            self._refuse("eps", "be positive and finite", eps, "1e-8")
        if not 0 <= weight_decay < math.inf:
            self._refuse("weight_decay", "be at least 0 and finite", weight_decay, 0.01)
        if any(flat.params.dtype.itemsize < 4 for flat in self._flats):
            self._refuse("model", "have parameters of float32 or float64", "float16", "dtype='float32'")
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.steps = 0

    @arithmetic()
    def step(self) -> None:
        """Change every parameter, in place."""
        self.steps += 1
        for flat in self._flats:
            flat.attach()
            decay = self.weight_decay if flat.weight_decay is None else flat.weight_decay
            rates = self.lr * flat.lr, self.betas, self.eps, decay, self.decoupled, self.steps
            on = engine(flat.params)
            on(adam)(flat.params, flat.grads, flat.kept["first"], flat.kept["second"], flat.scratch, *rates)

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of the moments on the host, {"first.path.name": m, "second.path.name": v}, and "steps"."""
        return super().state() | {"steps": np.array([self.steps], np.int64)}

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
        if "steps" not in state or np.shape(state["steps"]) != (1,):
            raise ValueError(
                f"{type(self).__name__}.load_state: state must have steps, an array of one number, "
                f"got {state.get('steps')}; load the state of the same network and optimiser"
            )
        super().load_state({name: array for name, array in state.items() if name != "steps"})
        self.steps = int(state["steps"][0])


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, Decoupled weight decay regularization, ICLR).

    Before each step of Adam, whose g' is then g itself,

        p ← (1 − lr·weight_decay)·p.

    Errors and state are those of `Adam`. As in PyTorch the decay follows the learning rate, where Algorithm 2 of the
    paper has a multiplier of the schedule alone.

    Parameters
    ----------
    model : Layer
        As for `Adam`, like the next three.
    lr : float
        The learning rate.
    betas : (float, float)
        β1 and β2.
    eps : float
        Added to the root of the second moment.
    weight_decay : float
        The share of every parameter that a step takes off, times lr.
    groups : mapping, optional
        As for `Adam`.

    Examples
    --------
    >>> from minidl import Linear
    >>> layer = Linear(1, 1, rng=np.random.default_rng(0))
    >>> layer.params["weight"][:] = 8
    >>> AdamW(layer, lr=0.5, weight_decay=0.25).step()  # the gradient is 0: only the decay acts
    >>> layer.params["weight"]
    array([[7.]], dtype=float32)
    """

    decoupled = True

    def __init__(
        self,
        model: Layer,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(model, lr, betas, eps, weight_decay, groups)
