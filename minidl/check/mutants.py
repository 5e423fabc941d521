"""The checks checked: ``python -m minidl.check.mutants [FILE]`` writes the table in docs/check-mutants.md.

Every known-wrong variant must be killed by two cases and named by the diagnosis; every correct one must stay under
half a tolerance.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from minidl.check.api import run
from minidl.check.conventions import declared
from minidl.check.report import Report
from minidl.check.runner import CaseResult, run_case
from minidl.check.seeds import seeded
from minidl.check.suite import Suite, open_suite
from minidl.check.variants import Variant, variants_of
from minidl.command_line import Parser, as_path


@dataclass(frozen=True)
class Verdict:
    """What the suite made of a variant."""

    variant: Variant
    cases: int
    killed: int
    worst: float
    named: str = ""

    @property
    def rightly(self) -> bool:
        """Whether the first line of the diagnosis names the variant, and it alone."""
        return self.named == self.variant.name


def kill(variant: Variant, suite: Suite, enough: int = 1 << 30) -> Verdict:
    """Run the cases on a variant, without a diagnosis, until ``enough`` have failed."""
    cases = [suite.case(entry) for entry in suite.entries if entry.layer == variant.layer]
    cases += seeded(variant.layer, variant.dtype)
    agreed = declared(variant.conventions)
    results: list[CaseResult] = []
    for case in cases:
        if case.runs_in(variant.dtype) and sum(r.status == "failed" for r in results) < enough:
            results.append(run_case(variant, case, variant.dtype, agreed))
    return Verdict(variant, len(results), sum(r.status == "failed" for r in results), max(r.worst for r in results))


def name(variant: Variant) -> Verdict:
    """Run the cases on a variant and see what the diagnosis calls it."""
    report = run(variant, variant.layer, variant.dtype, conventions=variant.conventions)
    return Verdict(variant, len(report.results), report.count("failed"), report.worst, first_name(report))


def first_name(report: Report) -> str:
    """The name in the first line of the diagnosis; with those it cannot be told from, where there are any."""
    if not report.diagnosis:
        return ""
    line = report.diagnosis[0]
    ties = line.partition("cannot tell it from: ")[2].partition(";")[0]
    return line.partition(": ")[0] + (f", or {ties}" if ties else "")


def table(verdicts: Sequence[Verdict]) -> str:
    """The page of all variants."""
    wrong = [v for v in verdicts if not v.variant.correct]
    right = [v for v in verdicts if v.variant.correct]
    named, killed = sum(v.rightly for v in wrong), sum(v.killed >= 2 for v in wrong)
    lines = [
        "# What the checks catch, measured",
        "",
        "This page shows for each known-wrong layer how many test cases find it, and whether the diagnosis of "
        "[`minidl.check`](check-your-layer.md) names it.",
        "`python -m minidl.check.mutants docs/check-mutants.md` measures and writes it, in some minutes;",
        "`python -m minidl.check.mutants --layer batch_norm` prints the table of one layer.",
        "",
        "Each known-wrong variant is a plain layer with one text replaced (`minidl/check/variants`). It is run like "
        "any other layer, and the diagnosis",
        "sees only its outputs. The diagnosis replays the same variants (in float64), so its score here is an upper "
        "bound. What it says of code",
        "written apart is in [how often the diagnosis is right](check-measured.md), in "
        "[PyTorch under the checks](check-torch.md) and in the planted bugs of",
        "`minidl/check/examples/check_norms.c`.",
        "",
        f"**{len(wrong)} known-wrong variants: {killed} killed by two cases or more, {named} named rightly and alone "
        f"({100 * named / len(wrong):.1f} %). {len(right)} correct variants: the worst error is "
        f"{max(v.worst for v in right):.2f} of a tolerance.**",
    ]
    for layer in dict.fromkeys(v.variant.layer for v in verdicts):
        lines += ["", f"## {layer}", "", "| known-wrong variant | dtype | killed by | named |", "|---|---|---|---|"]
        for v in [v for v in wrong if v.variant.layer == layer]:
            called = "yes" if v.rightly else f"as: {v.named or 'nothing'}"
            lines.append(f"| {v.variant.name} | {v.variant.dtype} | {v.killed} of {v.cases} | {called} |")
        lines += ["", "| correct variant | dtype | worst error, in tolerances |", "|---|---|---|"]
        for v in [v for v in right if v.variant.layer == layer]:
            lines.append(f"| {v.variant.name} | {v.variant.dtype} | {v.worst:.2f} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the table to a file, or print it; exit 1 if a variant survives."""
    suite = open_suite()
    parser = Parser(prog="python -m minidl.check.mutants", description="Measure what the checks find and name.")
    parser.add_argument("file", nargs="?", type=as_path, metavar="FILE", help="where to write the table (printed)")
    parser.add_argument("--layer", choices=suite.layers, help="measure this layer alone (all, which takes minutes)")
    args = parser.parse_args(arguments)
    layers = [args.layer] if args.layer else suite.layers
    variants = [variant for layer in layers for variant in variants_of(layer)]
    verdicts = [kill(variant, suite) if variant.correct else name(variant) for variant in variants]
    text = table(verdicts)
    if args.file:
        args.file.write_text(text, "utf-8")
        print(text.split("**")[1])
    else:
        print(text)
    return int(any(v.killed < 2 for v in verdicts if not v.variant.correct))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
