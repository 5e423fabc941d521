"""Write the page to explore, with its data in it: `python docs/play/make_page.py play.html`. It needs only Python."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent


def write_page(path: Path) -> None:
    """Write page.html with modes.json in it."""
    page, made = ((HERE / name).read_text("utf-8") for name in ("page.html", "modes.json"))
    path.write_text(page.replace("@DATA@", made), "utf-8")


def main() -> int:
    """Write the file that the one argument names; return the exit status."""
    if len(sys.argv) != 2:
        print("name the file to write: python docs/play/make_page.py play.html", file=sys.stderr)
        return 2
    try:
        write_page(Path(sys.argv[1]))
    except OSError as error:
        print(f"{sys.argv[1]} cannot be written ({error.strerror}); name another file", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
