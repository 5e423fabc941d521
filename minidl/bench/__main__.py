"""The command: `python -m minidl.bench --against torch`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from minidl import device, log
from minidl.backend import NAMES as BACKENDS
from minidl.backend import on_gpu, resolve, use_backend, use_device
from minidl.bench import cases, gpu, loading, minidl_side, plot, processes, record, table, targets
from minidl.bench.cases import Settings
from minidl.bench.record import SECTIONS, Norm, Record
from minidl.bench.timing import QUICK, Plan
from minidl.command_line import Parser, as_path, complain, exit_status, say
from minidl.data import DataError
from minidl.extras import MissingLibraryError, require
from minidl.models import MODELS
from minidl.outputs import DRAWING, JSON_LIST, OutputError, check_outputs
from minidl.parallel import available_threads

MEASURE: dict[str, Callable[[Settings], Iterator[Record]]] = {
    "steps": cases.steps,
    "targets": targets.targets,
    "modes": cases.modes,
    "threads": cases.threads,
    "convolutions": cases.convolutions,
    "layers": cases.layers,
    "loader": loading.loader,
    "memory": processes.memory,
    "import": processes.imports,
}
ON_A_GPU: dict[str, Callable[[Settings], Iterator[Record]]] = {
    "steps": gpu.steps,
    "targets": gpu.targets,
    "modes": gpu.modes,
    "loader": loading.loader,
}
EPILOG = """\
examples:
  python -m minidl.bench --against torch --json bench.json --plot bench.png
  python -m minidl.bench --only steps --batch 16,128 --norms bn,mn6
  python -m minidl.bench --backend numba --against torch --only targets --markdown
  python -m minidl.bench --backend cupy --against torch --json gpu.json
  python -m minidl.bench --read bench.json --plot bench.png

A time is the median over all calls; a ratio is the median of the ratios of each round, with their quartiles.
Exit status: 0 done, 1 something needed cannot be used, 2 wrong arguments, 130 interrupted (--json holds what was done).
"""

_complain = partial(complain, "minidl.bench")


@log.plainly(hold=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and return its exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    parser = make_parser()
    args = parser.parse_args(arguments)
    return exit_status(
        _complain,
        lambda: _bench(args, arguments, parser),
        files="choose another file",
        memory="lower --batch, or leave it out",
        interrupted="interrupted" + (f"; {args.json} holds what was measured" if args.json else ""),
    )


def _bench(args: argparse.Namespace, arguments: Sequence[str], parser: argparse.ArgumentParser) -> int:
    """Measure, or read what was measured, and show it; 1 where something needed cannot be used."""
    try:
        check_outputs([("--json", args.json, JSON_LIST), ("--plot", args.plot, DRAWING)], read=args.read)
        if args.plot:
            require("--plot", "matplotlib")
        records = record.load(args.read) if args.read else []
        write = table.markdown if args.markdown else table.lines
        if args.read:
            say("\n".join(write(records)))
        else:
            args.backend = resolve(args.backend)
            measure = ON_A_GPU if on_gpu(args.backend) else MEASURE
            if unknown := [section for section in args.only or () if section not in measure]:
                parser.error(f"--backend {args.backend} has no {' and no '.join(unknown)}, only {', '.join(measure)}")
            with use_backend(args.backend), use_device(args.device):
                for line in write(_measured(args, arguments, records, measure)):
                    say(line)
        if args.plot:
            plot.draw(records, args.plot)
    except OutputError:
        raise
    except (DataError, MissingLibraryError, RuntimeError, ValueError) as error:
        return _complain(1, error)
    return 0


def _measured(
    args: argparse.Namespace,
    arguments: Sequence[str],
    records: list[Record],
    measure: dict[str, Callable[[Settings], Iterator[Record]]],
) -> Iterator[Record]:
    """Yield each record as it is measured, appended to `records` and saved."""
    settings = _settings(args)
    where = {"backend": args.backend, "device": device.name()}
    about = record.header(arguments, "torch" in settings.sides, threads=settings.threads, rounds=settings.plan.rounds)
    if about["load"] and about["load"][0] > about["cores"] / 2:
        _complain(
            0, f"the machine is busy (load {about['load'][0]:.1f}): wait until it rests, for figures that mean much"
        )

    unasked = {"targets"} if measure is MEASURE else set()  # there, other sections measure the same steps

    def stream() -> Iterator[Record]:
        log.settled()
        yield about
        for section in measure:
            if section in args.only if args.only else section not in unasked:
                yield from (row | where for row in measure[section](settings))

    for one in stream():
        records.append(one)
        if args.json:
            record.save(records, args.json)
        yield one


def _settings(args: argparse.Namespace) -> Settings:
    sides: dict[str, Any] = {"minidl": minidl_side}
    plan = QUICK if args.quick else Plan()
    if args.against:
        try:
            from minidl.bench import torch_side

            plan = replace(plan, rest=plan.rest + torch_side.spinning())
            sides["torch"] = _torch_on_the_gpu(args.device or 0) if on_gpu(args.backend) else torch_side
        except ImportError as error:
            _complain(0, f"PyTorch cannot be imported ({error}); minidl is measured alone (pip install torch)")
        except RuntimeError as error:
            _complain(0, f"{error}; minidl is measured alone")
    return Settings(
        plan=replace(plan, rounds=args.rounds) if args.rounds else plan,
        sides=sides,
        threads=args.threads or available_threads(),
        batches=args.batch,
        norms=args.norms,
        models=args.models,
        data_dir=args.data_dir,
        quick=args.quick,
    )


def _torch_on_the_gpu(index: int) -> Any:
    from minidl.bench import torch_gpu_side

    torch_gpu_side.set_up(index)
    return torch_gpu_side


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m minidl.bench",
        description="Measure how fast minidl is, and on request how fast PyTorch is at the same work.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("--against", choices=["torch"], help="measure PyTorch as well, in turn with minidl")
    add("--backend", choices=BACKENDS, default="numpy", help="where minidl computes, and PyTorch with it (numpy)")
    add("--device", type=int, metavar="I", help="which GPU, with --backend cupy (0)")
    add("--only", nargs="+", choices=list(SECTIONS), metavar="SECTION", help=f"some of: {', '.join(SECTIONS)} (all)")
    add("--batch", type=_list(_positive), metavar="N,...", help="batch sizes (4,16,128,512; 128 for single layers)")
    add("--norms", type=_list(Norm.parse), metavar="NAME,...", help=f"such as {','.join(cases.NORMS)} (these)")
    add("--models", type=_list(_model), metavar="NAME,...", default=("lenet",), help=f"{', '.join(MODELS)} (lenet)")
    add("--threads", type=_positive, metavar="T", help="threads of either side (all usable cores)")
    add("--rounds", type=_positive, metavar="R", help=f"rounds of bursts ({Plan.rounds})")
    add(
        "--quick",
        action="store_true",
        help="a few calls of each, to see that all works; the figures mean nothing",
    )
    add(
        "--data-dir",
        type=as_path,
        metavar="DIR",
        help="files of the multi-task sets for the loader (the bundled sample)",
    )
    add("--json", type=_file(), metavar="FILE", help="write the records")
    add("--markdown", action="store_true", help="write Markdown tables instead of aligned columns")
    add("--plot", type=_file(".png", ".pdf", ".svg"), metavar="FILE", help="draw the ratios (.png, .pdf or .svg)")
    add("--read", type=as_path, metavar="FILE", help="show what an earlier --json wrote, and measure nothing")
    return parser


def _list(read: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    def read_all(text: str) -> tuple[Any, ...]:
        try:
            return tuple(read(part) for part in text.split(","))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read_all


def _positive(text: str) -> int:
    if len(text) > 9:
        raise argparse.ArgumentTypeError(f"must be whole numbers of at most 999999999, got {text[:20]!r}")
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be whole numbers of at least 1, got {text!r}")
    return int(text)


def _model(text: str) -> str:
    if text not in MODELS:
        raise ValueError(f"must be one of {', '.join(MODELS)}, got {text!r}")
    return text


def _file(*endings: str) -> Callable[[str], Path]:
    def read(text: str) -> Path:
        file = as_path(text)
        if not file.parent.is_dir():
            raise argparse.ArgumentTypeError(f"{file.parent} must be a folder that exists; make it first")
        if endings and file.suffix not in endings:
            raise argparse.ArgumentTypeError(f"{file} must end in one of {', '.join(endings)}")
        return file

    return read


if __name__ == "__main__":
    sys.exit(main())
