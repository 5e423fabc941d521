"""The command: `python -m minidl.reproduce table1 --data-dir DIR`."""

import argparse
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path

from minidl import log
from minidl.backend import NAMES as BACKENDS
from minidl.command_line import Parser, as_path, complain, exit_status, whole
from minidl.extras import require
from minidl.parallel import available_threads

OUT = "runs/reproduce"
EPILOG = """\
examples:
  python -m minidl.reproduce table1 --data-dir DIR
  python -m minidl.reproduce table1 --sample --scale 0.2 --seeds 2
  python -m minidl.reproduce table1 --report-only
  mpiexec -n 8 python -m mpi4py.futures -m minidl.reproduce table1    7 ranks train a run each, rank 0 collects

The command may be stopped (Ctrl-C) and given again at any time: finished runs are kept, interrupted runs continue.
`python -m minidl.reproduce table1 --help` lists the options.
Exit status: 0 done; 1 a run failed, or something cannot be used; 2 wrong arguments; 4 the data or a checkpoint cannot
be used; 130 or 143 stopped, saved.
"""

_complain = partial(complain, "minidl.reproduce")


@log.plainly(hold=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and return its exit status."""
    args = make_parser().parse_args(argv)
    return exit_status(
        _complain,
        lambda: _reproduce(args),
        files="choose another --out or make it writable, then run it again",
        memory="close other programs, or lower --jobs",
        interrupted="interrupted; the same command continues from what was saved",
        when_free=lambda: ", then run it again",
    )


def _reproduce(args: argparse.Namespace) -> int:
    """Run what is asked for; 1 if a run of it failed."""
    require("reproducing the paper")
    from minidl.reproduce import command, farm

    farm.workers()  # refuses processes that would all do the same
    failures = command.WHAT[args.what](args)
    for failure in failures:
        _complain(1, failure)
    return 1 if failures else 0


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m minidl.reproduce",
        description="Run what a table or figure of the paper needs, and write it beside the published numbers.",
        epilog=EPILOG,
    )
    every = Parser(add_help=False)
    every.add_argument("--out", type=as_path, default=Path(OUT), metavar="DIR", help=f"the results folder ({OUT})")
    every.add_argument(
        "--scale", type=_scale, default=Decimal(1), metavar="S", help="shorten everything to S times its length (1)"
    )

    trains = Parser(add_help=False)
    where = trains.add_mutually_exclusive_group()
    where.add_argument(
        "--data-dir", type=as_path, metavar="DIR", help="where the datasets' files are; else they are downloaded"
    )
    where.add_argument("--sample", action="store_true", help="train on the bundled sample")
    add = trains.add_argument
    cores = available_threads()
    add("--jobs", type=whole, metavar="J", help=f"runs side by side (the usable cores, here {cores}; on a GPU 3)")
    add("--backend", choices=BACKENDS, help="where to compute (MINIDL_BACKEND, else numpy)")
    add("--device", type=int, metavar="I", help="which GPU, with --backend cupy (0)")
    add("--only", nargs="+", metavar="TEXT", help='only runs whose name contains one of these, such as "MN K=2"')
    add("--dry-run", action="store_true", help="only list the runs: done, to be resumed, to be run")

    table = Parser(add_help=False)
    table.add_argument("--seeds", type=whole, default=5, metavar="S", help="seeds 0 to S - 1 (5)")
    table.add_argument("--report-only", action="store_true", help="train nothing, write the table from what is done")

    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT", parser_class=Parser)
    for name, what in (
        ("table1", "multi-task, N = 128: BN, IN, LN, MN"),
        ("table1-momentum", "the same by SGD with momentum 0.9"),
        ("table2", "multi-task, N = 4, 8, 16: BN, MN, GN, MGN"),
        ("table3", "CIFAR-10, NIN, VGG13, ResNet20: BN, MN"),
        ("table3-cifar100", "the same on CIFAR-100"),
        ("table4", "ResNet18 on ImageNet: BN, MN"),
        ("table5", "multi-task, N = 256, 512: BN, IN, LN, MN"),
        ("unbalanced", "ours: one of the four datasets ten times rarer"),
        ("modes", "ours: K chosen per layer, and one affine map per mode"),
        ("auto", "ours: K found while it trains"),
        ("auto-resnet20", "the same of ResNet20 on CIFAR-10"),
        ("collapse", "ours: gates that collapse, and cures"),
        ("collapse-resnet20", "the same of ResNet20 on CIFAR-10"),
        ("tried", "ours: settings that the paper does not state"),
    ):
        one = commands.add_parser(name, help=what, parents=[trains, table, every])
        if name == "table4":
            one.add_argument("--image-size", type=whole, metavar="S", help="side of the images (224)")
    for name, what in (
        ("figure2", "what the modes find"),
        ("figure2-momentum", "the same in the runs of table1-momentum"),
    ):
        one = commands.add_parser(name, help=what, parents=[trains, every])
        if name == "figure2":
            one.add_argument("--model", choices=("lenet", "vgg13"), default="lenet", help="the network (lenet)")
            one.add_argument(
                "--data",
                choices=("cifar10", "cifar100"),
                help="what vgg13 is trained on (cifar10); lenet is multi-task",
            )
    commands.add_parser("overhead", help="what modes cost", parents=[every])
    return parser


def _scale(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if value.is_nan() or not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, such as 0.1, got {text!r}")
    return value.normalize()


if __name__ == "__main__":
    sys.exit(main())
