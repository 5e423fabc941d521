"""Files of states: safetensors, and those of torch.save. Reading one runs no code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from minidl.files import NoFileError, open_file, read_file
from minidl.interchange.errors import StateError
from minidl.interchange.torch_file import read_torch, torch_bytes, widened
from minidl.writing import write_atomic

TORCH_SUFFIXES = (".pt", ".pth", ".bin")
_SAFETENSORS = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "|b1"},
    **{f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)},
}


def read_state(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return {name: array} of a safetensors file or of one that torch.save wrote, whichever its content is.

    PyTorch need not be installed, and nothing in the file is run: a file of torch.save may hold tensors, dictionaries,
    lists, numbers and text, and a state within a checkpoint is found under its usual names, such as "state_dict".

    Parameters
    ----------
    path : str or path
        Of the file.

    Raises
    ------
    StateError
        If the file cannot be read, is damaged, or holds anything else.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "state.pt"
    ...     write_state(path, {"weight": np.ones((2, 1), np.float32)})
    ...     read_state(path)["weight"].shape
    (2, 1)
    """
    path = Path(path)
    try:
        with open_file(path) as file:
            head = file.read(9)
    except NoFileError as error:
        raise StateError(f"{path} is no file; give one of safetensors or of torch.save") from error
    except OSError as error:
        raise StateError(f"{path} cannot be read ({error.strerror or error}); give its right path") from error
    if head[8:] == b"{":  # eight bytes of a length, then JSON
        return _read_safetensors(path)
    return read_torch(path)


def write_state(path: str | os.PathLike[str], state: Mapping[str, np.ndarray]) -> None:
    """Write a state, whole or not at all: as safetensors, or for ``torch.load`` if the name ends in .pt, .pth or .bin.

    ``safetensors.torch.load_file(path)`` reads the former, ``torch.load(path, weights_only=True)`` the latter.

    Parameters
    ----------
    path : str or path
        Of the file.
    state : dict
        {name: NumPy array}, as `to_torch_state` gives it.

    Raises
    ------
    StateError
        If an array has a dtype that PyTorch lacks.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "state.safetensors"
    ...     write_state(path, {"bias": np.ones(3)})
    ...     read_state(path)["bias"]
    array([1., 1., 1.])
    """
    write_atomic(Path(path), state_bytes(path, state))


def state_bytes(path: str | os.PathLike[str], state: Mapping[str, np.ndarray]) -> bytes:
    """Return what `write_state` writes to a file of this name."""
    if Path(path).suffix in TORCH_SUFFIXES:
        return torch_bytes(state)
    from safetensors.numpy import save

    return save({name: np.array(value, order="C") for name, value in state.items()})


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, deserialize

    state = {}
    try:
        for name, view in deserialize(read_file(path)):  # type: ignore[no-untyped-call]
            dtype = _SAFETENSORS.get(view["dtype"])
            if dtype is None:
                raise StateError(
                    f"{path}: {name[:60]!r} has dtype {view['dtype']}, which no layer has; convert it before"
                )
            values = np.frombuffer(view["data"], dtype)
            state[name] = (widened(values) if view["dtype"] == "BF16" else values).reshape(view["shape"])
    except (SafetensorError, OSError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise StateError(f"{path} is no whole safetensors file ({what}); get it again") from error
    return state
