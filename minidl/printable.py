"""Names out of files as they are printed: they command no terminal, turn no text around and begin no line.

In a table that a spreadsheet may open they are no formula.
"""

import math

_COMMANDS = (*range(32), *range(127, 160))  # C0 without what `harmless` keeps, DEL, C1
_TURNING = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))  # order of writing
_LINES = (0x2028, 0x2029)
_ALL = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in (*_COMMANDS, *_TURNING, *_LINES)}
_HARMLESS = {code: text for code, text in _ALL.items() if chr(code) not in "\n\t"}
_ONE_LINE = {**_HARMLESS, ord("\n"): "\\n"}


def harmless(text: str) -> str:
    r"""Return a text whose characters that command a terminal, or turn text around, are escapes; lines stay.

    >>> print(harmless("cat\x1b[2J\u202e"))
    cat\x1b[2J\u202e
    """
    return text.translate(_HARMLESS)


def one_line(text: str) -> str:
    r"""Return a text as `harmless` does, on one line.

    >>> print(one_line("a cat\na dog"))
    a cat\na dog
    """
    return text.translate(_ONE_LINE)


_FORMULAS = tuple("=+-@\t\uff1d\uff0b\uff0d\uff20")  # what a spreadsheet takes for the beginning of a formula


def no_formula(text: str) -> str:
    r"""Return a text for a cell of a CSV: what a spreadsheet would run as a formula gets a ' before it, a number none.

    >>> no_formula("=1+1"), no_formula("-ant"), no_formula("-1.5"), no_formula("cat")
    ("'=1+1", "'-ant", '-1.5', 'cat')
    """
    line = one_line(text)  # csv leaves a carriage return bare, which begins a row
    return f"'{line}" if line.startswith(_FORMULAS) and not _is_number(line) else line


def _is_number(text: str) -> bool:
    try:
        return text.isascii() and math.isfinite(float(text))
    except ValueError:
        return False
