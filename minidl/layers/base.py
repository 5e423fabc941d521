"""What every layer has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from minidl.backend import Array, array_module, is_on_host, is_plain, to_device, to_host
from minidl.engine import WRITTEN, Engine, engine, host_engine
from minidl.layers.unchanged import Unchanged


def compute_dtype(x: Array, weight: Array) -> Any:
    """Return the dtype that a layer with weights computes in: the wider of the two, and at least float32."""
    if x.dtype == weight.dtype and x.dtype.itemsize > 2:
        return x.dtype
    return np.result_type(x.dtype, weight.dtype, np.float32)


def read_only(array: Array) -> Array:
    """Return an array that backward needs so that it cannot be written to; of another library than NumPy as it is."""
    if is_on_host(array):
        array.flags.writeable = False
    return array


FLOATING = frozenset(np.dtype(name) for name in ("float16", "float32", "float64"))


def check_arrays(**named: Array) -> None:
    """Raise TypeError unless each is an array of a library that is known."""
    for name, array in named.items():
        if is_plain(array):
            continue
        if array is None:
            raise TypeError(f"{name} must be a numpy or cupy array, got None; pass one")
        array_module(**{name: array})


def check_floating(what: str, **named: Array) -> None:
    """Raise ValueError unless the array has a floating dtype: the one rule for what layers and losses compute with.

    The floating dtypes are those that every engine has: no wider ones, and in the byte order of the machine.
    """
    for name, array in named.items():
        if array.dtype not in FLOATING:
            wanted = "float16, float32 or float64 as this machine orders bytes" if array.dtype.kind == "f" else ""
            raise ValueError(
                f"{what}: {name} must be of {wanted or 'a floating dtype'}, got {array.dtype}; "
                f"use {name}.astype('float32')"
            )


class Layer:
    """A differentiable function with its parameters: ``y = forward(x)``, then ``dx = backward(dy)``.

    Attributes
    ----------
    params, grads : dict of arrays, same keys
        `backward` **adds** to `grads`; `zero_grad` sets them to zero.
    buffers : dict of arrays
        State that is not trained: running statistics.
    training : bool
        The mode of the next forward; backward always fits the forward it follows.
    needs_dx : bool
        Where False, backward returns None instead of dx: the first layer of a network.

    Examples
    --------
    A layer of one's own is a forward with its backward; `keep` and `kept` hand over what backward needs.

    >>> class Square(Layer):
    ...     def forward(self, x):
    ...         self.keep(x)
    ...         return x * x
    ...
    ...     def backward(self, dy):
    ...         _, (x,) = self.kept(dy)
    ...         return 2 * x * dy
    >>> square = Square()
    >>> square(np.array([3.0, -1.0]))
    array([9., 1.])
    >>> square.backward(np.array([1.0, 1.0]))
    array([ 6., -2.])
    """

    _written: ClassVar[tuple[Any, Any]]  # forward and backward of the class's source, whatever is put in their place

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls._written = cls.forward, cls.backward

    def __init__(self) -> None:
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        self.buffers: dict[str, Array] = {}
        self.training = True
        self.needs_dx = True
        self._kept: Any = None
        self._output_shape: tuple[int, ...] | None = None  # of the last forward, where a Sequential or Residual called

    def forward(self, x: Array) -> Array:
        """Return y and keep what backward needs."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(self, x)")

    def backward(self, dy: Array) -> Array:
        """Return dL/dx for dy = dL/dy, and add dL/dparams to `grads`; it uses up what forward kept."""
        raise NotImplementedError(f"{type(self).__name__} must define backward(self, dy)")

    def __call__(self, x: Array) -> Array:
        """Return ``forward(x)``."""
        return self.forward(x)

    # -- what a subclass uses ------------------------------------------------------------------------------------

    def add_param(self, name: str, value: np.ndarray) -> None:
        """Make a parameter and its gradient from a host array."""
        if not isinstance(name, str):
            raise TypeError(f"{type(self).__name__}.add_param: name must be text, before the array, got {type(name)}")
        self.params[name] = to_device(value)
        self.grads[name] = to_device(np.zeros_like(value))

    def engine(self, x: Array) -> Engine:
        """Return the engine for x, a floating array of the parameters' library."""
        weight = self.params.get("weight")
        if is_plain(x) and (weight is None or is_plain(weight)):
            on = host_engine()
        else:
            check_arrays(x=x)
            on = engine(x=x, weight=weight)
        if x.size == 0:
            on = WRITTEN  # so that no twin need think of batches without samples
        if x.dtype not in FLOATING:
            check_floating(f"{type(self).__name__}.forward", x=x)
        return on

    def keep(self, *values: Any, of: Array = None, shape: tuple[int, ...] | None = None) -> None:
        """Keep the values for backward, with the mode this forward ran in.

        Parameters
        ----------
        *values : Any
            What backward needs.
        of : array, optional
            An array of somebody else's that they depend on: backward is an error once it was written to.
        shape : tuple of int, optional
            The shape of y: `kept` then refuses a dy of another.
        """
        self._kept = (self.training, values, None if of is None else Unchanged(of), shape)

    def kept(self, dy: Array) -> tuple[bool, Any]:
        """Return ``(training, values)`` of the forward that comes before, and forget them.

        Parameters
        ----------
        dy : array
            That backward got: it must be floating, and of the shape of y where `keep` was given one.

        Returns
        -------
        training : bool
            The mode that the forward ran in.
        values : tuple
            What `keep` was given.

        Raises
        ------
        RuntimeError
            If no forward came before, or x was written to since.
        ValueError
            If dy is of another dtype or shape; nothing is forgotten then.
        """
        if self._kept is None:
            name = type(self).__name__
            raise RuntimeError(f"{name}.backward: forward must come first, and each forward allows one backward")
        if not is_plain(dy):
            check_arrays(dy=dy)
        if dy.dtype not in FLOATING:
            check_floating(f"{type(self).__name__}.backward", dy=dy)
        shape = self._kept[3]
        if shape is not None and dy.shape != shape:
            raise ValueError(
                f"{type(self).__name__}.backward: dy must have the shape of y, {shape}, got {dy.shape}; "
                f"pass dL/dy for the y that forward returned"
            )
        return self.take_kept()

    def take_kept(self) -> tuple[bool, Any]:
        """Return what `kept` does, for a dy that is looked at already."""
        (training, values, of, _), self._kept = self._kept, None
        if of is not None and not of.holds():
            raise RuntimeError(
                f"{type(self).__name__}.backward: x must be as forward saw it, got one that was written to since; "
                "write to a copy, or after backward"
            )
        return training, values

    # -- the tree of layers --------------------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Layer]]:
        """Yield (name, layer) for each attribute that is a layer, in the order of assignment."""
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                yield name, value

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """Yield (path, layer) for this layer (path "") and all below it, parents first."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_layers(f"{prefix}.{name}" if prefix else name)

    def train(self, mode: bool = True) -> Self:
        """Put the whole tree into training mode; return self."""
        for _, layer in self.named_layers():
            layer.training = mode
        return self

    def eval(self) -> Self:
        """Put the whole tree into inference mode; return self."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Set every gradient of the tree to zero."""
        for _, layer in self.named_layers():
            for grad in layer.grads.values():
                grad[...] = 0

    def num_params(self) -> int:
        """Return the number of trained values in the tree."""
        return sum(int(p.size) for _, layer in self.named_layers() for p in layer.params.values())

    def __str__(self) -> str:
        """Return a table of the tree: settings, output shapes once they are known, and parameters."""
        from minidl.layers.show import table

        return table(self) if any(True for _ in self.children()) else repr(self)

    def __repr__(self) -> str:
        """Return the layer's settings, as its constructor takes them."""
        from minidl.layers.show import name_and_settings

        return name_and_settings(self)

    # -- saving and loading --------------------------------------------------------------------------------------

    def _named_arrays(self) -> dict[str, Array]:
        """Return {"path.name": the array itself} for every parameter and buffer of the tree."""
        return {
            f"{path}.{name}" if path else name: array
            for path, layer in self.named_layers()
            for arrays in (layer.params, layer.buffers)
            for name, array in arrays.items()
        }

    def state(self) -> dict[str, np.ndarray]:
        """Return {"path.name": array}: host copies of all parameters and buffers of the tree."""
        return {name: np.array(to_host(array)) for name, array in self._named_arrays().items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Write a state's values into the parameters and buffers, in place; values are cast to their dtypes.

        Parameters
        ----------
        state : mapping of names to arrays
            As `state` gives it.

        Raises
        ------
        ValueError
            If a name is missing or unexpected, or a shape differs; nothing is changed then.
        """
        own = self._named_arrays()
        wrong = [f"missing {name}" for name in own if name not in state]
        wrong += [f"unexpected {name}" for name in state if name not in own]
        wrong += [
            f"{name} has shape {tuple(state[name].shape)}, expected {tuple(array.shape)}"
            for name, array in own.items()
            if name in state and tuple(state[name].shape) != tuple(array.shape)
        ]
        if wrong:
            raise ValueError(
                f"{type(self).__name__}.load_state: state must fit the layer, got {'; '.join(wrong)}; "
                f"build the same network as the one that was saved"
            )
        for name, array in own.items():
            array[...] = to_device(to_host(state[name]), like=array)
