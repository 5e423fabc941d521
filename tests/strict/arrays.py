"""The array of the stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from strict.events import computed, synchronised

SCALARS = (bool, int, float, complex, np.generic)


class StrictError(AssertionError):
    """CuPy would go on in silence here, and do something slow or wrong."""


def unwrap(value: Any) -> Any:
    """Return what an operation may be given: the memory of a device array, or a scalar."""
    if type(value) is ndarray:
        return value._memory
    if value is None or isinstance(value, SCALARS):
        return value
    raise TypeError(f"Unsupported type {type(value)}: only arrays of the device and scalars may meet here")


def wrap(memory: Any) -> ndarray:
    """Return an array of the device over this memory; NumPy's scalars are its arrays of no dimension."""
    array = ndarray.__new__(ndarray)
    array._memory = np.asarray(memory)
    return array


def compute(function: Callable[..., Any], *args: Any, **kwargs: Any) -> ndarray:
    """Apply a NumPy function to unwrapped arguments, with no warning; the result is a new C-contiguous array."""
    computed(getattr(function, "__name__", str(function)))
    with np.errstate(all="ignore"):
        return wrap(np.asarray(function(*map(unwrap, args), **kwargs), order="C"))


def apply(ufunc: np.ufunc, *args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind") -> ndarray:
    """Call a ufunc as CuPy does: into a new C-contiguous array, or into `out`."""
    options = {} if dtype is None else {"dtype": dtype}
    computed(ufunc.__name__)
    with np.errstate(all="ignore"):
        if out is None:
            return wrap(ufunc(*map(unwrap, args), order="C", casting=casting, **options))
        if type(out) is not ndarray:
            raise TypeError("Output arguments type must be cupy.ndarray")
        ufunc(*map(unwrap, args), out=out._memory, casting=casting, **options)
    return out


def reduce(name: str, a: ndarray, out: ndarray | None = None, **options: Any) -> ndarray:
    """Call a method that reduces, into a new array or into `out`."""
    options = {key: value for key, value in options.items() if value is not None}
    result = compute(getattr(unwrap(a), name), **options)
    if out is None:
        return result
    if out.shape != result.shape or out.dtype != result.dtype:
        raise ValueError(f"out must be {result.dtype} {result.shape}, got {out.dtype} {out.shape}")
    out._memory[...] = result._memory
    return out


def index(key: Any, where: str) -> tuple[Any, ...]:
    """Return an index as NumPy takes it; an Ellipsis at its end makes one element a view."""
    parts = key if isinstance(key, tuple) else (key,)
    for part in parts:
        if part is None or part is Ellipsis or isinstance(part, slice | ndarray):
            continue
        if isinstance(part, bool | np.bool_) or not hasattr(part, "__index__") or isinstance(part, np.ndarray):
            raise StrictError(
                f"{where}: an index of {type(part)} would be uploaded at every call; keep it on the device"
            )
    unwrapped = tuple(part._memory if isinstance(part, ndarray) else part for part in parts)
    return unwrapped if any(part is Ellipsis for part in parts) else (*unwrapped, Ellipsis)


def _operator(ufunc: np.ufunc, reflected: bool = False) -> Any:
    def method(self: ndarray, other: Any) -> ndarray:
        return apply(ufunc, other, self) if reflected else apply(ufunc, self, other)

    return method


def _in_place(ufunc: np.ufunc) -> Any:
    def method(self: ndarray, other: Any) -> ndarray:
        return apply(ufunc, self, other, out=self)

    return method


def _unary(ufunc: np.ufunc) -> Any:
    return lambda self: apply(ufunc, self)


def _read(name: str, function: Callable[[np.ndarray], Any]) -> Any:
    def method(self: ndarray) -> Any:
        synchronised(name)
        return function(self._memory)

    return method


class ndarray:  # noqa: N801 (CuPy's name)
    """An array in the memory of the pretended device."""

    __slots__ = ("__weakref__", "_memory")
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 100

    def __init__(self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C"):
        if memptr is not None or strides is not None:
            raise StrictError("the stand-in's memory has no address to share")
        self._memory = np.empty(shape, dtype, order)  # type: ignore[call-overload]
        if self._memory.dtype.kind == "f":
            self._memory.fill(np.nan)
        elif self._memory.dtype.kind in "iu":
            self._memory.fill(np.iinfo(self._memory.dtype).max)

    # -- what it is --------------------------------------------------------------------------------------------------

    shape = property(lambda self: self._memory.shape)
    dtype = property(lambda self: self._memory.dtype)
    ndim = property(lambda self: self._memory.ndim)
    size = property(lambda self: self._memory.size)
    itemsize = property(lambda self: self._memory.itemsize)
    nbytes = property(lambda self: self._memory.nbytes)
    strides = property(lambda self: self._memory.strides)
    flags = property(lambda self: self._memory.flags)
    T = property(lambda self: wrap(self._memory.T))

    @property
    def base(self) -> ndarray | None:
        return None if self._memory.base is None else wrap(self._memory.base)

    def __len__(self) -> int:
        return len(self._memory)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[i] for i in range(len(self)))

    # -- to the host -------------------------------------------------------------------------------------------------

    def get(self, stream: Any = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True) -> Any:
        synchronised("get()")
        if out is None:
            return np.array(self._memory, order=order)  # type: ignore[call-overload]
        if out.dtype != self.dtype or out.shape != self.shape:
            raise ValueError("out must have the array's dtype and shape")
        out[...] = self._memory
        return out

    item = _read("item()", lambda a: a.item())
    tolist = _read("tolist()", lambda a: a.tolist())
    __float__ = _read("float()", float)
    __int__ = _read("int()", int)
    __complex__ = _read("complex()", complex)
    __bool__ = _read("bool()", bool)
    __repr__ = _read("repr()", repr)
    __str__ = _read("str()", str)

    def __format__(self, spec: str) -> str:
        synchronised("format()")
        return format(self._memory[()], spec)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
            "explicitly."
        )

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise StrictError(f"np.{function.__name__} was called with an array of the device; CuPy would take it over")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        others = [x for x in inputs if x is not self]
        if method == "__call__" and not kwargs and len(others) == 1 and isinstance(others[0], np.generic):
            return apply(ufunc, *inputs)  # scalar + array
        if any(isinstance(x, np.ndarray) for x in inputs) or any(
            isinstance(x, np.ndarray) for x in kwargs.get("out", ())
        ):
            raise TypeError(f"Unsupported type {np.ndarray}: only arrays of the device and scalars may meet here")
        raise StrictError(f"np.{ufunc.__name__} was called with an array of the device; CuPy would take it over")

    # -- elements ----------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> ndarray:
        parts = key if isinstance(key, tuple) else (key,)
        indices = [part for part in parts if isinstance(part, ndarray)]
        if any(part.dtype == bool for part in indices):
            synchronised("a boolean mask")
        try:
            found = self._memory[index(key, "getitem")]
        except IndexError as error:
            raise (StrictError if indices else IndexError)(f"{error}; CuPy would wrap it around") from None
        if not indices:
            return wrap(found)
        computed("getitem")
        return wrap(np.asarray(found, order="C"))

    def __setitem__(self, key: Any, value: Any) -> None:
        computed("setitem")
        try:
            self._memory[index(key, "setitem")] = unwrap(value)
        except IndexError as error:
            raise StrictError(f"{error}; CuPy would wrap it around") from None

    def take(self, indices: Any, axis: int | None = None, out: ndarray | None = None) -> ndarray:
        if not isinstance(indices, ndarray | int):
            raise StrictError(
                f"take: indices of {type(indices)} would be uploaded at every call; keep them on the device"
            )
        try:
            result = compute(np.take, self, indices, axis=axis)
        except IndexError as error:
            raise StrictError(f"{error}; CuPy would wrap it around") from None
        if out is None:
            return result
        out[...] = result
        return out

    def fill(self, value: Any) -> None:
        computed("fill")
        self._memory.fill(unwrap(value))

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if type(arr) is not np.ndarray or arr.shape != self.shape or arr.dtype != self.dtype:
            raise TypeError("set takes a host array of the same shape and dtype")
        self._memory[...] = arr

    # -- other forms -------------------------------------------------------------------------------------------------

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True
    ) -> ndarray:
        if not copy and self.dtype == np.dtype(dtype):
            return self
        computed("astype")
        with np.errstate(all="ignore"):
            return wrap(self._memory.astype(dtype, order=order))  # type: ignore[call-overload]

    def copy(self, order: str = "C") -> ndarray:
        computed("copy")
        return wrap(self._memory.copy(order=order))  # type: ignore[call-overload]

    def reshape(self, *shape: Any, order: str = "C", copy: Any = None) -> ndarray:
        result = self._memory.reshape(*shape, order=order)  # type: ignore[call-overload]
        if not np.may_share_memory(result, self._memory):
            computed("reshape")
        return wrap(result)

    def ravel(self, order: str = "C") -> ndarray:
        return self.reshape(-1, order=order)

    def view(self, dtype: Any = None, type: Any = None) -> ndarray:
        return wrap(self._memory.view() if dtype is None else self._memory.view(dtype))

    def transpose(self, *axes: Any) -> ndarray:
        return wrap(self._memory.transpose(*axes))

    def swapaxes(self, axis1: int, axis2: int) -> ndarray:
        return wrap(self._memory.swapaxes(axis1, axis2))

    def squeeze(self, axis: Any = None) -> ndarray:
        return wrap(self._memory.squeeze(axis))

    # -- reductions --------------------------------------------------------------------------------------------------

    def sum(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return reduce("sum", self, out, axis=axis, dtype=dtype, keepdims=keepdims)

    def prod(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return reduce("prod", self, out, axis=axis, dtype=dtype, keepdims=keepdims)

    def mean(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return reduce("mean", self, out, axis=axis, dtype=dtype, keepdims=keepdims)

    def max(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return reduce("max", self, out, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return reduce("min", self, out, axis=axis, keepdims=keepdims)

    def argmax(self, axis: Any = None, out: Any = None, dtype: Any = None, keepdims: bool = False) -> ndarray:
        return reduce("argmax", self, out, axis=axis, keepdims=keepdims)

    def argmin(self, axis: Any = None, out: Any = None, dtype: Any = None, keepdims: bool = False) -> ndarray:
        return reduce("argmin", self, out, axis=axis, keepdims=keepdims)

    def all(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return reduce("all", self, out, axis=axis, keepdims=keepdims)

    def any(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return reduce("any", self, out, axis=axis, keepdims=keepdims)

    def nonzero(self) -> tuple[ndarray, ...]:
        synchronised("nonzero()")
        return tuple(map(wrap, self._memory.nonzero()))

    # -- arithmetic --------------------------------------------------------------------------------------------------

    __add__, __radd__, __iadd__ = _operator(np.add), _operator(np.add, True), _in_place(np.add)
    __sub__, __rsub__, __isub__ = _operator(np.subtract), _operator(np.subtract, True), _in_place(np.subtract)
    __mul__, __rmul__, __imul__ = _operator(np.multiply), _operator(np.multiply, True), _in_place(np.multiply)
    __truediv__, __rtruediv__ = _operator(np.true_divide), _operator(np.true_divide, True)
    __itruediv__ = _in_place(np.true_divide)
    __floordiv__, __rfloordiv__ = _operator(np.floor_divide), _operator(np.floor_divide, True)
    __mod__, __rmod__ = _operator(np.remainder), _operator(np.remainder, True)
    __pow__, __rpow__ = _operator(np.power), _operator(np.power, True)
    __and__, __or__, __xor__ = _operator(np.bitwise_and), _operator(np.bitwise_or), _operator(np.bitwise_xor)
    __lt__, __le__ = _operator(np.less), _operator(np.less_equal)
    __gt__, __ge__ = _operator(np.greater), _operator(np.greater_equal)
    __eq__, __ne__ = _operator(np.equal), _operator(np.not_equal)
    __neg__, __abs__, __invert__ = _unary(np.negative), _unary(np.absolute), _unary(np.invert)

    def __matmul__(self, other: Any) -> ndarray:
        return product(self, other)


def product(a: Any, b: Any, out: ndarray | None = None) -> ndarray:
    """Return a @ b of matrices and vectors, into `out` where it is given."""
    if type(a) is not ndarray or type(b) is not ndarray:
        raise TypeError(
            f"Unsupported type {type(b if type(a) is ndarray else a)}: a product takes arrays of the device"
        )
    if a.ndim > 2 or b.ndim > 2:
        raise StrictError(f"a product of {a.ndim} and {b.ndim} dimensions is no single cuBLAS call; write it in two")
    if out is None:
        return compute(np.matmul, a, b)
    dtype = np.result_type(a.dtype, b.dtype)
    if out.dtype != dtype or not out.flags.c_contiguous:
        raise StrictError(f"a product into `out` needs a C-contiguous {dtype}, else CuPy computes it aside and copies")
    computed("matmul")
    with np.errstate(all="ignore"):
        np.matmul(a._memory, b._memory, out=out._memory)
    return out


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> np.ndarray:
    """Return a host copy."""
    return a.get(stream=stream, order=order, out=out) if isinstance(a, ndarray) else np.asarray(a)
