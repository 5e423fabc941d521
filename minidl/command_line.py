"""What the commands share: whatever goes wrong is one line on stderr that begins with the command's name."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """The parser of a `python -m minidl.NAME`, its prog: a wrong argument is one line, and status 2."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and this message."""
        command = next(word for word in self.prog.split() if word.startswith("minidl."))
        self.exit(complain(command, 2, f"{message} (--help lists the arguments)"))


def complain(command: str, status: int, what: object) -> int:
    """Print what is wrong, on one line, and return the exit status."""
    print(f"{command}: {' '.join(str(what).split())}", file=sys.stderr)
    return status
