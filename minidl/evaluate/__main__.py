"""The command: `python -m minidl.evaluate RUN`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .. import log
from ..backend import NAMES as BACKENDS
from ..backend import of_commands
from ..command_line import Parser, as_path, changed_code, complain, corrupt, exit_status, say, whole
from ..data import TASKS
from ..extras import missing
from ..files import make_folder, make_own, parse_json
from ..outputs import check_folder
from ..printable import one_line
from ..writing import complete, write_together
from .confusion import Confusion

FILES = ("evaluation.json", "classes.csv", "confusion.csv", "confusion.png")
SHOWN = 30  # classes that are printed
EPILOG = """\
examples:
  python -m minidl.evaluate runs/photos                            its own test set
  python -m minidl.evaluate runs/photos --data-dir more-photos     all images of another folder
  python -m minidl.evaluate runs/multitask --task mnist --sample

Exit status: 0 done; 1 the run, its code or the backend cannot be used; 2 wrong arguments; 3 what the
network gives is not finite; 4 the data or the checkpoint cannot be used.
"""


@log.plainly(hold=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and return its exit status."""
    args = make_parser().parse_args(argv)
    return exit_status(
        partial(complain, "minidl.evaluate"),
        lambda: _evaluate(args),
        files="choose another --out or make it writable",
        memory="close other programs, or take fewer images",
        interrupted="interrupted; nothing was written",
        when_free=lambda: ", then run it again",
    )


def _evaluate(args: argparse.Namespace) -> None:
    from ..parallel import available_threads, threads
    from ..train.outside import check_outside
    from ..trained import load
    from .data import find_data

    net = load(args.run, backend=args.backend or of_commands(), check_code=not args.changed_code)
    asked = {name: value for name in ("task", "data_dir", "sample") if (value := getattr(args, name))}
    if args.out:
        own = net.config.data_dir if not asked else None
        check_outside("--out", args.out, asked.get("task", net.config.task), asked.get("data_dir", own))
        complete(args.out)
        check_folder("--out", args.out, FILES, _is_evaluation)
    data = find_data(net, args.run, asked, args.corrupt)
    for line in data.task.describe() if not args.quiet else ():
        say(one_line(line))
    confusion = Confusion(net.class_names)
    with threads(args.threads or available_threads()):
        result = net.evaluate(data.task, confusion.add)
    if args.out:
        out = args.out
    else:
        make_own(out := _folder(args.run, data.own, asked))
    facts = {"run": str(args.run), "step": net.step, "data": data.what, "own_test_set": data.own}
    log.settled()
    title = f"{net.config.name()}, update {net.step}: {data.task.name}"
    names = _write(out, confusion, {**facts, **result}, title)  # first: what cannot be printed is kept
    say(f"{net.config.name()} after update {net.step}, on {data.what}")
    for line in (*_lines(confusion, result), *(str(out / name) for name in names)):
        say(one_line(line))


def _is_evaluation(content: bytes) -> bool:
    """Whether this is the content of an evaluation.json that this command wrote."""
    try:
        return bool({"run", "step", "own_test_set"} <= parse_json(content).keys())
    except (ValueError, AttributeError):
        return False


def _folder(run: Path, own: bool, asked: dict[str, Any]) -> Path:
    """Return where the result is kept: by default in the run's folder, under the name of the data."""
    if run.is_file():
        run = run.parent.parent if run.parent.name == "checkpoints" else run.parent
    if own:
        return run / "evaluation"
    names = [asked.get("task", ""), Path(asked.get("data_dir", "")).stem, "sample" * ("sample" in asked)]
    return run / "-".join(["evaluation", *filter(None, names)])


def _lines(confusion: Confusion, result: dict[str, Any]) -> list[str]:
    """Return what is printed: the error in all, by data set, and by class, the worst of many."""
    classes = confusion.by_class()
    wrong, images = sum(each.wrong for each in classes), sum(each.images for each in classes)
    top5 = f", top-5 error {result['test_error_top5']:.2f} %" if "test_error_top5" in result else ""
    lines = [
        f"test error {result['test_error']:.2f} % ({wrong} of {images}){top5}, test loss {result['test_loss']:.3f}"
    ]
    if len(result["test_errors"]) > 1:
        lines.append(", ".join(f"{name} {error:.2f} %" for name, error in result["test_errors"].items()))
    shown = [each for each in classes if each.images]
    if len(shown) > SHOWN:
        shown = sorted(shown, key=lambda each: -(each.error or 0.0))[:SHOWN]
        lines.append(f"the {SHOWN} classes with the highest errors:")
    width = max(len("class"), *(len(each.name) for each in shown))
    lines.append(f"{'class':{width}}  images  wrong  error %  most often taken for")
    for each in shown:
        most = f"{each.taken_for} ({each.times})" if each.times else ""
        lines.append(f"{each.name:{width}}  {each.images:6}  {each.wrong:5}  {each.error:7.2f}  {most}".rstrip())
    if without := [each.name for each in classes if not each.images]:
        more = f" and {len(without) - SHOWN} more" if len(without) > SHOWN else ""
        lines.append(f"no image of: {', '.join(without[:SHOWN])}{more}")
    return lines


def _write(out: Path, confusion: Confusion, result: dict[str, Any], title: str) -> list[str]:
    """Write the files and return their names; a picture that cannot be drawn is said and left out."""
    make_folder(out)
    texts = {
        "evaluation.json": json.dumps(result, indent=2, allow_nan=False) + "\n",
        "classes.csv": confusion.classes_csv(),
        "confusion.csv": confusion.csv(),
    }
    files = {name: text.encode("utf-8", "replace") for name, text in texts.items()}
    try:
        from .picture import draw

        files["confusion.png"] = draw(confusion, title)
    except Exception as error:  # of matplotlib, of what it finds of fonts and settings
        what = missing(error) or " ".join(f"{type(error).__name__}: {error}".split())
        log.warn("minidl.evaluate", f"the picture could not be drawn ({what}); the numbers are whole")
    write_together({out / name: files.get(name) for name in FILES})  # without a picture, that of another goes
    return list(files)


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m minidl.evaluate",
        description="Measure a trained network on a test set: the error, the errors by class, the confusion matrix.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("run", type=as_path, metavar="RUN", help="the run's folder, or a file in its checkpoints")
    add("--task", metavar="NAME", choices=TASKS, help=f"other data: one of {', '.join(TASKS)} (the run's task)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--data-dir", type=as_path, metavar="DIR", help="where that data is (where the run found its own)"
    )
    where.add_argument("--sample", action="store_const", const=True, help="the bundled sample")
    add("--out", type=as_path, metavar="DIR", help="where to write (RUN/evaluation)")
    add("--backend", metavar="NAME", choices=BACKENDS, help=f"one of: {', '.join(BACKENDS)}")
    add("--threads", type=whole, metavar="T", help="CPU threads (all usable cores)")
    corrupt(parser, "as the run did")
    changed_code(parser)
    add("--quiet", action="store_true", help="do not print which data was found")
    return parser


if __name__ == "__main__":
    sys.exit(main())
