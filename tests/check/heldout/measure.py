"""Measure the diagnosis of minidl.check on the held-out set.

    python tests/check/heldout/measure.py [--set first | second | … | sixth | seventh] [--output FILE.md]
    python tests/check/heldout/measure.py --set fourth --detect --only PART

Runs every bug through ``check.run`` and asks whether the cause that the report names is one that ``judgement.json``
(of the other sets: their ``answers.json``) accepts for the true cause.  A bug counts as named rightly only if every
cause named is acceptable, of a pair of causes each; a second, wrong name beside a right one makes it *mixed*, which
counts as wrong.  A bug that has no answer yet is *unjudged*: the table says what its writer would accept.
``--detect`` diagnoses nothing: it says which case shows each bug.  The form of a set is in README.md beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
if str(HERE.parent) not in sys.path:
    sys.path.insert(0, str(HERE.parent))

from heldout import collected  # noqa: E402
from heldout.fifth import collected as fifth  # noqa: E402
from heldout.fourth import collected as fourth  # noqa: E402
from heldout.registry import Bug, Correct  # noqa: E402
from heldout.second import collected as second  # noqa: E402
from heldout.second.registry import Bug as SecondBug  # noqa: E402
from heldout.seventh import collected as seventh  # noqa: E402
from heldout.sixth import collected as sixth  # noqa: E402
from heldout.third import collected as third  # noqa: E402
from heldout.third.registry import Bug as ThirdBug  # noqa: E402
from heldout.third.registry import Correct as ThirdCorrect  # noqa: E402
from minidl import check  # noqa: E402
from minidl.check import conventions, runner, seeds, suite  # noqa: E402

UNKNOWN = re.compile(
    r"\bunknown\b|\bno (known )?(cause|variant)\b|\?\s*$|^\W*(nearest|perhaps|is it|note)\b", re.IGNORECASE
)
VERDICTS = ("right", "mixed", "wrong", "unknown", "crashed", "missed", "unjudged")
AnyBug = Bug | SecondBug | ThirdBug


@dataclass
class Row:
    """What the check said of one bug."""

    bug: AnyBug
    detected: bool
    named: list[str]
    first: str
    verdict: str


def causes(report: check.Report) -> list[str]:
    """The causes that a report names: the lines of its diagnosis, less the explanation, and less every doubt."""
    lines = [line.strip() for line in report.diagnosis]
    return [
        line.partition(" (explains ")[0]
        for line in lines
        if line and not UNKNOWN.search(line.partition(":")[0]) and not UNKNOWN.search(line)
    ]


def first_wrong(report: check.Report) -> str:
    """The first wrong tensor of the first failed case, or its message."""
    for result in report.results:
        if result.status == "failed":
            return result.failed[0].name if result.failed else result.message
    return ""


def fitting(name: str, accepted: list[str]) -> bool:
    """Whether a name, or one of those that cannot be told apart, is accepted."""
    one_of = [name, *name.split(" or ")]
    return any(re.search(pattern, text.strip(), re.IGNORECASE) for pattern in accepted for text in one_of)


def judge(accepted: list[str], detected: bool, named: list[str]) -> str:
    """One of VERDICTS."""
    if not detected:
        return "missed"
    if not named:
        return "unknown"
    fits = [
        all(fitting(part, accepted) for part in name.partition(":")[0].split(" + "))
        or (" + " not in name and fitting(name, accepted))
        for name in named
    ]
    return "right" if all(fits) else "mixed" if any(fits) else "wrong"


def raised(report: check.Report, accepted: list[str]) -> list[str]:
    """The notes of exceptions, for a bug of which the answers accept its exception as a name."""
    return [line for line in report.diagnosis if any(p.startswith("^note") and re.search(p, line) for p in accepted)]


def accepted_of(which: str) -> dict[str, list[str]]:
    """The patterns of the names that count as right, for each bug of a set."""
    if which == "first":
        given: dict[str, list[str]] = json.loads((HERE / "judgement.json").read_text("utf-8"))
        return given
    answers, later = (  # the second: names of causes that the set brought in
        json.loads(path.read_text("utf-8")) if path.exists() else {}
        for path in (HERE / which / "answers.json", HERE / f"{which}_later.json")
    )
    return {name: old + [f"^{re.escape(new)}$" for new in later.get(name, ())] for name, old in answers.items()}


def measured(bug: AnyBug, accepted: list[str] | None) -> Row:
    """Run one bug; without answers it is unjudged, unless there is nothing to judge."""
    try:
        report = check.run(bug.make, bug.layer, bug.dtype)
    except Exception as error:  # the check itself broke: no report, so nothing is detected or named
        return Row(bug, False, [], f"check.run raised {type(error).__name__}: {error}", "crashed")
    detected = report.exit_code == 1
    named = (causes(report) or raised(report, ["^note"] if accepted is None else accepted)) if detected else []
    verdict = "unjudged" if accepted is None and named else judge(accepted or [], detected, named)
    return Row(bug, detected, named, first_wrong(report), verdict)


def failing(make: Any, layer: str, dtype: str) -> list[runner.CaseResult]:
    """The cases that a layer fails, with no diagnosis."""
    agreed = conventions.declared(getattr(make, "conventions", None))
    shipped = suite.open_suite()
    cases = [shipped.case(entry) for entry in shipped.entries if entry.layer == layer]
    cases = [case for case in cases if case.runs_in(dtype)] + list(seeds.seeded(layer, dtype))
    results = [runner.run_case(make, case, dtype, agreed) for case in cases]
    return [result for result in results if result.status == "failed"]


def detection(bugs: Sequence[AnyBug], items: Sequence[Correct | ThirdCorrect], only: str) -> str:
    """Which cases show each bug, and whether the correct layers pass."""
    lines = []
    for bug in bugs:
        if only in bug.id:
            found = failing(bug.make, bug.layer, bug.dtype)
            first = found[0] if found else None
            shown = f"{first.case.id}: {first.failed[0].name if first.failed else first.message}" if first else ""
            lines.append(f"{bug.id}: {f'{len(found)} cases, first {shown}' if first else 'NOT SHOWN by any case'}")
    for item in items:
        for dtype in dtypes_of(item):
            if only in item.id:
                found = failing(item.make, item.layer, dtype)
                why = "; ".join(f"{r.case.id} {r.message or r.failed[0].name}" for r in found[:3])
                lines.append(f"{item.id} in {dtype}: {f'FAILS {len(found)} cases: {why}' if found else 'passes'}")
    return "\n".join(lines)


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| bug | layer | true cause | detected | named cause | first wrong tensor | verdict |", "|" + "---|" * 7]
    for row in rows:
        named = " + ".join(name.partition(":")[0] for name in row.named) or ("unknown" if row.detected else "")
        cause = row.bug.cause
        if row.verdict == "unjudged" and isinstance(row.bug, ThirdBug):
            cause += f" RIGHT: {row.bug.right}. WRONG: {row.bug.wrong}."
        cells = row.bug.id, row.bug.layer, cause, "yes" if row.detected else "no", named, row.first, row.verdict
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


def totals(rows: list[Row]) -> str:
    """Counts over all bugs, by style and by layer."""
    lines = ["| | bugs | " + " | ".join(VERDICTS) + " |", "|" + "---|" * (2 + len(VERDICTS))]
    groups = [("all", rows)]
    for key in ("style", "layer"):
        for value in dict.fromkeys(getattr(row.bug, key) for row in rows):
            groups.append((value, [row for row in rows if getattr(row.bug, key) == value]))
    for name, chosen in groups:
        count = Counter(row.verdict for row in chosen)
        lines.append(f"| {name} | {len(chosen)} | " + " | ".join(str(count[v]) for v in VERDICTS) + " |")
    n, count = max(len(rows), 1), Counter(row.verdict for row in rows)
    wrong = count["wrong"] + count["mixed"]
    lines.append("")
    lines.append(
        f"Named rightly {count['right']} of {n} ({count['right'] / n:.1%}), wrongly {wrong} ({wrong / n:.1%}; of them "
        f"{count['mixed']} with a right name beside), unknown {count['unknown']} ({count['unknown'] / n:.1%}), "
        f"missed {count['missed']} ({count['missed'] / n:.1%}), the check itself broke on {count['crashed']}"
        + (f", {count['unjudged']} are not judged yet." if count["unjudged"] else ".")
    )
    return "\n".join(lines)


def digest() -> str:
    """The sha256 of the second set's files, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted((HERE / "second").glob("*.*")):
        total.update(path.read_bytes())
    return total.hexdigest()


def as_frozen(path: Path) -> str:
    """The sha256 of a file of the third set as it was frozen: before its imports named this package."""
    text = path.read_text("utf-8")
    text = text.replace("from heldout.third import ", "import ").replace("from heldout.third.", "from ")
    return hashlib.sha256(text.encode()).hexdigest()


def dtypes_of(item: Correct | ThirdCorrect) -> tuple[str, ...]:
    """The dtypes that a correct layer computes in."""
    if isinstance(item, ThirdCorrect):
        return item.dtypes
    return ("float32",) if item.style == "C float32" else ("float32", "float64")


def correct_table(items: Sequence[Correct | ThirdCorrect], only: str) -> str:
    """The correct layers: each in float32 and, where it computes in it, in float64."""
    lines = ["| style | layer | dtype | grade | cases | worst of the tolerance |", "|" + "---|" * 6]
    failed = 0
    for item in items:
        for dtype in dtypes_of(item):
            if only not in item.id:
                continue
            report = check.run(item.make, item.layer, dtype)
            failed += report.exit_code != 0
            counts = f"{report.count('passed')} of {len(report.results)}"
            lines.append(f"| {item.style} | {item.layer} | {dtype} | {report.grade} | {counts} | {report.worst:.2g} |")
    return "\n".join([*lines, "", f"Correct layers failed: {failed} of {len(lines) - 2} runs."])


SETS: dict[str, tuple[Sequence[AnyBug], Sequence[Correct | ThirdCorrect]]] = {
    "first": (collected.RUNNABLE, collected.CORRECT),
    "second": (second.RUNNABLE, second.CORRECT),
    "third": (third.BUGS, third.CORRECT),
    "fourth": (fourth.BUGS, fourth.CORRECT),
    "fifth": (fifth.BUGS, fifth.CORRECT),
    "sixth": (sixth.BUGS, sixth.CORRECT),
    "seventh": (seventh.BUGS, seventh.CORRECT),
}


def main() -> None:
    """Print the tables, and write them where asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", help="write the tables to this Markdown file, and the rows to FILE.json")
    parser.add_argument("--only", default="", help="bugs and correct layers whose name contains this")
    parser.add_argument("--set", default="first", choices=tuple(SETS), help="which set of bugs")
    parser.add_argument("--detect", action="store_true", help="only which case shows each bug, with no diagnosis")
    options = parser.parse_args()
    bugs, items = SETS[options.set]
    if options.detect:
        print(detection(bugs, items, options.only))
        return
    accepted = accepted_of(options.set)
    rows = []
    for bug in bugs:
        if options.only in bug.id:
            rows.append(measured(bug, accepted.get(bug.id)))
            print(bug.id, rows[-1].verdict, file=sys.stderr, flush=True)
    text = "\n\n".join([table(rows), totals(rows), correct_table(items, options.only)])
    for name in collected.MISSING:
        text += f"\n\nSkipped, since it is not here: what needs {name}."
    print(text)
    if options.output:
        target = Path(options.output)
        target.write_text(text + "\n", "utf-8")
        rows_json = [
            {"id": r.bug.id, "detected": r.detected, "named": r.named, "first": r.first, "verdict": r.verdict}
            for r in rows
        ]
        target.with_suffix(".json").write_text(json.dumps(rows_json, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
