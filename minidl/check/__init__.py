"""Check any normalization layer, and learn what exactly is wrong with it.

``run`` plays the shipped cases on an adapter, ``verify`` judges outputs another program wrote, ``metamorphic`` tests
relations that need no expected values, ``gradient`` and ``compare`` are the tools the lessons use, ``conformance`` is
for pytest.  NumPy is all it needs; the layer under test is reached through an adapter that is loaded by its name.
"""

from minidl.check.api import run, verify
from minidl.check.compare import TensorResult, compare
from minidl.check.conventions import Conventions, NotSupportedError
from minidl.check.gradient import VacuousCheckError, gradient
from minidl.check.metamorphic import metamorphic
from minidl.check.pytest_support import conformance
from minidl.check.report import Report

__all__ = [
    "Conventions",
    "NotSupportedError",
    "Report",
    "TensorResult",
    "VacuousCheckError",
    "compare",
    "conformance",
    "gradient",
    "metamorphic",
    "run",
    "verify",
]
