"""Norms and networks of one's own: `my_module:MyNorm`, imported by name and recorded with its source's sha256."""

import difflib
import hashlib
import importlib
import inspect
import itertools
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..layers.base import Layer
from ..norm import NormFactory
from .config import Config
from .span import ConfigError


def is_named(text: str) -> bool:
    """Whether a setting is `module:Name` and not one of minidl's own names."""
    return ":" in text


def load_named(flag: str, text: str) -> Any:
    """Return what `module:Name` means; modules are looked for in the current folder as well.

    Raises
    ------
    ConfigError
        If it cannot be imported, or is nothing that can be called.
    """
    module_name, _, name = text.partition(":")
    if module_name.endswith(".py") or os.sep in module_name:
        raise ConfigError(
            f"{flag} {text} must name a module as `import` does; in the folder of the file write "
            f"{Path(module_name).stem}:{name}"
        )
    try:
        with _current_folder():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name and not module_name.startswith(f"{error.name}."):  # something that it imports
            raise ConfigError(f"{flag} {text}: importing {module_name} failed: {where(error)}; mend it") from error
        raise ConfigError(
            f"{flag} {text}: {error}; start in the folder of {module_name.split('.')[0]}.py, or install it"
        ) from error
    except Exception as error:
        raise ConfigError(f"{flag} {text}: importing {module_name} failed: {where(error)}; mend it") from error
    found = getattr(module, name, None)
    if not callable(found):
        own = [
            key
            for key, value in vars(module).items()
            if callable(value) and not key.startswith("_") and getattr(value, "__module__", None) == module_name
        ]
        near = difflib.get_close_matches(name, own, n=1)
        what = f"{module_name} has no {name}" if found is None else f"{name} is neither a class nor a function there"
        hint = f"; did you mean {near[0]}?" if near else f"; it defines {', '.join(own) or 'no class and no function'}"
        raise ConfigError(f"{flag} {text}: {what}{hint}")
    return found


def source_hash(thing: Any) -> str | None:
    """Return the sha256 of the file that defines a class, a function or an object's class; None where there is none."""
    if isinstance(thing, Layer) or not (inspect.isclass(thing) or inspect.isroutine(thing)):
        thing = type(thing)
    try:
        file = inspect.getsourcefile(thing)
    except TypeError:
        return None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else None


def name_of(thing: Any) -> str:
    """Return `module:Name` of a class, a function or an object's class."""
    kind = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    return f"{kind.__module__}:{kind.__qualname__}"


def own_norm(text: str, maker: Any, config: Config) -> NormFactory:
    """Return the factory of a norm of one's own.

    A class is called as ``MyNorm(channels, ...)`` with those of momentum, num_modes, num_groups, rng and dtype that its
    constructor names; a function as ``make(channels, rng)``.
    """
    first = config.first_modes
    modes = itertools.repeat(first) if isinstance(first, int) else iter(first)

    def make(channels: int, rng: np.random.Generator) -> Layer:
        def build() -> Any:
            if not inspect.isclass(maker):
                return maker(channels, rng)
            options: dict[str, Any] = {
                "momentum": config.norm_momentum,
                "num_groups": config.groups,
                "rng": rng,
                "dtype": config.dtype,
            }
            chosen = _taken(maker, options)
            if _taken(maker, {"num_modes": None}):
                chosen["num_modes"] = next(modes, 1)
            cls: Callable[..., Any] = maker
            return cls(channels, **chosen)

        return _layer("--norm", text, build)

    return make


def own_model(
    text: str, maker: Any, config: Config, num_classes: int, norm: NormFactory | None, rng: np.random.Generator
) -> Layer:
    """Return a network of one's own: made with those of num_classes, in_channels, norm, rng and dtype that it names.

    Raises
    ------
    ConfigError
        If making it fails, it is no layer, or the configuration has a norm and it takes none.
    """
    options = {"num_classes": num_classes, "in_channels": 3, "norm": norm, "rng": rng, "dtype": config.dtype}
    chosen = _taken(maker, options)
    if norm is not None and "norm" not in chosen:
        raise ConfigError(f"{text} takes no norm, got --norm {config.norm}; give --norm none, or let it take `norm`")
    return _layer("model", text, lambda: maker(**chosen))


def _taken(maker: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that the maker's signature names, or all where it takes any."""
    parameters = inspect.signature(maker).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return options
    return {name: value for name, value in options.items() if name in parameters}


def _layer(flag: str, text: str, build: Callable[[], Any]) -> Layer:
    try:
        made = build()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{flag} {text}: making it failed: {where(error)}; mend it") from error
    if not isinstance(made, Layer):
        raise ConfigError(f"{flag} {text} must make a minidl.Layer, got {type(made).__name__}; derive it from Layer")
    return made


def where(error: BaseException) -> str:
    """Return an error with the innermost place outside minidl and the libraries that it came from, if there is one."""
    kind = type(error).__name__
    if isinstance(error, SyntaxError):  # its message has the place
        return f"{kind}: {error}"
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [frame for frame in frames if not _is_library(frame[0])] or frames
    place = f" ({Path(own[-1][0]).name}, line {own[-1][1]})" if own else ""
    return f"{kind}{': ' if str(error) else ''}{error}{place}"


def came_from(error: BaseException, config: Config) -> bool:
    """Whether an error passed through a file of the norm or the network of one's own that a configuration names."""
    files = set()
    for text in (config.norm, config.model):
        module = sys.modules.get(text.partition(":")[0]) if is_named(text) else None
        files.add(getattr(module, "__file__", None))
    return any(frame.filename in files for frame in traceback.extract_tb(error.__traceback__))


def _is_library(file: str) -> bool:
    """Whether a file is minidl's, of an installed package, of Python, or none at all, as `<frozen importlib>`."""
    path = Path(file)
    folders = Path(__file__).parents[1], sysconfig.get_path("stdlib")
    return (
        file.startswith("<") or "site-packages" in path.parts or any(path.is_relative_to(folder) for folder in folders)
    )


@contextmanager
def _current_folder() -> Iterator[None]:
    here = os.getcwd()
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)
