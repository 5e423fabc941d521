"""Records as lines of aligned columns, each ready as soon as its record is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from minidl.bench.record import SECTIONS, Record, label

WIDTH = 46  # of the first column
_COLUMNS = "{:{width}} {:8} {:>5} {:>7} {:>10} {:>10} {:>8}  {}"


def lines(records: Iterable[Record]) -> Iterator[str]:
    """Yield the lines of the table; a section's title and head come before its first record."""
    section = None
    for record in records:
        if record["what"] == "header":
            yield from _about(record)
            continue
        if record["section"] != section:
            section = record["section"]
            unit = "MiB" if record["unit"] == "MiB" else "ms"
            yield f"\n{section}: {SECTIONS[section]}"
            head = ("", "norm", "N", "threads", f"minidl {unit}", f"torch {unit}", "ratio", "quartiles, ratio of")
            yield _COLUMNS.format(*head, width=WIDTH)
        yield _row(record)


def _about(header: Record) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in header["versions"].items() if version)
    yield f"{versions}"
    gpu = f"{header['device']}, " if header.get("device", header["cpu"]) != header["cpu"] else ""
    yield f"{gpu}{header['cpu']}, {header['cores']} cores, {header['system']}, {header['date']}"


def markdown(records: Iterable[Record]) -> Iterator[str]:
    """Yield the lines of Markdown tables, one a section: the form in which documentation has them."""
    section = None
    for record in records:
        if record["what"] == "header":
            yield from _about(record)
            yield f"`{record['command']}`, {record['threads']} threads, load {record['load']}"
            continue
        if record["section"] != section:
            section = record["section"]
            unit = "MiB" if record["unit"] == "MiB" else "ms"
            yield f"\n**{section}**: {SECTIONS[section]}\n"
            yield f"| what | norm | N | minidl {unit} | PyTorch {unit} | ratio (quartiles) | of | target | aim | |"
            yield "|---|---|---|---|---|---|---|---|---|---|"
        yield _markdown_row(record)


def _markdown_row(record: Record) -> str:
    unit = record["unit"]
    times = [_number(record.get(f"{side}_{unit.lower()}")) for side in ("minidl", "torch")]
    if unit == "MiB":
        times = [f"{time} MiB" for time in times]
    ratio = "-"
    if record["ratio"] is not None:
        ratio = f"**{record['ratio']:.2f}** ({record['ratio_low']:.2f}–{record['ratio_high']:.2f})"
    goal = record.get("target", ""), f"{record['aim']:g}" if "aim" in record else ""
    verdict = {True: "met", False: "missed", None: ""}[record.get("met")]
    verdict = "; ".join(filter(None, (verdict, _between_cores(record))))
    what = " ".join(filter(None, (record["what"], record.get("pass"))))
    cells = (what, label(record), _number(record["batch"]), *times, ratio, record["ratio_is"] or "", *goal, verdict)
    return f"| {' | '.join(map(str, cells))} |"


def _between_cores(record: Record) -> str:
    """Say how long what one core writes took to reach another, before and after the measurement.

    >>> _between_cores({"core_to_core_ns": [57.3, 261.8]})
    'core to core 57 and 262 ns'
    """
    times = [f"{time:.0f}" for time in record.get("core_to_core_ns", ()) if time]
    return f"core to core {' and '.join(times)} ns" if times else ""


def _row(record: Record) -> str:
    what = " ".join(filter(None, (record["what"], record.get("pass"))))
    unit = record["unit"].lower()
    values = (record.get(f"{side}_{unit}") for side in ("minidl", "torch"))
    ratio = note = ""
    if record["ratio"] is not None:
        ratio = f"{record['ratio']:.2f}"
        note = f"{record['ratio_low']:.2f}-{record['ratio_high']:.2f} {record['ratio_is']}"
    elif "images_per_second" in record:
        note = f"{record['images_per_second']} images/s"
    if "target" in record:
        note = f"{note}, {record['target']}: {'met' if record['met'] else 'missed'}"
    note = "; ".join(filter(None, (note, _between_cores(record))))
    if "numpy_ms" in record:
        note = f"{note} (import numpy: {_number(record['numpy_ms'])} ms)".strip()
    columns = (
        what,
        label(record),
        _number(record["batch"]),
        _number(record["threads"]),
        *map(_number, values),
        ratio,
        note,
    )
    return _COLUMNS.format(*columns, width=WIDTH).rstrip()


def _number(value: float | None) -> str:
    """Return four significant digits at most, "-" where there is no value."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{3 if value < 10 else 2 if value < 100 else 1}f}"
