"""Build the course: ``python lessons/build.py`` writes the learners' notebooks from the sources in lessons/src.

It never writes over a notebook in which somebody has worked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from lessons.machinery.notebook import WorkError, build, dumps, write  # noqa: E402
from lessons.machinery.source import Source, SourceError, read  # noqa: E402

LESSONS = ROOT / "lessons"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python lessons/build.py", description="Build the notebooks of the course.")
    made.add_argument("--only", action="append", default=[], metavar="NN", help="a lesson's number; may be given again")
    made.add_argument(
        "--check", action="store_true", help="write nothing; fail if a notebook is not what would be built"
    )
    made.add_argument("--force", action="store_true", help="write over a notebook in which somebody has worked")
    made.add_argument("--solved", metavar="DIR", type=Path, help="write the solved notebooks there instead, not run")
    made.add_argument("--execute", metavar="DIR", type=Path, help="run the solved notebooks; write them and HTML pages")
    made.add_argument("--folder", metavar="DIR", type=Path, default=LESSONS, help=argparse.SUPPRESS)
    return made


def sources(folder: Path, only: Sequence[str]) -> list[Source]:
    """Read the sources asked for, or raise SourceError."""
    paths = sorted((folder / "src").glob("*.py"))
    for number in only:
        if not any(path.name.startswith(f"{number}_") for path in paths):
            raise SourceError(
                f"--only must be a lesson's number ({', '.join(p.name[:2] for p in paths)}), got {number}"
            )
    return [read(path) for path in paths if not only or path.name[:2] in only]


def differing(folder: Path, found: Sequence[Source], everything: bool) -> list[str]:
    """Return a sentence for every committed notebook that is not its build."""
    lines = []
    for source in found:
        path = folder / f"{source.name}.ipynb"
        if not path.exists() or path.read_bytes() != dumps(build(source)).encode():
            lines.append(f"{path} is not what {source.path} gives; run `python lessons/build.py` and commit it")
    known = {source.name for source in found}
    strays = [path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")) if path.stem not in known]
    return lines + [f"{path} has no source in {folder / 'src'}; remove it" for path in strays if everything]


def execute(found: Sequence[Source], folder: Path, force: bool) -> int:
    """Run the solved notebooks and write the executed copies; return the exit code."""
    from lessons.machinery.execute import run, save

    bad = 0
    for source in found:
        result = run(source)
        print(
            f"{source.name}: {len(result.passed)} of {source.checks} checks, {result.seconds:.0f} s of processor time"
        )
        for fault in result.faults:
            print(f"  {fault}", file=sys.stderr)
        bad += bool(result.faults) or len(result.passed) != source.checks
        (notebook, text), (page, html) = save(result, folder, source)
        write(notebook, text, force, outputs_count=False)
        page.write_text(html, encoding="utf-8")
    return 1 if bad else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 done, 1 a difference or a failure, 2 usage."""
    args = parser().parse_args(arguments)
    out = args.execute or args.solved
    try:
        if out and out.resolve() == args.folder.resolve():
            raise WorkError(f"{out} holds the learners' notebooks; give another folder for the solved ones")
        found = sources(args.folder, args.only)
        if out:
            out.mkdir(parents=True, exist_ok=True)
        if args.check:
            lines = differing(args.folder, found, everything=not args.only)
            print("\n".join(lines), end="\n" * bool(lines), file=sys.stderr)
            return 1 if lines else 0
        if args.execute:
            return execute(found, out, args.force)
        refused = 0
        for source in found:
            text = dumps(build(source, with_solutions=bool(out)))
            path = (out or args.folder) / f"{source.name}.ipynb"
            try:
                print(f"{path}: {'written' if write(path, text, args.force) else 'as it was'}")
            except WorkError as error:
                print(error, file=sys.stderr)
                refused += 1
        return 1 if refused else 0
    except (SourceError, WorkError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
