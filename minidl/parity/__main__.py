"""The command: `python -m minidl.parity --backend cupy`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from minidl import device, log
from minidl.backend import NAMES, BackendError, compiles, on_gpu, resolve
from minidl.command_line import Parser, as_path, complain, exit_status, say
from minidl.outputs import JSON_LIST, check_outputs, write_output
from minidl.parity.cases import GROUPS, cases
from minidl.parity.compare import Record, compare, side
from minidl.parity.subjects import DTYPES

EPILOG = """\
An error is the largest |a − b|, a of NumPy and b of the other backend; the verdict is on the error relative to the
largest |a|. What is allowed follows from the arithmetic: the unit roundoff, the number of terms of the longest sum, and
how far a value moves when all that goes in is moved by its last digits. A line shows the value of the case that is
nearest to what is allowed, or beyond; --all shows every one.
Exit status: 0 all within, 1 a value is out of tolerance or a backend cannot be used, 2 wrong arguments.
"""
_ROW = "{:4} {:58} {:7} {:26} {:>8} {:>8} {:>8} {:>9} {:>9}"

_complain = partial(complain, "minidl.parity")


@log.plainly(hold=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and return its exit status."""
    args = make_parser().parse_args(argv)
    return exit_status(
        _complain,
        lambda: _parity(args),
        files="choose another file",
        memory="close other programs",
        interrupted="interrupted",
    )


def _parity(args: argparse.Namespace) -> int:
    """Compare and show; 1 where a value is out of tolerance, or a backend cannot be used."""
    records: list[Record] = []
    try:
        check_outputs([("--json", args.json, JSON_LIST)])
        backend = resolve(args.backend)
        if not (on_gpu(backend) or compiles(backend)):
            raise BackendError("numpy would be compared with itself; give --backend cupy on a machine with a GPU")
        log.settled()
        for line in _report(args, backend, records):
            say(line)
    except RuntimeError as error:
        return _complain(1, error)
    out = [record for record in records[1:] if not record["ok"]]
    say(f"\n{len(records) - 1 - len(out)} of {len(records) - 1} values within their tolerance")
    return 1 if out else 0


def _report(args: argparse.Namespace, backend: str, records: list[Record]) -> Iterator[str]:
    """Yield the lines of the table; each value's record is appended to `records`, and they are saved."""
    with side(backend, args.device):
        records.append({"what": "header", "backend": backend, "device": device.name(), "versions": device.versions()})
        yield f"numpy against {device.describe()} ({_listed(device.versions())})"
    group = None
    for case in cases():
        if case.group not in args.only:
            continue
        if case.group != group:
            group = case.group
            head = ("", "", "dtype", "value", "absolute", "relative", "allowed", "numpy ms", f"{backend} ms")
            yield f"\n{GROUPS[group]}\n{_ROW.format(*head)}"
        for dtype in args.dtype:
            found = compare(case, dtype, backend, args.device, seconds=0.0 if args.quick else 0.1)
            records += found
            if args.json:
                write_output(args.json, json.dumps(records, indent=1) + "\n")
            worst = max(found, key=_nearness)
            yield from (_row(record, backend) for record in found if args.all or record is worst or not record["ok"])


def _nearness(record: Record) -> float:
    """Return how near an error is to its tolerance, above 1 beyond it, infinity for NaN."""
    if record["ok"]:
        return float(record["relative"] / record["tolerance"]) if record["tolerance"] else 0.0
    return float(record["relative"]) * 1e300 if record["relative"] == record["relative"] else float("inf")


def _row(record: Record, backend: str) -> str:
    times = (record[f"{name}_ms"] for name in ("numpy", backend))
    columns = (
        "ok" if record["ok"] else "OUT",
        record["case"],
        record["dtype"],
        record["value"],
        *(f"{record[name]:.1e}" for name in ("absolute", "relative", "tolerance")),
        *("-" if ms is None else f"{ms:.3f}" for ms in times),
    )
    return _ROW.format(*columns)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m minidl.parity",
        description="Compare what a GPU computes with what NumPy computes: every layer, loss, optimiser and model.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("--backend", choices=NAMES, default="cupy", help="what is compared with numpy (cupy)")
    add("--device", type=int, metavar="I", help="which GPU (0)")
    add("--only", nargs="+", choices=list(GROUPS), default=list(GROUPS), metavar="GROUP", help=f"{', '.join(GROUPS)}")
    add("--dtype", nargs="+", choices=list(DTYPES), default=list(DTYPES), help="float32 float64 (both)")
    add("--all", action="store_true", help="one line for every value, not only for the worst of each case")
    add("--quick", action="store_true", help="measure no times")
    add("--json", type=as_path, metavar="FILE", help="write every value's record")
    return parser


if __name__ == "__main__":
    sys.exit(main())
