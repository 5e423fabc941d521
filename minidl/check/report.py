"""What a run found, in words and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from minidl.check.runner import CaseResult

ENOUGH = 0.5  # the share of the outputs that must have been compared for a grade
EXIT_CONFORMS, EXIT_DEVIATES, EXIT_USAGE, EXIT_NOTHING = 0, 1, 2, 3


def unsupported(result: CaseResult) -> bool:
    """Whether a case was declared by NotSupportedError, not by a convention."""
    return result.message.startswith("not supported")


@dataclass
class Report:
    """The results of a run; its text ends with a line that counts cases.

    Parameters
    ----------
    title : str
        Which layer of whom, in which dtype.
    results : list of CaseResult
        One for each case.
    diagnosis : list of str
        What the failures have in common, a line each.

    Examples
    --------
    >>> from minidl import check
    >>> report = check.run("minidl.check.adapters.minidl:Adapter", "group_norm", "float64", cases=["shape"])
    >>> report.grade, report.exit_code, report.count("passed")
    ('accurate', 0, 3)
    """

    title: str
    results: list[CaseResult]
    diagnosis: list[str] = field(default_factory=list)

    def count(self, status: str) -> int:
        """How many cases have a status."""
        return sum(result.status == status for result in self.results)

    @property
    def coverage(self) -> float:
        """The share of the expected outputs that were compared.

        Cases without an output file, and those excused by a declared convention, are left out.
        """
        judged = wanted = 0
        for result in self.results:
            if result.status != "absent" and not (result.status == "declared" and not unsupported(result)):
                judged += result.judged
                wanted += max(len(result.case.expected), result.judged, 1)
        return judged / wanted if wanted else 0.0

    @property
    def grade(self) -> str:
        """The verdict in two words.

        ``accurate``, ``conforms``, ``known failures`` (of a baseline, and no others), ``deviates``, ``too little ran``,
        or ``nothing ran``.
        """
        if self.count("failed"):
            return "deviates"
        if not any(result.judged for result in self.results):
            return "nothing ran"
        if self.coverage < ENOUGH:
            return "too little ran"
        if self.count("known"):
            return "known failures"
        return "conforms" if any(result.worst_accurate > 1 for result in self.results) else "accurate"

    @property
    def exit_code(self) -> int:
        """0 conforms, 1 deviates, 3 nothing ran."""
        nothing = {"nothing ran": EXIT_NOTHING, "too little ran": EXIT_NOTHING}
        return {"deviates": EXIT_DEVIATES, **nothing}.get(self.grade, EXIT_CONFORMS)

    @property
    def worst(self) -> float:
        """The largest error of all tensors in units of its tolerance."""
        return max((result.worst for result in self.results), default=0.0)

    def text(self, verbose: bool = False) -> str:
        """The report in words: failures in full, passed cases where asked for, the diagnosis, the count."""
        lines = [self.title]
        for result in self.results:
            if result.status != "passed" or verbose:
                lines.append(
                    f"{result.status.upper():9}{result.case.id}" + (f": {result.message}" if result.message else "")
                )
                lines += [
                    "    " + line
                    for tensor in result.tensors
                    if verbose or not tensor.passed
                    for line in tensor.lines()
                ]
                if result.cause:
                    lines.append(f"    → {result.cause}")
        loose = [result for result in self.results if result.worst_accurate > 1]
        for result in loose if self.grade == "conforms" else []:
            lines.append(
                f"INACCURATE {result.case.id}: conforms, but its error grows with the mean "
                f"({result.worst_accurate:.3g})"
            )
        lines += [f"Diagnosis: {line}" for line in self.diagnosis]
        counts = Counter(result.status for result in self.results)
        text = ", ".join(f"{counts[status]} {status}" for status in ("passed", "failed", "declared", "absent"))
        text += f", {counts['known']} known" if counts["known"] else ""
        lines.append(
            f"{len(self.results)} cases: {text}; worst {self.worst:.3g} of the tolerance; {self.grade}"
            + (f", on {self.coverage:.0%} of the outputs" if self.results else "")
        )
        return "\n".join(lines)

    def to_json(self) -> str:
        """The report as JSON."""
        cases = [
            {
                "id": result.case.id,
                "flag": result.case.flag,
                "status": result.status,
                "message": result.message,
                "cause": result.cause,
                "worst": min(result.worst, 1e300),
                "worst_accurate": min(result.worst_accurate, 1e300),
                "wrong": [{"name": tensor.name, "lines": tensor.lines()} for tensor in result.failed],
            }
            for result in self.results
        ]
        head = {"title": self.title, "grade": self.grade, "coverage": self.coverage, "exit_code": self.exit_code}
        return json.dumps({**head, "diagnosis": self.diagnosis, "cases": cases}, indent=1)

    def __str__(self) -> str:
        """The report in words."""
        return self.text()
