"""The libraries of the extra `train`: layers, norms and checks need only NumPy, training runs need these."""

from __future__ import annotations

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


class MissingLibraryError(ImportError):
    """A library of the extra `train` is not installed; the message is one line with the command that installs it."""

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


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # sys.modules holds None in its place
        return False
