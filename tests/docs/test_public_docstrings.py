"""Every public object has a doctest, stands in the reference, and has the docstring that pyproject.toml asks for."""

import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "minidl",
    "minidl.auto",
    "minidl.norm",
    "minidl.models",
    "minidl.data",
    "minidl.check",
    "minidl.interchange",
    "minidl.train",
)


def public_objects() -> dict[str, object]:
    found = {}
    for name in PACKAGES:
        package = importlib.import_module(name)
        for member in package.__all__:
            thing = getattr(package, member)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                found[f"{thing.__module__}.{thing.__qualname__}"] = thing
    return found


PUBLIC = public_objects()
OTHERS = {"draw_comparison", "Graph", "Value"}  # that the reference has as well


def is_error(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, Exception)


@pytest.mark.parametrize("name", [name for name, thing in PUBLIC.items() if not is_error(thing)])
def test_a_public_object_has_a_doctest(name: str) -> None:
    assert ">>> " in (inspect.getdoc(PUBLIC[name]) or "")


def test_the_reference_has_every_public_object() -> None:
    text = "\n".join(path.read_text("utf-8") for path in (ROOT / "docs" / "reference").glob("*.md"))
    shown = re.findall(r"^\.\. auto(?:class|function):: (?:[\w.]+\.)?(\w+)$", text, flags=re.M)
    assert sorted(shown) == sorted({thing.__name__ for thing in PUBLIC.values()} | OTHERS)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_docstring_passes_the_checks_of_the_project(name: str) -> None:
    numpydoc = pytest.importorskip("numpydoc.validate", reason="needs numpydoc: pip install -e '.[docs]'")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["numpydoc_validation"]
    checks = numpydoc.get_validation_checks(set(settings["checks"]))
    one_line = re.compile("|".join(settings["override_PR01"]))
    names = [name]
    if inspect.isclass(PUBLIC[name]):
        names += [f"{name}.{own}" for own, thing in vars(PUBLIC[name]).items() if is_documented(own, thing)]
    wrong = []
    for each in names:
        report = numpydoc.validate(each)
        for code, message in report["errors"]:
            if code in checks and not (code == "PR01" and one_line.search(report["docstring"])):
                wrong.append(f"{each}: {code} {message}")
    assert not wrong


def is_documented(name: str, thing: object) -> bool:
    return not name.startswith("_") and (inspect.isfunction(thing) or isinstance(thing, (property, classmethod)))
