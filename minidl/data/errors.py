"""The one error this package raises for data that is missing, damaged or not what it should be."""

from pathlib import Path


class DataError(Exception):
    """Data that cannot be had: one line that names the file, what was expected and the cure."""

    exit_status = 4


def bad_file(path: Path, offset: int, expected: str, got: object) -> DataError:
    """Return the error for a file whose byte ``offset`` (of the unpacked content) is not what the format asks for.

    >>> print(bad_file(Path("a.idx"), 4, "an image count above 0", 0))
    a.idx: byte 4: expected an image count above 0, got 0; the file is damaged or of another format, get it again
    """
    return DataError(
        f"{path}: byte {offset}: expected {expected}, got {got}; the file is damaged or of another format, get it again"
    )
