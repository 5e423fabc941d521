"""The command `minidl`, or `python -m minidl`: it hands over to the package's commands.

``minidl train ...`` is ``python -m minidl.train ...``, and so are the others: same arguments, same exit status.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from minidl import __version__
from minidl.command_line import complain, show
from minidl.current_folder import importable

COMMANDS = {  # minidl.starting has their names too
    "train": "train a network with a norm of your choice",
    "evaluate": "measure a trained network: errors by class, confusion matrix",
    "predict": "name what is in an image with a trained network",
    "export": "write a trained network as ONNX, or its weights for PyTorch",
    "check": "check your own layer against the reference vectors",
    "bench": "measure how fast minidl is here, beside PyTorch",
    "reproduce": "run the paper's tables and figures",
    "parity": "compare two backends value by value",
}
USAGE = """\
usage: minidl COMMAND [ARGUMENTS]      minidl COMMAND --help explains a command
       minidl --version
       minidl --print-completion SHELL  bash, zsh or tcsh: completes commands and options with the Tab key"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names and return its exit status.

    Exit status: that of the command; 0 for the list of commands; 2 for a command that does not exist.
    """
    name, *arguments = (sys.argv[1:] if argv is None else argv) or [""]
    if name in ("-V", "--version"):
        return show("minidl", f"minidl {__version__}")
    if name in ("", "-h", "--help"):
        width = max(map(len, COMMANDS))
        return show("minidl", "\n".join([USAGE, "", *(f"  {each:{width}}  {text}" for each, text in COMMANDS.items())]))
    if name == "--print-completion":
        return _print_completion(arguments)
    if name not in COMMANDS:
        return complain("minidl", 2, f"there is no command {name!r}; the commands are {', '.join(COMMANDS)}")
    with importable(first=False):
        status: int = import_module(f"minidl.{name}.__main__").main(arguments)
    return status


def _print_completion(arguments: Sequence[str]) -> int:
    from minidl.completion import SHELLS, completion
    from minidl.extras import MissingLibraryError

    if len(arguments) != 1 or arguments[0] not in SHELLS:
        return complain("minidl", 2, f"--print-completion takes one of {', '.join(SHELLS)}")
    try:
        return show("minidl", completion(arguments[0], COMMANDS))
    except MissingLibraryError as error:
        return complain("minidl", 1, error)


if __name__ == "__main__":
    sys.exit(main())
