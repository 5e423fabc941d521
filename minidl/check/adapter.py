"""An adapter of somebody's own, imported by its name: what is wrong with it is one line with the cure."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import traceback
from pathlib import Path
from typing import Any, cast

from minidl.check.program import Make
from minidl.layers.base import Layer

_PAGE = "docs/check-your-layer.md"


def load_adapter(spec: str) -> Make:
    """Import ``pkg.module:Name`` and return what it names.

    Raises
    ------
    ImportError
        With one line: it cannot be imported, is not there, or is no adapter.
    """
    module_name, _, name = spec.partition(":")
    if not name or not module_name:
        raise ImportError(f"check: an adapter must be given as pkg.module:Name, got {spec!r}")
    if module_name.endswith(".py") or os.sep in module_name:
        raise ImportError(
            f"check: the adapter {spec!r} must name a module as `import` does; in the folder of the file write "
            f"{Path(module_name).stem}:{name}"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name == module_name or module_name.startswith(f"{error.name}."):
            raise ImportError(
                f"check: the adapter {spec!r} cannot be loaded ({error}); is its folder on PYTHONPATH?"
            ) from None
        raise _failed(module_name, error) from error  # something that it imports
    except (Exception, SystemExit) as error:
        raise _failed(module_name, error) from error
    found = getattr(module, name, None)
    if found is None or not callable(found):
        what = f"{module_name} has no {name}" if found is None else f"{name} is neither a class nor a function there"
        own = [
            key
            for key, value in vars(module).items()
            if callable(value) and not key.startswith("_") and getattr(value, "__module__", None) == module_name
        ]
        near = difflib.get_close_matches(name, own, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it defines {', '.join(own) or 'no class and no function'}"
        if not isinstance(found, Layer):
            raise ImportError(f"check: the adapter {spec!r}: {what}; {hint}")
    if _is_bare_layer(found):
        raise ImportError(
            f"check: {spec} is a layer of minidl, not an adapter, which is called as {name}(layer, options); check its "
            f"backward with minidl.check.gradient, or write an adapter for it ({_PAGE})"
        )
    return cast(Make, found)


def _failed(module_name: str, error: BaseException) -> ImportError:
    """Return what to raise where the import of a module fails: with the file and the line."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    place = ""
    if not isinstance(error, SyntaxError):  # whose message has the place
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename != __file__ and not frame.filename.startswith("<") and "importlib" not in frame.filename
        ]
        own = [frame for frame in frames if "site-packages" not in Path(frame.filename).parts] or frames
        place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return ImportError(f"check: importing {module_name} failed: {kind}{': ' if text else ''}{text}{place}; mend it")


def _is_bare_layer(found: Any) -> bool:
    """Whether this is a layer, or a class of one, that is not made as an adapter is."""
    if isinstance(found, Layer):
        return True
    if not inspect.isclass(found) or not issubclass(found, Layer):
        return False
    return "options" not in inspect.signature(found).parameters and not hasattr(found, "conventions")
