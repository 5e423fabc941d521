"""Check the links of a built site: `python docs/links.py docs/_build/html` names the dead ones, and exits with 1.

Looked at are the links and pictures within the site, with the place in the page that they name. Nothing is asked of the
network.
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit


class Page(HTMLParser):
    """The links of a page, and the places in it that a link may name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what the element links to and what it is called."""
        given = {name: value for name, value in attrs if value}
        self.links |= {given[name] for name in ("href", "src") if name in given and tag != "link"}
        self.places |= {given[name] for name in ("id", "name") if name in given}


@cache
def read(path: Path) -> Page:
    """Return a page, read once."""
    return Page(path.read_text("utf-8"))


def dead_links(site: Path) -> list[str]:
    """Return a line for each link within the site that leads nowhere."""
    lines = []
    for path in sorted(site.rglob("*.html")):
        for link in sorted(read(path).links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            address, place = urldefrag(link)
            target = (path.parent / unquote(urlsplit(address).path)).resolve() if address else path
            if not target.is_file():
                lines.append(f"{path.relative_to(site)}: {link} leads to no file")
            elif target.suffix == ".html" and target.name != "play.html" and unquote(place) not in read(target).places:
                lines.append(f"{path.relative_to(site)}: {link} names no place in {target.name}")
    return lines


def main() -> int:
    """Print the dead links of the site that the first argument names."""
    site = Path(sys.argv[1]).resolve()
    lines = dead_links(site)
    print("\n".join(lines) or f"{len(list(site.rglob('*.html')))} pages, no dead link")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
