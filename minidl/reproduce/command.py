"""What the command does once its arguments are read: plan, train what is missing, write."""

import argparse
import errno
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from minidl import log
from minidl.backend import NAMES, VARIABLE, on_gpu, resolve
from minidl.command_line import say
from minidl.data import Task, load_task
from minidl.files import make_folder, no_folder
from minidl.outputs import OutputError, run_around
from minidl.parallel import available_threads
from minidl.reproduce.farm import workers
from minidl.reproduce.figure2 import figure2_files, figure2_runs, write_figure2
from minidl.reproduce.figure2_vgg13 import vgg13_files, vgg13_runs, write_vgg13
from minidl.reproduce.overhead import overhead_files, write_overhead
from minidl.reproduce.plan import TABLES, Run, runs
from minidl.reproduce.report import refuse_others, table_files, write_table
from minidl.reproduce.runs import jobs_of, run_jobs
from minidl.reproduce.store import Data, ReproduceError, Store
from minidl.train.describe import describe_data
from minidl.writing import complete

JOBS_ON_A_GPU = 3


def table(args: argparse.Namespace) -> list[str]:
    """Complete and write a table; return a line for each run that failed."""
    plan, store = TABLES[args.what], Store(args.out)
    planned = runs(plan, args.seeds, args.scale, **_settings(args))
    wanted = _only(planned, args.only)
    failures: list[str] = []
    if args.report_only and not (args.sample or args.data_dir):
        example = store.example(planned)
        data, args.sample, args.data_dir = example.data, example.config.sample, example.config.data_dir
    else:
        data = describe_data(_load(args, plan.config.task))
    if args.dry_run:
        return _list(wanted, store, data)
    refuse_others(args.out, table_files(_stem(args)))
    if not args.report_only:
        _make(args.out)
        failures = _train(wanted, store, data, _side_by_side(args, wanted))
    try:
        _print(*write_table(plan, planned, store, data, _command(args), args.scale, _stem(args)))
    except ReproduceError:
        if not failures:  # which say why there is nothing to write
            raise
    return failures


def figure2(args: argparse.Namespace) -> list[str]:
    """Train what Figure 2 looks into where it is missing, and draw it; return a line for each run that failed."""
    store = Store(args.out)
    vgg = vars(args).get("model", "lenet") == "vgg13"
    if vars(args).get("data") and not vgg:
        raise ReproduceError(f"--data {args.data} goes with --model vgg13; lenet's Figure 2 is of the multi-task runs")
    found = vgg13_runs(args.scale, _data(args), **_settings(args)) if vgg else None
    planned = _only(found or figure2_runs(args.scale, FIGURES[args.what], **_settings(args)), args.only)
    task = _load(args, planned[0].config.task)
    data = describe_data(task)
    if args.dry_run:
        return _list(planned, store, data)
    refuse_others(args.out, vgg13_files(_stem(args)) if vgg else figure2_files(planned, _stem(args)))
    _make(args.out)
    failures = _train(planned, store, data, _side_by_side(args, planned))
    if not failures:
        write = write_vgg13 if vgg else write_figure2
        _print(*write(planned, store, task, data, _command(args), args.scale, _stem(args)))
    return failures


def overhead(args: argparse.Namespace) -> list[str]:
    """Measure the cost of modes."""
    refuse_others(args.out, overhead_files(_stem(args)))
    _make(args.out)
    _print(*write_overhead(args.out, _command(args), args.scale, _stem(args)))
    return []


FIGURES = {"figure2": "table1", "figure2-momentum": "table1-momentum"}  # the table whose runs are looked into
WHAT: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    **dict.fromkeys(TABLES, table),
    **dict.fromkeys(FIGURES, figure2),
    "overhead": overhead,
}


def _only(planned: list[Run], texts: Sequence[str] | None) -> list[Run]:
    """Return the runs whose label contains one of the texts; all without texts."""
    wanted = [run for run in planned if texts is None or any(text in run.label for text in texts)]
    if not wanted:
        raise ReproduceError(f"no run's name contains {', '.join(texts or ())}; --dry-run lists the names")
    return wanted


def _command(args: argparse.Namespace) -> str:
    """Return the command that gives the same numbers anywhere: DIR stands for the reader's own data folder."""
    given = vars(args)
    words = ["python", "-m", "minidl.reproduce", args.what]
    words += ["--seeds", str(args.seeds)] if "seeds" in given else []
    words += ["--model", args.model, "--data", _data(args)] if given.get("model", "lenet") != "lenet" else []
    words += ["--image-size", str(args.image_size)] if given.get("image_size") else []
    words += ["--data-dir", "DIR"] if given.get("data_dir") else []
    words += ["--sample"] if given.get("sample") else []
    words += ["--scale", f"{args.scale:f}"] if args.scale != 1 else []
    words += ["--only", *args.only] if given.get("only") and args.what in FIGURES else []  # a table shows all runs
    words += ["--backend", args.backend] if given.get("backend") else []
    return shlex.join(words)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    given = vars(args)
    settings = {name: given[name] for name in ("data_dir", "sample", "device")} | {"backend": _backend(args)}
    return settings | ({"image_size": given["image_size"]} if given.get("image_size") else {})


def _backend(args: argparse.Namespace) -> str:
    """Return where the runs compute; what trains nothing needs no device of theirs."""
    named = args.backend or os.environ.get(VARIABLE)
    trains = not (args.dry_run or vars(args).get("report_only"))
    return resolve(args.backend) if trains or named not in {*NAMES} - {"auto"} else named


def _data(args: argparse.Namespace) -> str:
    """Return the task of a figure's runs."""
    return args.data or ("multitask" if args.model == "lenet" else "cifar10")


def _side_by_side(args: argparse.Namespace, planned: Sequence[Run]) -> int:
    """Return how many runs share the machine, a few keep a GPU busy; or the ranks that train one each."""
    if ranks := workers():
        return ranks
    return int(args.jobs or (available_threads() if not on_gpu(planned[0].config.backend) else JOBS_ON_A_GPU))


def _load(args: argparse.Namespace, name: str) -> Task:
    """Load the data; the runs then find it decoded."""
    size = {"image_size": args.image_size} if vars(args).get("image_size") else {}
    task = load_task(name, data_dir=args.data_dir, sample=args.sample, progress=sys.stderr.isatty(), **size)
    for line in task.describe():
        say(line)
    return task


def _make(folder: Path) -> None:
    """Make the results folder, or fail before anything takes time."""
    if (run := run_around(folder)) is not None:
        raise OutputError(f"--out must lie outside {run}, the folder of a run, got {folder}; give another folder")
    if (what := no_folder(folder)) is not None:
        raise ReproduceError(f"{folder} {what}; give another --out")
    make_folder(folder)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    complete(folder)


def _train(planned: Sequence[Run], store: Store, data: Data, side_by_side: int) -> list[str]:
    jobs = jobs_of(planned, store, data)
    log.settled()
    states = [job.state for job in jobs]
    say(
        f"{len(jobs)} runs in {store.runs}: {states.count('done')} done, {states.count('resume')} to be resumed, "
        f"{states.count('run')} to be run, {side_by_side} side by side"
    )
    return run_jobs(jobs, side_by_side)


def _list(planned: Sequence[Run], store: Store, data: Data) -> list[str]:
    for job in jobs_of(planned, store, data):
        say(f"{job.state:6} {job.run.label}: {job.path}")
    return []


def _stem(args: argparse.Namespace) -> str:
    """Return the name of the outputs; shortened ones and those of the sample never take the place of the others."""
    sample = "-sample" if vars(args).get("sample") else ""
    scale = f"-scale{args.scale:f}" if args.scale != 1 else ""
    model = f"-{args.model}-{_data(args)}" if vars(args).get("model", "lenet") != "lenet" else ""
    return f"{args.what}{model}{sample}{scale}"


def _print(text: str, files: Sequence[Path]) -> None:
    say(f"\n{text}\n\n" + "\n".join(map(str, files)))
