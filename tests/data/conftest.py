"""The fixtures of the tests of data."""

from written_data import load, written

__all__ = ["load", "written"]
