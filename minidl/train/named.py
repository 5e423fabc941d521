"""Norms and networks of one's own: `my_module:MyNorm`, imported by name and recorded with its source's sha256."""

import difflib
import hashlib
import importlib
import inspect
import itertools
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..current_folder import importable
from ..layers.base import Layer
from ..norm import NormFactory
from ..norm.base import ReturnedError
from .config import Config
from .places import is_library, place_of, place_of_method
from .span import ConfigError

MADE = vars(Layer()).keys() - {"_kept", "_output_shape"}  # attributes that each layer has
_NOT_MADE = "lacks what each layer has: its __init__ must begin with super().__init__()"


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
        with importable(first=True):
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name and not module_name.startswith(f"{error.name}."):  # something that it imports
            raise ConfigError(f"{flag} {text}: importing {module_name} failed: {where(error)}; mend it") from error
        near = difflib.get_close_matches(module_name, [path.stem for path in Path().glob("*.py")], n=1)
        cure = f"start in the folder of {module_name.partition('.')[0]}.py, or install it"
        raise ConfigError(f"{flag} {text}: {error}; {f'did you mean {near[0]}:{name}?' if near else cure}") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{flag} {text}: importing {module_name} failed: {where(error)}; mend it") from error
    found = getattr(module, name, None)
    if isinstance(found, Layer):
        kind = name_of(type(found))
        raise ConfigError(
            f"{flag} {text} is a layer that is made already; give its class, {kind}, or a function that makes one"
        )
    if not callable(found):
        own = [
            key
            for key, value in vars(module).items()
            if callable(value) and not key.startswith("_") and getattr(value, "__module__", None) == module_name
        ]
        near = difflib.get_close_matches(name, own, n=1)
        what = f"{module_name} has no {name}" if found is None else f"{name} is neither a class nor a function there"
        hint = f"; did you mean {near[0]}?" if near else f"; it defines {', '.join(own) or 'no class and no function'}"
        raise ConfigError(f"{flag} {text}: {what}{_of_python(module_name) or hint}")
    if inspect.isclass(found) and not issubclass(found, Layer):
        raise ConfigError(
            f"{flag} {text} must be a minidl.Layer, got a class of {found.__module__.partition('.')[0]}"
            f"{place_of(found)}; derive it from minidl.Layer"
        )
    return found


def _of_python(module_name: str) -> str:
    """Return what to do where one's own file has the name of a module of Python."""
    top = module_name.partition(".")[0]
    if top not in sys.stdlib_module_names:
        return ""
    return f": {top} is Python's own module, whatever file is here; give your file another name, such as my_{top}.py"


def source_hash(thing: Any) -> str | None:
    """Return the sha256 of the file that defines a class, a function or an object's class; None where there is none."""
    if isinstance(thing, Layer) or not (inspect.isclass(thing) or inspect.isroutine(thing)):
        thing = type(thing)
    try:
        file = inspect.getsourcefile(thing)
    except TypeError:
        return None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else None


def why_not_found(error: Exception, text: str, sha256: str | None) -> str:
    """Return an error of `load_named`, with a word on the file of `text` if it has not this sha256 any more."""
    file = _file_of(text)
    if sha256 is None or file is None or hashlib.sha256(Path(file).read_bytes()).hexdigest() == sha256:
        return str(error)
    return f"{error}; {Path(file).name} has changed since the run was started: put the old file back"


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

        takes = "channels, and those it names of momentum, num_modes, num_groups, rng and dtype"
        made = _layer("--norm", text, maker, build, takes if inspect.isclass(maker) else "channels and rng")
        vars(made)["_of_own_norm"] = True
        return made

    return make


def is_own_norm(layer: Layer) -> bool:
    """Whether `own_norm` made a layer."""
    return bool(vars(layer).get("_of_own_norm"))


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
    return _layer("model", text, maker, lambda: maker(**chosen), "those it names of " + ", ".join(options))


def _taken(maker: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that the maker's signature names, or all where it takes any."""
    parameters = inspect.signature(maker).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return options
    return {name: value for name, value in options.items() if name in parameters}


def norm_takes(text: str, option: str) -> bool:
    """Whether a norm of one's own is made with an option: a class that names it; a function takes channels and rng."""
    maker = load_named("--norm", text)
    return inspect.isclass(maker) and bool(_taken(maker, {option: None}))


def _layer(flag: str, text: str, maker: Any, build: Callable[[], Any], takes: str) -> Layer:
    try:
        made = build()
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
        if isinstance(error, TypeError) and innermost.f_code.co_filename == __file__:  # it does not take the arguments
            cure = "give every other argument a default"
            if not inspect.isclass(maker) and flag == "--norm" and len(inspect.signature(maker).parameters) < 2:
                cure = f"let it take both: def {getattr(maker, '__name__', 'make')}(channels, rng)"
            raise ConfigError(
                f"{flag} {text}: it cannot be made: TypeError: {error}{place_of(maker)}; it is called with {takes}: "
                f"{cure}"
            ) from error
        raise ConfigError(f"{flag} {text}: making it failed: {where(error, maker)}; mend it") from error
    if inspect.isclass(made) and issubclass(made, Layer):
        raise ConfigError(
            f"{flag} {text} must make a minidl.Layer, got the class {made.__name__}{place_of(maker)}; return an "
            f"object, {made.__name__}(channels), or give {name_of(made)}"
        )
    if not isinstance(made, Layer):
        raise ConfigError(
            f"{flag} {text} must make a minidl.Layer, got {type(made).__name__}{place_of(maker)}; derive it from Layer"
        )
    check_made(f"{flag} {text}", made)
    return made


def check_made(what: str, made: Layer) -> None:
    """Raise ConfigError unless each layer of a tree was made by `Layer.__init__`, and the tree has all layers.

    Parameters
    ----------
    what : str
        Where the layer comes from.
    made : Layer
    """
    known = {id(layer) for _, layer in made.named_layers()}
    for path, layer in made.named_layers():
        name = f"layer {path} ({type(layer).__name__})" if path else type(layer).__name__
        if MADE - vars(layer).keys():
            place = place_of_method(layer, "__init__") or place_of(type(layer))
            raise ConfigError(f"{what}: {name} {_NOT_MADE}{place}; mend it")
        for key, value in vars(layer).items():
            held = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
            if any(isinstance(each, Layer) and id(each) not in known for each in held):
                raise ConfigError(
                    f"{what}: {name} holds layers in its {type(value).__name__} {key}, where they would not be trained"
                    f"{place_of(type(layer))}; put them into a minidl.Sequential, or into attributes of their own"
                )


def where(error: BaseException, made: Any = None, last: bool = True) -> str:
    """Return an error with the innermost place in one's own code that it came from.

    It is the line of a file outside minidl and the libraries; or the class, where it came from what minidl does with an
    object of a class of one's own, such as a method that is missing; or where `made` is defined; or else, unless `last`
    is False, the last line.
    """
    kind = type(error).__name__
    if isinstance(error, SyntaxError):  # its message has the place
        return f"{kind}: {error}"
    place = _own_place(error) or place_of(made) or (_last_place(error) if last else "")
    return f"{kind}{': ' if str(error) else ''}{error}{_hint(error)}{place}"


def _hint(error: BaseException) -> str:
    """Return what explains an error that is known to come of a forgotten call."""
    layer = getattr(error, "obj", None)
    if isinstance(error, AttributeError) and isinstance(layer, Layer) and error.name in MADE - vars(layer).keys():
        return f": {type(layer).__name__} {_NOT_MADE}"
    return ""


def _own_place(error: BaseException) -> str:
    frames = [
        (frame.f_code.co_filename, line, frame.f_locals.get("self"))
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    for i, (file, line, thing) in reversed([*enumerate(frames)]):
        if not is_library(file):
            return f" ({Path(file).name}, line {line})"
        if isinstance(thing, Layer) and place_of(type(thing)):
            if isinstance(error, ReturnedError):
                return place_of_method(thing, error.method)
            of_it = [f for f in frames[:i] if f[2] is thing and not is_library(f[0])]  # its own method, further out
            return f" ({Path(of_it[-1][0]).name}, line {of_it[-1][1]})" if of_it else place_of(type(thing))
    return ""


def _last_place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def own_settings(config: Config) -> list[str]:
    """Return the settings that name a norm or a network of one's own, as they are given."""
    return [f"--norm {config.norm}"] * is_named(config.norm) + [f"model {config.model}"] * is_named(config.model)


def own_places(config: Config) -> str:
    """Return the files of the norm and the network of one's own."""
    files = [_file_of(text) or text.partition(":")[0] for text in (config.norm, config.model) if is_named(text)]
    return " or ".join(dict.fromkeys(Path(file).name for file in files))


def _file_of(text: str) -> str | None:
    """Return the file of the module in `module:Name`, if that is imported."""
    module = sys.modules.get(text.partition(":")[0]) if is_named(text) else None
    return getattr(module, "__file__", None)


def came_from(error: BaseException, config: Config) -> bool:
    """Whether an error passed through a file of the norm or the network that a configuration names, or its objects."""
    files = {_file_of(text) for text in (config.norm, config.model)} - {None}
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = sys.modules.get(type(frame.f_locals.get("self")).__module__)
        if frame.f_code.co_filename in files or getattr(module, "__file__", None) in files:
            return True
    return False
