"""A decorator that makes one pytest test of every case; there is no plug-in to load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from minidl.check.adapter import load_adapter
from minidl.check.bfloat16 import held_in
from minidl.check.conventions import declared
from minidl.check.diagnosis import diagnose
from minidl.check.program import Make
from minidl.check.report import Report
from minidl.check.runner import run_case
from minidl.check.suite import open_suite

Test = Callable[..., Any]


def conformance(layer: str, dtype: str = "float32") -> Callable[[Callable[[], Make | str]], Test]:
    """Turn a function that returns an adapter into a pytest test of every case of a layer.

    Parameters
    ----------
    layer : str
        One of `python -m minidl.check list`.
    dtype : str
        Of the arrays that the adapter gets.

    Returns
    -------
    callable
        The decorator.

    Raises
    ------
    ValueError
        If there is no such layer, or no case of it in the dtype.

    Examples
    --------
    >>> from minidl import check
    >>> @check.conformance("batch_norm")
    ... def test_my_batch_norm():
    ...     return "my_layers.adapter:Adapter"
    >>> test_my_batch_norm.pytestmark[0].name
    'parametrize'
    """
    suite = open_suite()
    if layer not in suite.layers:
        raise ValueError(f"conformance: layer must be one of {', '.join(suite.layers)}, got {layer!r}; choose one")
    held = {entry.id: held_in(suite.case(entry), dtype) for entry in suite.entries if entry.layer == layer}
    entries = [entry for entry in suite.entries if held.get(entry.id)]
    if not entries:
        raise ValueError(
            f"conformance: dtype must be one that {layer} has cases in, got {dtype!r}; give 'float32' or 'float64'"
        )

    def decorate(give_adapter: Callable[[], Make | str]) -> Test:
        import pytest

        def test(entry: Any) -> None:
            adapter = give_adapter()
            make = load_adapter(adapter) if isinstance(adapter, str) else adapter
            agreed = declared(getattr(make, "conventions", None))
            case = held_in(suite.case(entry), dtype)
            assert case is not None
            result = run_case(make, case, dtype, agreed)
            if result.status == "declared":
                pytest.skip(result.message)
            if result.status == "failed":
                report = Report(f"{layer} in {dtype}", [result], diagnose([result], layer, dtype, agreed))
                pytest.fail(report.text(), pytrace=False)

        test.__name__, test.__doc__ = give_adapter.__name__, give_adapter.__doc__
        test.__module__ = give_adapter.__module__
        return cast(Test, pytest.mark.parametrize("entry", entries, ids=[entry.id for entry in entries])(test))

    return decorate
