"""What was meant by arguments that a command does not know: a hint at the end of its line."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shlex
from collections.abc import Iterator, Sequence

_UNKNOWN = re.compile(r"unrecogni.ed arguments: ")


def hint(parser: argparse.ArgumentParser, message: str, given: Sequence[str]) -> str:
    """Return what to add to a message of argparse, "" where nothing is known.

    Parameters
    ----------
    parser : ArgumentParser
    message : str
    given : sequence of str
        All arguments.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> _ = parser.add_argument("--data-dir")
    >>> hint(parser, "unrecognized arguments: --datadir", ["--datadir"])
    '; did you mean --data-dir?'
    """
    if number := re.search(r"invalid float value: '(-?\d*),(\d+)'", message):
        return f"; write it with a point, {number[1]}.{number[2]}"
    if percent := re.search(r"invalid float value: '(\d+(?:\.\d+)?)%'", message):
        return f"; write it as a share of 1, {float(percent[1]) / 100:g}"
    if not (unknown_from := _UNKNOWN.match(message)):
        return ""
    unknown = _of(message[unknown_from.end() :], given)
    flags = sorted(set(_flags(parser)))
    for word in unknown:
        if word.startswith("-"):
            name, _, value = word.partition("=")
            if name in flags:
                if command := next((one for one in given[: given.index(word)] if one in _commands(parser)), None):
                    return f"; {command} takes no {name}"
                return f"; only some of its commands take {name}, behind their name"
            near = difflib.get_close_matches("--" + name.lstrip("-"), flags, n=1)
            return f"; did you mean {near[0]}{'=' * bool(value)}{value}?" if near else ""
    for word in unknown:
        at = max(i for i, each in enumerate(given) if each == word)
        before = given[at - 1] if at else ""
        start = before.partition("=")[2] if before.startswith("--") else before
        if start and os.path.exists(f"{start} {word}"):
            return f"; a path with a space stands in quotes: {shlex.quote(f'{start} {word}')}"
        if "--data-dir" in flags and os.path.exists(word):
            return f"; give the data as --data-dir {shlex.quote(word)}"
    return "; a name with a space stands in quotes, such as 'my photos'" if unknown else ""


def _of(text: str, given: Sequence[str]) -> list[str]:
    """Return the arguments that argparse has joined by spaces."""
    found = []
    for word in given:
        if text == word or text.startswith(f"{word} "):
            found.append(word)
            text = text[len(word) + 1 :]
    return found


def _commands(parser: argparse.ArgumentParser) -> set[str]:
    """Return the names of the commands within a parser."""
    within = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {name for action in within for name in action.choices}


def _flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield all options of a parser and of the commands within it."""
    for action in parser._actions:
        yield from (option for option in action.option_strings if option.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _flags(each)
