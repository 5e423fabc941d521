"""The libraries of the extras: layers, norms and checks need only NumPy, training runs need those of `train`."""

from __future__ import annotations

import linecache
import os
import re
import traceback
from importlib.util import find_spec

# what is imported: the distribution that has it
TRAIN = {
    "matplotlib": "matplotlib",
    "PIL": "pillow",
    "pooch": "pooch",
    "safetensors": "safetensors",
    "threadpoolctl": "threadpoolctl",
    "tqdm": "tqdm",
}
OF_A_DOWNLOAD = ("pooch",)  # asked for where one begins: data that lies there already is trained on without
CURE = "pip install 'minidl[train]'"
_OTHERS = {  # what is imported: the extra that has it
    **{"numba": "fast", "llvmlite": "fast", "onnx": "onnx", "tensorboard": "tensorboard", "mpi4py": "mpi"},
    **{"shtab": "completion", "cupy": "cuda12x"},
}


_OWN = ("", "__main__", "minidl", "runpy")


class MissingLibraryError(ImportError):
    """A library of an extra is not installed; the message is one line with the command that installs it."""

    exit_status = 1


def require(what: str, *modules: str) -> None:
    """Raise one clear line where a library is missing.

    Parameters
    ----------
    what : str
        What needs the libraries, the subject of the message.
    *modules : str
        The keys of `TRAIN` that it imports; by default all that do not serve a download alone.

    Raises
    ------
    MissingLibraryError
        If one cannot be found.

    Examples
    --------
    >>> require("this example")
    """
    needed = modules or [module for module in TRAIN if module not in OF_A_DOWNLOAD]
    missing = [TRAIN[module] for module in needed if not _there(module)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise MissingLibraryError(f"{what} needs {', '.join(missing)}, which {verb} not installed; run: {CURE}")


def missing(error: BaseException) -> str | None:
    """Return which library an error says is not installed, with the command that installs it; None of any other error.

    Examples
    --------
    >>> missing(ModuleNotFoundError("No module named 'PIL'", name="PIL"))
    "pillow is not installed; run: pip install 'minidl[train]'"
    """
    if not isinstance(error, ModuleNotFoundError):
        return None
    module = (error.name or "").partition(".")[0]
    if module in TRAIN:
        return f"{TRAIN[module]} is not installed; run: {CURE}"
    return f"{module} is not installed; run: pip install 'minidl[{_OTHERS[module]}]'" if module in _OTHERS else None


def broken(error: BaseException) -> str | None:
    """Return which library cannot be imported although it is there, why, and the cure; None of any other error.

    A library may read variables of the environment when it is imported, and stumble over one.

    Examples
    --------
    >>> broken(ImportError("libfree.so: no such file", name="matplotlib.ft2font"))
    'matplotlib cannot be imported (ImportError: libfree.so: no such file); install it anew'
    >>> broken(ValueError("a mistake of minidl"))
    """
    from minidl.train.places import is_library

    modules = [
        frame.f_globals.get("__name__", "")
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "<module>" and is_library(frame.f_code.co_filename)
    ]
    modules.append((error.name if isinstance(error, ImportError) else None) or "")
    library = next((top for top in (name.partition(".")[0] for name in modules) if top not in _OWN), None)
    if library is None:
        return None
    return f"{library} cannot be imported ({type(error).__name__}: {reason(error)}); {cure(error, 'install it anew')}"


def reason(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def cure(error: BaseException, otherwise: str) -> str:
    """Return what to do about a variable of the environment that the lines which raised an error read, if they do."""
    lines = [
        linecache.getline(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)
    ]
    read = [
        name for name in re.findall(r"[\"']([A-Z][A-Z0-9_]+)[\"']", lines[-1] if lines else "") if name in os.environ
    ]
    return f"unset {' or '.join(read)}, which it cannot read" if read else otherwise


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # sys.modules holds None in its place
        return False
