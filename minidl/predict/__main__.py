"""The command: `python -m minidl.predict RUN IMAGE...`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from .. import log
from ..backend import NAMES as BACKENDS
from ..command_line import Parser, as_path, changed_code, complain, corrupt, exit_status, say
from ..printable import one_line

BATCH = 64
EPILOG = """\
examples:
  python -m minidl.predict runs/photos new/1.jpg new/2.png
  python -m minidl.predict runs/photos new --top 1      every image in a folder and below

A line per image: its name, the likeliest class and its probability, and the next ones.
Exit status: 0 done; 1 the run, its code or the backend cannot be used; 2 wrong arguments; 3 what the
network gives is not finite; 4 the checkpoint, or one of the images, cannot be read (the others are answered, and with
--corrupt skip it is no failure).
"""

_complain = partial(complain, "minidl.predict")


@log.plainly(hold=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and return its exit status."""
    args = make_parser().parse_args(argv)
    if args.top < 1:
        return _complain(2, f"--top must be at least 1, got {args.top}; give a whole number from 1 up")
    return exit_status(
        partial(complain, "minidl.predict"),
        lambda: _predict(args),
        files="choose another file",
        memory="close other programs, or take fewer images",
        interrupted="interrupted",
    )


def _predict(args: argparse.Namespace) -> int:
    from ..data import DataError
    from ..trained import load

    net = load(args.run, backend=args.backend, check_code=not args.changed_code)
    status = 0
    waiting: list[np.ndarray] = []
    names: list[str] = []

    def answer() -> None:
        if names:
            prediction = net.predict(np.concatenate(waiting))
            log.settled()
            for name, best in zip(names, prediction.top(args.top, net.class_names), strict=True):
                (first, probability), *others = best
                more = ", ".join(f"{other} {p:.3f}" for other, p in others)
                say(one_line(f"{name}: {first} {probability:.3f}" + (f" ({more})" if more else "")))
        waiting.clear()
        names.clear()

    for path in _images(args.images):
        try:
            pixels = net.inputs(path)
        except DataError as error:
            answer()  # in the order that was asked for
            if args.corrupt == "skip" and os.path.lexists(path):
                _complain(0, f"{path}: {error.__cause__ or 'it cannot be read'}; skipped")
            else:
                status = _complain(4, error)
            continue
        waiting.append(pixels)
        names.append(path)
        if len(names) == BATCH:
            answer()
    answer()
    return status


def _images(given: Sequence[str]) -> Iterator[str]:
    """Yield the paths, and for a folder those of all images in it and below."""
    from ..data import DataError
    from ..data.find_images import SUFFIXES, images_below

    for path in given:
        if not os.path.isdir(path):
            yield path
            continue
        found = sorted(images_below(Path(path)))
        if not found:
            raise DataError(f"{path}: no image in this folder (a file that ends in {' '.join(SUFFIXES)}); give others")
        yield from found


def _image(text: str) -> str:
    """Return an image's path; a ``~name/`` in front of it is a home folder, a ``~1.jpg`` is a file."""
    return str(as_path(text)) if text.startswith("~") and os.sep in text and not os.path.lexists(text) else text


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m minidl.predict",
        description="Name what is in images with a trained network; they are cropped and resized as in training.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("run", type=as_path, metavar="RUN", help="the run's folder, or a file in its checkpoints")
    add("images", type=_image, metavar="IMAGE", nargs="+", help="image files, or folders of them")
    add("--top", type=int, default=3, metavar="K", help="how many classes to name (3)")
    add("--backend", metavar="NAME", choices=BACKENDS, help=f"one of: {', '.join(BACKENDS)} (numpy)")
    corrupt(parser, "refuse: name it, answer the others and end with 4")
    changed_code(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
