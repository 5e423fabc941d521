"""What a check needs in continuous integration: known failures that do not fail again, and JUnit XML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from minidl.check.report import Report
from minidl.outputs import write_output

HEAD = "# known failures of minidl.check, a case a line; delete a line when its case passes"


def apply_baseline(reports: Sequence[Report], path: Path) -> list[str]:
    """Turn failures that a file names into known ones, and return notes.

    A file that does not exist is written with all failures there are: the start of a baseline.  Cases that the file
    names and that pass are told, so that their lines can go.
    """
    failing = [(report, result) for report in reports for result in report.results if result.status == "failed"]
    names = [f"{report.title} {result.case.id}" for report, result in failing]
    if not path.exists():
        write_output(path, "\n".join([HEAD, *names]) + "\n")
        known = set(names)
        notes = [f"{path}: written, with {len(names)} known failures"]
    else:
        lines = (line.strip() for line in path.read_text("utf-8").splitlines())
        known = {line for line in lines if line and not line.startswith("#")}
        ran = {f"{report.title} {result.case.id}" for report in reports for result in report.results}
        mended = sorted((known & ran) - set(names))
        notes = [f"{path}: {name} is a known failure and passes; delete its line" for name in mended]
    for (_, result), name in zip(failing, names, strict=True):
        if name in known:
            result.status = "known"
    return notes


def junit(reports: Sequence[Report]) -> str:
    """The reports as JUnit XML: one suite per report, one test per case."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<testsuites>"]
    for report in reports:
        skipped = sum(result.status in ("declared", "absent", "known") for result in report.results)
        lines.append(
            f'<testsuite name={quoteattr(report.title)} tests="{len(report.results)}" '
            f'failures="{report.count("failed")}" skipped="{skipped}">'
        )
        for result in report.results:
            name = f"<testcase classname={quoteattr(report.title)} name={quoteattr(result.case.id)}"
            said = [line for tensor in result.failed for line in tensor.lines()]
            text = "\n".join(([result.message] if result.message else []) + said)
            if result.status == "failed":
                cause = quoteattr(result.cause or text.splitlines()[0])
                lines.append(f"{name}><failure message={cause}>{escape(text)}</failure></testcase>")
            elif result.status != "passed":
                why = quoteattr(f"{result.status}: {result.message or result.cause}")
                lines.append(f"{name}><skipped message={why}/></testcase>")
            else:
                lines.append(f"{name}/>")
        lines.append("</testsuite>")
    return "\n".join([*lines, "</testsuites>"]) + "\n"
