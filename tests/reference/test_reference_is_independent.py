"""The oracle shares no code with what it judges."""

import ast
import inspect
from pathlib import Path

import pytest

from minidl import reference

FILES = sorted(Path(reference.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_reference_imports_numpy_the_standard_library_and_itself_alone(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    outside = {name for name in imported if not name.startswith("minidl.reference")}
    assert outside <= {"math", "typing", "numpy", "numpy.typing"}


def test_every_public_forward_has_a_backward_with_the_same_arguments_after_the_gradient():
    without = {"batch_norm_running", "batch_norm_running_moments", "mode_norm_running"}
    for name in set(reference.__all__) - without:
        if not name.endswith("_backward"):
            forward = list(inspect.signature(getattr(reference, name)).parameters.values())
            backward = list(inspect.signature(getattr(reference, name + "_backward")).parameters.values())
            assert [(p.name, p.default) for p in backward[1:]] == [(p.name, p.default) for p in forward]
