"""What the commands share: whatever goes wrong is one line on stderr that begins with the command's name."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

from minidl.current_folder import GONE, is_gone
from minidl.extras import broken, missing
from minidl.files import NoHomeError, expanded
from minidl.leaving import LeftError, leaving
from minidl.misspelt import hint
from minidl.printable import harmless

NULL = "an argument has a null character, which no name of a file has; leave it out"


class Parser(argparse.ArgumentParser):
    """The parser of a `python -m minidl.NAME`, its prog: a wrong argument is one line, and status 2.

    Descriptions are shown as they are written, and an argument's name must be written out in full. Making the parser
    also makes the streams safe to write to: `safe_streams`.
    """

    def __init__(self, **options: Any) -> None:
        safe_streams()
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)

    @property
    def _command(self) -> str:
        return next((word for word in self.prog.split() if word.startswith("minidl.")), "minidl")

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is None or file is sys.stderr:
            _tell(message.rstrip("\n"))
        elif status := show(self._command, message.rstrip("\n"), file):
            self.exit(status)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, once it is known that no argument has a null character: no path can, and nothing else may."""
        self._given = sys.argv[1:] if args is None else list(args)
        if has_null(args or ()):
            self.error(NULL)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and this message."""
        more = hint(self, message, getattr(self, "_given", ()))
        for python, plain in (
            ("invalid int value:", "must be a whole number, got"),
            ("invalid float value:", "must be a number, got"),
        ):
            message = message.replace(f": {python}", f": {plain}", 1)
        self.exit(complain(self._command, 2, f"{message}{more} (--help lists the arguments)"))


def has_null(arguments: Iterable[str]) -> bool:
    """Whether one of these arguments has a null character, which no command line can bring but Python can."""
    return any("\0" in argument for argument in arguments)


def changed_code(parser: Any, when: str = "") -> None:
    """Add the flag --changed-code, which acts `when`, of the commands that use a trained network or train it on."""
    parser.add_argument(
        "--changed-code",
        action="store_true",
        help=f"{when}take a norm or a network of your own although its file has changed since training",
    )


def corrupt(parser: argparse.ArgumentParser, usual: str) -> None:
    """Add the option --corrupt of the commands that read images."""
    parser.add_argument(
        "--corrupt",
        choices=("refuse", "skip"),
        metavar="WHAT",
        help=f"refuse or skip images that cannot be read ({usual})",
    )


def as_path(text: str) -> Path:
    """Return the value of an argument that names a file or a folder, its ``~`` replaced where no shell has done so.

    Each option that takes one has this as its type; a list of images has not: a shell's pattern may yield ``~1.jpg``.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is empty, or begins with the home folder of nobody.

    Examples
    --------
    >>> as_path("runs/a").as_posix()
    'runs/a'
    """
    if not text:
        raise argparse.ArgumentTypeError("must be a path, got ''; . is the folder you are in")
    try:
        return expanded(text)
    except NoHomeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def whole(text: str) -> int:
    """Return the value of an argument that counts something.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is no whole number from 1 up, or has ten digits or more.

    Examples
    --------
    >>> whole("12")
    12
    """
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        most = " to 999999999" if len(text) > 9 else " up"
        raise argparse.ArgumentTypeError(f"must be a whole number from 1{most}, got {text[:20]!r}")
    return int(text)


def safe_streams() -> None:
    """Make standard output and error take whatever is printed.

    What their encoding lacks is replaced by a question mark; where a stream is closed, what goes there is dropped.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the rest of the process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def say(line: str, stream: Any = None) -> None:
    """Print a line; where nobody reads any more, it and all that follows are dropped.

    Characters that would command a terminal are written as escapes (`minidl.printable.harmless`): a name out of a file
    may hold them.

    Raises
    ------
    OSError
        If it cannot be written for another reason, such as a full disk; what follows is dropped then too.
    """
    stream = stream or sys.stdout
    try:
        print(harmless(line), file=stream, flush=True)
    except BrokenPipeError:
        drop(stream)
    except OSError as error:
        drop(stream)
        error.filename = "standard error" if stream is sys.stderr else "standard output"
        raise


def show(command: str, text: str, stream: Any = None) -> int:
    """Print what a command was asked for, and return its exit status: 1, and a line, where it cannot be written."""
    try:
        say(text, stream)
    except OSError as error:
        return complain(command, 1, file_error(error, "send it elsewhere"))
    return 0


def _tell(line: str) -> None:
    """Print a line to standard error, if it can be written."""
    with suppress(OSError):
        say(line, sys.stderr)


def drop(stream: Any) -> None:
    """Send what a stream still holds, and all that will be written to it, nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    except OSError:  # no file behind it
        pass
    finally:
        os.close(nowhere)


_OF_THE_DISK = {getattr(errno, name) for name in ("EIO", "EROFS", "ESTALE") if hasattr(errno, name)}


def file_error(error: OSError, cure: str, when_free: str = "") -> str:
    """Return one line that says what could not be written, why, and what to do, unless the error says that itself.

    Parameters
    ----------
    error : OSError
    cure : str
        What to do; where the disk is full, it is to free some space instead.
    when_free : str
        What to do then, after that.

    Examples
    --------
    >>> file_error(PermissionError(13, "Permission denied", "out.json"), "choose another file")
    'out.json: Permission denied; choose another file'
    >>> file_error(OSError(28, "No space left on device"), "choose another file", ", then run it again")
    'cannot write: No space left on device; free some space, then run it again'
    >>> file_error(FileNotFoundError(2, "No such file; make its folder first", "a/b"), "choose another file")
    'a/b: No such file; make its folder first'
    """
    if getattr(error, "exit_status", None) is not None:  # it names its own cure
        return str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        cure = f"free some space{when_free}"
    elif error.errno == errno.EFBIG:
        cure = f"raise the limit on a file's size (ulimit -f){when_free}"
    elif error.errno in _OF_THE_DISK and when_free:
        cure = f"see that the disk can be written{when_free}"
    why = error.strerror or " ".join(map(str, error.args))
    return f"{error.filename or 'cannot write'}: {why}" + ("" if "; " in why else f"; {cure}")


def complain(command: str, status: int, what: object) -> int:
    """Print what is wrong, on one line, and return the exit status."""
    line = re.sub(
        r"\d{61,}", lambda digits: f"{digits[0][:20]}… ({len(digits[0])} digits)", " ".join(str(what).split())
    )
    _tell(f"{command}: {line}")
    return status


def exit_status(
    complain: Callable[[int, object], int],
    run: Callable[[], int | None],
    files: str,
    memory: str,
    interrupted: str,
    when_free: Callable[[], str] = str,
) -> int:
    """Run a command and return its exit status; what a user can mend is one line, and no traceback.

    A library of an extra that is not installed is named, whatever imports it.
    Errors of minidl say their line and their status themselves, as `exit_status`: 1 something cannot be used, 2 wrong
    arguments, 3 a number is not finite, 4 the data or a checkpoint cannot be used, 128 + n stopped by signal n.
    What a signal ends in here is `minidl.leaving`. A SystemExit of code of one's own is an error, as the command is
    not done; that of a wrong argument passes.

    Parameters
    ----------
    complain : function
        Prints a line and returns the status that it is given, as `complain` of a command's name does.
    run : function
        Returns the status, or None for 0.
    files, memory, interrupted : str
        What to do where a file cannot be read or written, where the memory does not suffice, and what a signal left.
    when_free : function
        Asked, where the disk is full, for what `file_error` takes under this name.

    Examples
    --------
    >>> from functools import partial
    >>> exit_status(partial(complain, "minidl.train"), lambda: None, files="", memory="", interrupted="")
    0
    """
    try:
        with leaving():
            return run() or 0
    except KeyboardInterrupt:
        return complain(130, interrupted)
    except LeftError as left:
        return complain(128 + left.signum, interrupted)
    except SystemExit as error:
        if not _of_own_code(error):
            raise
        from minidl.train.named import where

        return complain(1, f"{where(error)}, in code of your own; mend it")
    except Exception as error:
        status = getattr(error, "exit_status", None)
        if status is not None:
            return complain(status, f"{error} ({GONE})" if is_gone() else error)
        if isinstance(error, MemoryError):
            return complain(1, f"the memory does not suffice; {memory}")
        if (line := missing(error) or broken(error)) is not None:
            return complain(1, line)
        if isinstance(error, FileNotFoundError) and is_gone():
            return complain(1, GONE)
        if isinstance(error, OSError):
            return complain(1, file_error(error, files, when_free()))
        raise


def _of_own_code(error: BaseException) -> bool:
    """Whether an exception passed through a file that is neither minidl's nor a library's."""
    from minidl.train.places import is_library

    return any(not is_library(frame.f_code.co_filename) for frame, _ in traceback.walk_tb(error.__traceback__))


@contextmanager
def quietly() -> Iterator[None]:
    """Drop what is printed inside the ``with`` block: another process prints the same."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield
