"""The functions of the stand-in: CuPy's names and parameters, those that minidl uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from strict.arrays import StrictError, apply, compute, ndarray, product, reduce, unwrap, wrap
from strict.events import synchronised, uploaded

__all__ = [
    "abs",
    "absolute",
    "add",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "array",
    "array_equal",
    "asarray",
    "ascontiguousarray",
    "bool_",
    "broadcast_to",
    "clip",
    "concatenate",
    "copyto",
    "divide",
    "dtype",
    "empty",
    "empty_like",
    "equal",
    "exp",
    "expand_dims",
    "flatnonzero",
    "float16",
    "float32",
    "float64",
    "floor_divide",
    "full",
    "full_like",
    "greater",
    "greater_equal",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "is_available",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "log",
    "log2",
    "logical_and",
    "logical_not",
    "logical_or",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "moveaxis",
    "multiply",
    "nan",
    "negative",
    "newaxis",
    "nonzero",
    "not_equal",
    "ones",
    "ones_like",
    "pad",
    "power",
    "promote_types",
    "ravel",
    "repeat",
    "reshape",
    "result_type",
    "sign",
    "sqrt",
    "square",
    "stack",
    "subtract",
    "sum",
    "take",
    "tanh",
    "transpose",
    "true_divide",
    "uint8",
    "unique",
    "where",
    "zeros",
    "zeros_like",
]

bool_, dtype, inf, nan, newaxis = np.bool_, np.dtype, np.inf, np.nan, np.newaxis
int8, int16, int32, int64, uint8 = np.int8, np.int16, np.int32, np.int64, np.uint8
float16, float32, float64 = np.float16, np.float32, np.float64
promote_types = np.promote_types


def is_available() -> bool:
    return True


def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    return np.result_type(*(a.dtype if isinstance(a, ndarray) else a for a in arrays_and_dtypes))


# -- new arrays --------------------------------------------------------------------------------------------------------


def array(
    obj: Any,
    dtype: Any = None,
    copy: bool = True,
    order: str = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    if isinstance(obj, ndarray):
        return obj.astype(obj.dtype if dtype is None else dtype, order=order, copy=copy)
    uploaded()
    host = np.array(obj, dtype, ndmin=ndmin)
    fortran = host.flags.f_contiguous and not host.flags.c_contiguous and order in "KAF"
    return wrap(np.array(host, order="F" if fortran else "C"))


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False) -> ndarray:
    return array(a, dtype, bool(copy), order or "K", blocking=blocking)


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    if isinstance(a, ndarray) and a.flags.c_contiguous and dtype in (None, a.dtype):
        return a
    return asarray(a).astype(dtype or asarray(a).dtype, order="C")


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype, order=order)


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return full(shape, 0, dtype, order)


def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return full(shape, 1, dtype, order)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    made = empty(shape, np.result_type(unwrap(fill_value)) if dtype is None else dtype, order)
    made.fill(fill_value)
    return made


def empty_like(
    prototype: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    like = np.empty_like(_device(prototype), dtype, order, shape=shape)  # type: ignore[call-overload]
    if like.dtype.kind == "f":
        like.fill(np.nan)
    return wrap(like)


def zeros_like(a: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> ndarray:
    return full_like(a, 0, dtype, order, subok, shape)


def ones_like(a: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> ndarray:
    return full_like(a, 1, dtype, order, subok, shape)


def full_like(
    a: ndarray, fill_value: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    made = empty_like(a, dtype, order, subok, shape)
    made.fill(fill_value)
    return made


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> ndarray:
    limits = (0, start) if stop is None else (start, stop)
    for limit in (*limits, step):
        if not isinstance(limit, int | float | np.generic):
            raise TypeError(f"Unsupported type {type(limit)}: arange takes numbers of the host")
    return compute(np.arange, *limits, step, dtype=dtype)


def _device(a: Any) -> np.ndarray:
    """Return the memory of a device array; nothing else will do."""
    if not isinstance(a, ndarray):
        raise TypeError(f"Unsupported type {type(a)}: an array of the device is needed")
    return a._memory


# -- forms -------------------------------------------------------------------------------------------------------------


def concatenate(tup: Sequence[ndarray], axis: int = 0, out: Any = None, *, dtype: Any = None) -> ndarray:
    return _written(compute(_concatenate, axis=axis, dtype=dtype, arrays=[_device(a) for a in tup]), out)


def _concatenate(arrays: list[np.ndarray], **kwargs: Any) -> np.ndarray:
    return np.concatenate(arrays, **kwargs)  # takes them by position alone


def stack(tup: Sequence[ndarray], axis: int = 0, out: Any = None, *, dtype: Any = None) -> ndarray:
    return _written(compute(np.stack, axis=axis, dtype=dtype, arrays=[_device(a) for a in tup]), out)


def _written(result: ndarray, out: ndarray | None) -> ndarray:
    if out is None:
        return result
    out[...] = result
    return out


def pad(array: ndarray, pad_width: Any, mode: str = "constant", **kwargs: Any) -> ndarray:
    return compute(np.pad, _wrapped(array), pad_width=pad_width, mode=mode, **kwargs)


def _wrapped(a: ndarray) -> ndarray:
    _device(a)
    return a


def repeat(a: ndarray, repeats: int, axis: Any = None) -> ndarray:
    if not isinstance(repeats, int):
        raise StrictError("repeat by an array is not modelled")
    return compute(np.repeat, _wrapped(a), repeats, axis=axis)


def broadcast_to(array: ndarray, shape: Any) -> ndarray:
    return wrap(np.broadcast_to(_device(array), shape))


def expand_dims(a: ndarray, axis: Any) -> ndarray:
    return wrap(np.expand_dims(_device(a), axis))


def moveaxis(a: ndarray, source: Any, destination: Any) -> ndarray:
    return wrap(np.moveaxis(_device(a), source, destination))


def transpose(a: ndarray, axes: Any = None) -> ndarray:
    return wrap(_device(a).transpose(axes))


def reshape(a: ndarray, newshape: Any, order: str = "C", *, copy: Any = None) -> ndarray:
    return _wrapped(a).reshape(newshape, order=order)


def ravel(a: ndarray, order: str = "C") -> ndarray:
    return _wrapped(a).ravel(order)


def take(a: ndarray, indices: Any, axis: Any = None, out: Any = None) -> ndarray:
    return _wrapped(a).take(indices, axis, out)


def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None:
        return nonzero(condition)
    return compute(np.where, condition, x, y)


def clip(a: ndarray, a_min: Any, a_max: Any, out: Any = None) -> ndarray:
    return apply(np.clip, _wrapped(a), a_min, a_max, out=out)


def copyto(dst: ndarray, src: Any, casting: str = "same_kind", where: Any = None) -> None:
    if where is not None:
        raise StrictError("copyto(where=) is not modelled")
    _wrapped(dst)[...] = src


# -- what the host must wait for ---------------------------------------------------------------------------------------


def nonzero(a: ndarray) -> tuple[ndarray, ...]:
    return _wrapped(a).nonzero()


def flatnonzero(a: ndarray) -> ndarray:
    return _wrapped(a).ravel().nonzero()[0]


def unique(ar: ndarray) -> ndarray:
    synchronised("unique()")
    return compute(np.unique, ar)


# -- reductions --------------------------------------------------------------------------------------------------------


def sum(a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return _wrapped(a).sum(axis, dtype, out, keepdims)


def mean(a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return _wrapped(a).mean(axis, dtype, out, keepdims)


def max(a: ndarray, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return _wrapped(a).max(axis, out, keepdims)


def min(a: ndarray, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return _wrapped(a).min(axis, out, keepdims)


def all(a: ndarray, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return _wrapped(a).all(axis, out, keepdims)


def any(a: ndarray, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return _wrapped(a).any(axis, out, keepdims)


def argmax(a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return _wrapped(a).argmax(axis, out, dtype, keepdims)


def argmin(a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return _wrapped(a).argmin(axis, out, dtype, keepdims)


def array_equal(a1: ndarray, a2: ndarray, equal_nan: bool = False) -> ndarray:
    return compute(np.array_equal, a1, a2, equal_nan=equal_nan)


def matmul(*args: Any, out: Any = None) -> ndarray:
    return product(*args, out=out)


# -- functions of each element -----------------------------------------------------------------------------------------


class _UFunc:
    """A function of each element, with the keywords that CuPy's take, and the two reductions that it has."""

    def __init__(self, ufunc: np.ufunc) -> None:
        self._ufunc = ufunc
        self.__name__ = ufunc.__name__

    def __call__(self, *args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind") -> ndarray:
        return apply(self._ufunc, *args, out=out, dtype=dtype, casting=casting)

    def reduce(
        self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> ndarray:
        name = {"add": "sum", "multiply": "prod"}.get(self.__name__)
        if name is None:
            raise NotImplementedError(f"`cupy_{self.__name__}.reduce` is not supported yet")
        return reduce(name, _wrapped(array), out, axis=axis, dtype=dtype, keepdims=keepdims)

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        raise StrictError(f"{self.__name__}.at adds in no fixed order on the device; gather instead")


add, subtract, multiply = _UFunc(np.add), _UFunc(np.subtract), _UFunc(np.multiply)
divide = true_divide = _UFunc(np.true_divide)
floor_divide, power, square, sqrt = map(_UFunc, (np.floor_divide, np.power, np.square, np.sqrt))
exp, log, log2, negative, sign, tanh = map(_UFunc, (np.exp, np.log, np.log2, np.negative, np.sign, np.tanh))
abs = absolute = _UFunc(np.absolute)
maximum, minimum = _UFunc(np.maximum), _UFunc(np.minimum)
equal, not_equal, less, less_equal = map(_UFunc, (np.equal, np.not_equal, np.less, np.less_equal))
greater, greater_equal = _UFunc(np.greater), _UFunc(np.greater_equal)
logical_and, logical_or, logical_not = map(_UFunc, (np.logical_and, np.logical_or, np.logical_not))
isfinite, isinf, isnan = _UFunc(np.isfinite), _UFunc(np.isinf), _UFunc(np.isnan)
