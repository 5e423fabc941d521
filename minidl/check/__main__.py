"""The command: ``python -m minidl.check list | show | run | relations | export | verify``.

Exit codes: 0 conforms, 1 deviates, 2 usage, 3 nothing ran, 130, 143 or 129 stopped by SIGINT, SIGTERM or SIGHUP.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from minidl.check import bfloat16
from minidl.check.adapter import load_adapter
from minidl.check.api import run, verify
from minidl.check.baseline import apply_baseline, junit
from minidl.check.case import DTYPES
from minidl.check.metamorphic import metamorphic
from minidl.check.report import EXIT_CONFORMS, EXIT_NOTHING, EXIT_USAGE, Report
from minidl.check.safetensors import VectorError
from minidl.check.seeds import FINDS, definitions
from minidl.check.suite import VECTORS, Suite, open_suite
from minidl.command_line import NULL, Parser, as_path, complain, file_error, has_null, say
from minidl.files import make_folder, naming
from minidl.leaving import LeftError, leaving
from minidl.outputs import JSON_LIST, JUNIT, OutputError, check_folder, check_outputs, run_around, write_output


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(prog="python -m minidl.check", description="Check a layer against shipped vectors.")
    commands = top.add_subparsers(dest="command", metavar="list | show | run | relations | export | verify")
    lister = commands.add_parser("list", help="the cases, and what each is there to find")
    lister.add_argument("--layer", default="")
    commands.add_parser("show", help="one case in full").add_argument("case")
    for name, help_text in (("run", "run an adapter"), ("relations", "check relations that need no expected values")):
        command = commands.add_parser(name, help=help_text)
        kinds = (*DTYPES, bfloat16.NAME) if name == "run" else DTYPES
        command.add_argument("adapter", metavar="pkg.module:Adapter")
        command.add_argument(
            "--layer", action="append", default=[], help="may be given again; without it, the adapter's layers"
        )
        command.add_argument("--dtype", default="float64" if name == "relations" else "float32", choices=kinds)
        command.add_argument(
            "--declare", action="append", default=[], metavar="KEY=VALUE", help="a convention, e.g. running_var=biased"
        )
        command.add_argument("--verbose", action="store_true", help="print the cases that pass, too")
        if name == "run":
            command.add_argument(
                "--case", action="append", default=[], help="part of a case's name; may be given again"
            )
            reports(command)
            command.add_argument("--vectors", type=as_path, default=VECTORS, metavar="DIR")
    exporter = commands.add_parser("export", help="copy the vectors to a folder")
    exporter.add_argument("folder", type=as_path)
    exporter.add_argument("--layer", default="")
    judge = commands.add_parser("verify", help="compare the outputs another program wrote")
    judge.add_argument("vectors", type=as_path)
    judge.add_argument("outputs", type=as_path)
    judge.add_argument("--layer", default="")
    judge.add_argument("--declare", action="append", default=[], metavar="KEY=VALUE")
    judge.add_argument(
        "--dtype", default="", choices=DTYPES, help="what the program computes in; default: as it writes"
    )
    judge.add_argument("--verbose", action="store_true")
    reports(judge)
    return top


def reports(command: argparse.ArgumentParser) -> None:
    """The options that say where the outcome goes."""
    command.add_argument("--json", type=as_path, metavar="FILE", help="write the report as JSON")
    command.add_argument("--junit", type=as_path, metavar="FILE", help="write it as JUnit XML, one test per case")
    command.add_argument(
        "--baseline",
        type=as_path,
        metavar="FILE",
        help="known failures, a case a line; only others fail; a file that does not exist is written",
    )


def conventions(pairs: Sequence[str], base: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """The conventions declared on the command line on top of the adapter's own."""
    if not pairs:
        return base
    for pair in pairs:
        if "=" not in pair:
            raise ValueError(f"check: --declare must be KEY=VALUE, got {pair!r}; for example running_var=biased")
    return {**(base or {}), **dict(pair.split("=", 1) for pair in pairs)}


def list_cases(suite: Suite, layer: str) -> None:
    """Print the cases."""
    for entry in suite.entries:
        if not layer or entry.layer == layer:
            say(f"{entry.id:48} {entry.result:9} {suite.flags[entry.flag]['finds']}")
    for name in suite.layers:
        for case in definitions(name) if not layer or name == layer else ():
            say(f"{case.id:48} {case.result:9} {FINDS[case.flag]}")


def show_case(suite: Suite, name: str) -> int:
    """Print one case."""
    for entry in suite.entries:
        if entry.id == name:
            case = suite.case(entry)
            flag = suite.flags[entry.flag]
            say(
                f"{case.id}\nfinds   {flag['finds']}" + (f"\nseen in {', '.join(flag['seen'])}" if flag["seen"] else "")
            )
            say(f"result  {case.result}\noptions {case.options}\nsteps   {' '.join(case.steps)}")
            say(f"memory  {case.memory or 'as it comes'}" + (f"\nshards  {list(case.shards)}" if case.shards else ""))
            for key, value in (case.inputs | case.expected).items():
                say(f"  {key:32} {value.dtype!s:8} {value.shape}")
            return EXIT_CONFORMS
    raise ValueError(f"check: case must be one that list prints, got {name!r}")


def export(suite: Suite, folder: Path, layer: str) -> None:
    """Copy the vectors."""
    check_folder(
        "export", folder, ("index.json",), lambda content: content[:80].lstrip(b"{ \n").startswith(b'"schema"')
    )
    if (run_folder := run_around(folder)) is not None:
        raise OutputError(f"export must write outside {run_folder}, the folder of a run; give another folder")
    chosen = [entry for entry in suite.entries if not layer or entry.layer == layer]
    for file in ("index.json", *(entry.file for entry in chosen)):
        make_folder((folder / file).parent)
        with naming(folder / file):
            shutil.copy(suite.folder / file, folder / file)
    say(f"{folder}: {len(chosen)} vectors and index.json")


def finish(reports: Sequence[Report], options: argparse.Namespace) -> int:
    """Print the reports, write what is asked for, and return the exit code: the worst that happened."""
    baseline = getattr(options, "baseline", None)
    notes = apply_baseline(reports, Path(baseline)) if baseline else []
    say("\n\n".join(report.text(options.verbose) for report in reports))
    for note in notes:
        say(note)
    if json_file := getattr(options, "json", None):
        write_output(json_file, "[" + ",\n".join(report.to_json() for report in reports) + "]\n")
    if junit_file := getattr(options, "junit", None):
        write_output(junit_file, junit(reports))
    codes = [report.exit_code for report in reports]
    if not codes:
        return EXIT_NOTHING
    return max(codes) if EXIT_NOTHING not in codes else EXIT_NOTHING


def dispatch(options: argparse.Namespace) -> int:
    """Do what the command line asks for."""
    files = [
        (f"--{name}", getattr(options, name, None), kind) for name, kind in (("json", JSON_LIST), ("junit", JUNIT))
    ]
    check_outputs(files)
    if options.command == "list":
        list_cases(open_suite(), options.layer)
        return EXIT_CONFORMS
    if options.command == "show":
        return show_case(open_suite(), options.case)
    if options.command == "export":
        export(open_suite(), Path(options.folder), options.layer)
        return EXIT_CONFORMS
    if options.command == "verify":
        report = verify(
            options.vectors, options.outputs, options.layer, conventions(options.declare, None), options.dtype
        )
        return finish([report], options)
    make = load_adapter(options.adapter)
    layers = options.layer or list(getattr(make, "layers", ()))
    if not layers:
        raise ValueError(f"check: --layer must be given, since {options.adapter} has no attribute layers")
    agreed = conventions(options.declare, getattr(make, "conventions", None))
    if options.command == "relations":
        reports = [metamorphic(make, layer, options.dtype, agreed) for layer in layers]
        return finish(reports, options)
    reports = [run(options.adapter, layer, options.dtype, options.case, options.vectors, agreed) for layer in layers]
    return finish(reports, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    if has_null(arguments or ()):
        print(NULL, file=sys.stderr)
        return EXIT_USAGE
    options = make_parser().parse_args(arguments)
    if options.command is None:
        make_parser().print_usage(sys.stderr)
        return EXIT_NOTHING
    try:
        with leaving():
            return dispatch(options)
    except (KeyboardInterrupt, LeftError) as error:
        return complain("minidl.check", 128 + getattr(error, "signum", 2), "interrupted")
    except OSError as error:
        print(file_error(error, "give another path"), file=sys.stderr)
        return EXIT_USAGE
    except (ImportError, ValueError, VectorError) as error:
        print(f"{error}".splitlines()[0], file=sys.stderr)
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
