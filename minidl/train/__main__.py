"""The command: `python -m minidl.train lenet multitask --sample`."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from .. import log
from ..auto import WAYS
from ..backend import NAMES as BACKENDS
from ..backend import of_commands, resolve
from ..command_line import Parser, as_path, changed_code, complain, exit_status, quietly, show
from ..data import TASKS
from ..distributed import ALONE, Communicator, LaunchError, communicator
from ..distributed.launch import PATIENCE, check_arguments, last_words, leave
from ..extras import require
from ..models import MODELS
from ..norm import NORMS
from .config import Config
from .config_checks import AUGMENTATIONS
from .progress import Progress
from .recipes import folder_name, recipe, recipes
from .rules import OPTIMISERS, SCHEDULES, usual
from .span import ConfigError

Complain = Callable[[int, object], int]
NORM_FLAGS = {"gn": " (--groups G)", "mn": " (--modes K)", "mgn": " (--modes K)"}
ENGINES = (
    ("numpy", "always there"),
    ("numba", "compiled for the CPU: pip install 'minidl[fast]'"),
    ("cupy", "on an NVIDIA GPU: pip install 'minidl[cuda12x]', or cuda13x, to match the driver"),
)
EPILOG = """\
examples:
  python -m minidl.train lenet multitask --sample
  python -m minidl.train lenet multitask --data-dir DIR --norm bn --out runs/bn
  python -m minidl.train lenet folder --data-dir DIR       your own images, DIR/CLASS/IMAGE
  python -m minidl.train lenet arrays --data-dir FILE.npz  or arrays
  python -m minidl.train --out runs/bn --resume
  python -m minidl.train --out runs/bn --resume --epochs 30
  python -m minidl.train lenet folder --data-dir DIR --from runs/bn
  mpiexec -n 4 python -m mpi4py -m minidl.train lenet multitask    each batch shared by 4 processes

A run is resumed with the settings it has; they need not be given again. With a longer --epochs, --updates or --touches
it is extended, finished or not: from there on the learning rate is that of a run of the new length at the same update.
The defaults are the recipe of the model and task, which --list prints. Spans of training are written 15e (epochs),
50000u (updates), 2.5M or 900k or 2500000 (touches: training images seen) or 5/7 (share of the run).
Exit status: 0 done; 1 the run's folder, its code, the machine or the backend cannot be used; 2 wrong arguments; 3 the
loss, a gradient or an evaluation is not finite; 4 the data, which may have changed, or the checkpoints cannot be used;
130, 143 or 129 stopped by SIGINT, SIGTERM or SIGHUP, saved.
"""


@log.plainly(hold=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and return its exit status."""
    try:
        across = communicator()
    except LaunchError as error:
        return complain("minidl.train", 1, error)
    try:
        check_arguments(across, list(sys.argv[1:] if argv is None else argv))
    except LaunchError as error:
        return leave(across, _said(across, 2, error))
    try:
        with nullcontext() if across.rank == 0 else quietly():
            args = make_parser().parse_args(argv)
    except SystemExit as error:
        if across.size > 1:
            across.farewell(PATIENCE)
            leave(across, int(error.code or 0))
        raise
    if args.list:
        return leave(across, show("minidl.train", _listing()) if across.rank == 0 else 0)
    return leave(across, _told(args, across))


def _told(args: argparse.Namespace, across: Communicator) -> int:
    """Train, and return the exit status; what is wrong has been said, by one rank."""
    say = partial(_said, across)
    return exit_status(
        say,
        lambda: _train(args, across, say),
        files="choose another --out or make it writable",
        memory="lower --batch-size",
        interrupted="stopped at once; what was saved before is whole",
        when_free=lambda: ", then --resume" if _is_begun(args.out) else ", then run it again",
    )


def _said(across: Communicator, status: int, message: object) -> int:
    """Print what is wrong, on one rank where all have run into it, and return the status."""
    words = last_words(across)
    return status if words is None else complain("minidl.train", status, f"{words}{message}")


def _is_begun(out: Path | None) -> bool:
    """Whether there is a run that --resume can go on with."""
    return out is not None and os.path.isfile(os.path.join(out, "config.json"))


def _train(args: argparse.Namespace, across: Communicator, _complain: Complain) -> int:
    require("training")
    from .late import kept, when
    from .named import came_from, own_settings, where
    from .trainer import Trainer

    config, out = Config(), Path()
    try:
        if args.changed_code and not args.resume:
            raise ConfigError("--changed-code goes with --resume: a new run takes the code as it is; leave it out")
        config, out = across.of_first(lambda: _configuration(args, across))
        args.out = out
        done = None if args.resume else across.of_first(lambda: _done_already(config, out))
        if done:
            if across.rank == 0:
                cure = "to train it anew give another --out, or remove that folder"
                _say_result(done, f"done already, in {out}; {cure}")
            return 0
        summary = Trainer(
            config, out, resume=args.resume, quiet=args.quiet, across=across, changed_code=args.changed_code
        ).run()
    except Exception as error:
        if isinstance(error, MemoryError) or hasattr(error, "exit_status") or not came_from(error, config):
            raise
        at = when(error)
        what = f"{' and '.join(own_settings(config))}: in {at}: " if at and own_settings(config) else ""
        return _complain(1, f"{what}{where(error)}, in code of your own; mend it and {kept(out)}")
    if across.rank == 0:
        _say_result(summary, f"{summary['seconds']:.1f} s, {out}")
    return 0


def _say_result(summary: dict[str, Any], last_line: str) -> None:
    from .record import describe_evaluation

    progress = Progress(quiet=False)
    progress.say(f"last: {describe_evaluation(summary['last'])}")
    progress.say(f"best: {describe_evaluation(summary['best'])}")
    progress.say(last_line)


def _done_already(config: Config, out: Path) -> dict[str, Any] | None:
    """Return the summary of the run in `out`, if it is finished and is the very one that is asked for."""
    from . import describe
    from .record import RunError, read_config, read_summary

    if not (out / "config.json").exists():
        return None
    there = read_config(out)
    with quietly():  # the run says it
        backend = resolve(config.backend)
    asked = {"config": describe.recorded(config, backend), "code": describe.describe_code(config, {})}
    if there.get("stages") or there.get("code_changes"):  # not the run that such a command makes
        return None
    same = all(part(there) == part(asked) for part in (describe.settings, describe.code_identity))
    if not same or any(there["config"].get(name) != asked["config"][name] for name in ("data_dir", "sample")):
        return None
    summary = read_summary(out)
    if summary is not None:
        return summary
    raise RunError(f"{out} holds this run, not finished; --resume continues it, another --out starts it anew")


def _configuration(args: argparse.Namespace, across: Communicator = ALONE) -> tuple[Config, Path]:
    """Return what to run and its folder: the recipe, or to resume the run's settings, changed by the given flags."""
    from .run_folder import RunFolder
    from .unnamed import unnamed

    names = Config.__dataclass_fields__
    given = {name: value for name, value in vars(args).items() if name in names and value is not None}
    given["ranks"] = across.size
    if args.resume and args.out:
        out = args.out
    elif "model" in given and "task" in given:
        defaults = {"backend": of_commands(), **usual(given.get("optimiser", "sgd"))}
        config = replace(recipe(given["model"], given["task"]), **{**defaults, **given})
        out = args.out or Path("runs") / folder_name(config)
        if not args.resume:
            return config, out
    else:
        raise ConfigError(unnamed(args))
    there = Config.from_json(RunFolder(out, resume=True).read_config()["config"])
    if "backend" in given:
        there = replace(there, device=None)
    if "sample" in given or "data_dir" in given:
        there = replace(there, sample=False, data_dir=None)
    return replace(there, **given), out


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m minidl.train",
        description="Train a network with a normalization of your choice; the defaults are the paper's recipe.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("model", nargs="?", help=f"one of: {', '.join(MODELS)}; or your own, my_module:MyNet")
    add("task", nargs="?", help=f"one of: {', '.join(TASKS)}")
    add("--list", action="store_true", help="print models, tasks, norms, recipes and backends")

    add = parser.add_argument_group("network").add_argument
    add("--norm", metavar="NAME", help=f"one of: {', '.join(NORMS)} (mn); or your own, my_module:MyNorm")
    add("--norm-at", metavar="WHERE", help="all, or first: only the first norm, the others are BN (all)")
    add(
        "--modes",
        type=_modes,
        metavar="K",
        help="modes of mn and mgn (2), or one K per norm, such as 2,6; of mn also auto",
    )
    add("--groups", type=int, metavar="G", help="groups of gn (2)")
    add("--norm-momentum", type=float, metavar="L", help="weight of the newest batch in running statistics (0.1)")
    add("--per-mode-affine", action="store_const", const=True, help="a weight and a bias for each mode of mn")
    add("--gate-input", metavar="WHAT", help="what the gates of mn see: plain or normalised (plain)")
    add("--gate-lr", type=float, metavar="F", help="learning rate of the gates, as a multiple of the others' (1)")
    add("--gate-weight-decay", type=float, metavar="W", help="weight decay of the gates (that of the others)")
    add("--gate-temperature", type=float, metavar="T", help="what the logits of the gates of mn are divided by (1)")

    add = parser.add_argument_group("the number of modes, with --modes auto").add_argument
    add("--max-modes", type=int, metavar="K", help="the largest number of modes of a norm (8)")
    add("--auto-by", metavar="WAY", help=f"one of: {', '.join(WAYS)} (prune)")
    add("--auto-threshold", type=float, metavar="P", help="remove a mode whose mean gate is below P (0.05)")
    add("--auto-strength", type=float, metavar="L", help="strength of the entropy penalty, in nats (0.01)")
    add(
        "--auto-window",
        type=_warmup,
        metavar="SPAN",
        help="time between two decisions; a plain number is in updates (1/60)",
    )
    add("--auto-until", type=_warmup, metavar="SPAN", help="time of the last decision, likewise (2/3)")

    group = parser.add_argument_group("training")
    add = group.add_argument
    add("--batch-size", type=int, metavar="N", help="images per update (the recipe's)")
    add("--optimiser", metavar="NAME", help=f"one of: {', '.join(OPTIMISERS)} (sgd)")
    add("--lr", type=float, help="learning rate (the recipe's; of adam and adamw 0.001)")
    add("--momentum", type=float, help="sgd's momentum (multitask 0, others 0.9)")
    add("--nesterov", action="store_const", const=True, help="sgd with Nesterov's momentum")
    add("--betas", type=_numbers, metavar="B1,B2", help="of adam and adamw (0.9,0.999)")
    add("--eps", type=float, help="of adam and adamw (1e-8)")
    add("--weight-decay", type=float, metavar="W", help="weight decay (0; residual networks 1e-4; adamw 0.01)")
    add("--label-smoothing", type=float, metavar="S", help="share of the target spread over all classes (0)")
    add("--schedule", metavar="NAME", help=f"one of: {', '.join(SCHEDULES)} (step)")
    add(
        "--warmup",
        type=_warmup,
        metavar="SPAN",
        help="raise the rate linearly over a span; a plain number is in updates (0)",
    )
    add(
        "--lr-drops",
        type=_spans,
        metavar="SPANS",
        help="when step drops lr, such as 2.5M,3M or 10e,12e or none (the recipe's)",
    )
    add("--drop-factor", type=float, metavar="F", help="what a drop multiplies lr by (0.1)")
    add("--augment", metavar="NAME", help=f"one of: {', '.join(AUGMENTATIONS)} (the recipe's)")
    add("--seed", type=int, help="one seed gives weights, order, augmentation and dropout (0)")
    length = group.add_mutually_exclusive_group()
    length.add_argument(
        "--epochs", type=_length("e"), dest="length", metavar="E", help="length of the run (the recipe's)"
    )
    length.add_argument("--updates", type=_length("u"), dest="length", metavar="U", help="the same in updates")
    length.add_argument(
        "--touches", type=_length(""), dest="length", metavar="T", help="the same in images, such as 3.5M"
    )

    add(
        "--image-size",
        type=int,
        metavar="S",
        help="side of the images of folder and arrays (32, of resnet18 224), imagenet (224)",
    )
    add("--corrupt", metavar="WHAT", help="refuse or skip images of folder and imagenet that cannot be read (refuse)")
    add(
        "--test-share",
        type=float,
        metavar="P",
        help="share of each class for the test set, if there is none (0.2)",
    )
    add("--rarer", metavar="NAME/F", help="make a dataset F times rarer, such as svhn/10")

    add = parser.add_argument_group("machine").add_argument
    add("--backend", metavar="NAME", help=f"one of: {', '.join(BACKENDS)} (MINIDL_BACKEND, else auto)")
    add("--device", type=int, metavar="I", help="which GPU, with --backend cupy (0)")
    add("--sync-norm", action="store_const", const=True, help="on several processes: bn and mn over the whole batch")
    add("--threads", type=int, metavar="T", help="CPU threads (all usable cores); the numbers do not depend on it")
    add("--dtype", metavar="NAME", help="float32 or float64 (float32)")

    group = parser.add_argument_group("data and results")
    where = group.add_mutually_exclusive_group()
    where.add_argument("--data-dir", type=as_path, metavar="DIR", help="where the datasets' files are, or your own")
    where.add_argument("--sample", action="store_const", const=True, help="train on the bundled sample")
    add = group.add_argument
    add("--out", type=as_path, metavar="DIR", help="the run's folder (runs/NAME)")
    add("--resume", action="store_true", help="continue the run in --out, with more --epochs extend it")
    changed_code(group, "with --resume: ")
    add(
        "--from",
        type=as_path,
        dest="start_from",
        metavar="RUN",
        help="start with the weights of another run, or of a checkpoint",
    )
    add("--eval-every", type=int, metavar="U", help="updates between evaluations (an epoch)")
    add("--log-every", type=int, metavar="U", help="updates per line of losses.jsonl (50, or fewer for a short run)")
    add("--checkpoint-every", type=int, metavar="U", help="updates between checkpoints (an epoch)")
    add(
        "--tensorboard",
        type=as_path,
        metavar="DIR",
        help="also write the numbers for TensorBoard, into DIR and the run's name",
    )
    add("--quiet", action="store_true", help="print only the result")
    return parser


def _length(suffix: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if comma := re.fullmatch(r"(\d+),(\d+)([kM]?)", text):
            cure = f"write it with a point, {comma[1]}.{comma[2]}{comma[3]}"
            raise argparse.ArgumentTypeError(f"must be a number, got {text!r}; {cure}")
        if re.match(r"-[\d.]", text.strip()):
            raise argparse.ArgumentTypeError(f"must be positive, got {text!r}")
        if suffix and not re.fullmatch(r"\+?(\d+\.?\d*|\.\d+)([eE]\+?\d+)?", text.strip()):
            raise argparse.ArgumentTypeError(f"must be a plain number, such as 15, got {text!r}")
        return text + suffix

    return read


def _modes(text: str) -> int | tuple[int, ...] | str:
    if text == "auto":
        return text
    try:
        modes = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a whole number, several or auto, such as 2 or 2,6, got {text!r}"
        ) from None
    return modes[0] if len(modes) == 1 else modes


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be two numbers, such as 0.9,0.999, got {text!r}") from None


def _warmup(text: str) -> str:
    return text + "u" if text.isdecimal() else text


def _spans(text: str) -> tuple[str, ...]:
    if found := re.search(r"(?<![\d.])(\d{1,3}),(\d+[kM])(?=,|$)", text):
        raise argparse.ArgumentTypeError(
            f"{found[0]} is two drops, the first after {found[1]} images; write a decimal point, {found[1]}.{found[2]}"
        )
    return () if text == "none" else tuple(text.split(","))


def _listing() -> str:
    rows: list[tuple[str, Any]] = [
        ("models", MODELS),
        ("tasks", TASKS),
        ("norms", [f"{name:4} {text}{NORM_FLAGS.get(name, '')}" for name, text in NORMS.items()]),
        ("recipes", [known.describe() for known in recipes()]),
        ("backends (--backend NAME says why one cannot be used here)", [f"{name:5} {text}" for name, text in ENGINES]),
    ]
    return "\n".join(f"{title}:\n" + "\n".join(f"  {each}" for each in content) for title, content in rows)


if __name__ == "__main__":
    sys.exit(main())
