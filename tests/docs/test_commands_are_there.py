"""Each command of minidl that README, a page or a lesson names is one that its parser takes."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / "README.md", *ROOT.glob(".github/**/*.md"), ROOT / "lessons" / "README.md"),
    *(path for path in ROOT.glob("docs/**/*.md") if "_build" not in path.parts and "tutorials" not in path.parts),
    *ROOT.glob("lessons/src/*.py"),
]
COMMAND = re.compile(
    r"(?:python -m minidl\.|minidl )(train|evaluate|predict|export|reproduce|parity|check) (?!\.|$)(.*)"
)


def commands(text):
    """Yield the package and the arguments of each command in a text's code, as a shell would take them apart."""
    fenced = re.findall(r"^ *```(?:bash|console)?\n(.*?)^ *```", text, re.M | re.S)
    lines = [line for block in fenced for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S))
    for line in lines:
        found = COMMAND.match(re.sub(r"^(\$ |mpiexec -n \d+ (?=python)|.* && )", "", line).replace("-m mpi4py ", ""))
        if found and "…" not in found[2] and "..." not in found[2]:
            yield found[1], shlex.split(found[2].split("|")[0], comments=True)


def refused(package, arguments, capsys):
    """Return the line with which a command refuses its arguments, or ""."""
    try:
        importlib.import_module(f"minidl.{package}.__main__").make_parser().parse_args(arguments)
    except SystemExit as stopped:
        return capsys.readouterr().err if stopped.code else ""
    return ""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_named_command_is_taken(path, capsys):
    for package, arguments in commands(path.read_text("utf-8")):
        if arguments[:1] not in (["NAME"], ["CASE"]):
            line = refused(package, arguments, capsys)
            only_named = f"argument {arguments[-1]}: expected one argument" in line  # such as `minidl export --onnx`
            assert line == "" or only_named, (package, arguments)


def test_a_command_that_there_is_not_is_found(capsys):
    text = "Type `minidl train --model resnet20`, or\n```bash\npython -m minidl.train lenet --rate 1\n```\n"
    found = [refused(package, arguments, capsys) for package, arguments in commands(text)]
    assert ["--rate" in found[0], "--model" in found[1]] == [True, True]
