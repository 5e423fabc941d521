"""The generator: the same bytes again, and nothing where two oracles differ."""

from dataclasses import replace

import numpy as np
import pytest

from minidl.check import generate
from minidl.check.cases import all_cases
from minidl.check.suite import VECTORS, open_suite

pytest.importorskip("mpmath")
SUITE = open_suite()
SOME = [
    "batch_norm-eval-backward-float32-01",
    "mode_norm-n2-1x1-float32-01",
    "group_norm-near-6e4-float16-01",
    "linear-shape-nc-float32-01",
]


def definition(name):
    return next(case for case in all_cases() if case.id == name)


@pytest.mark.parametrize("name", SOME)
def test_regenerating_gives_the_same_bytes(name):
    case = definition(name)
    assert generate.finished(case).to_file() == (VECTORS / case.layer / f"{name}.safetensors").read_bytes()


def test_the_index_that_is_shipped_is_the_one_of_these_cases_and_of_what_they_find():
    cases = all_cases()
    names = [f"{case.layer}/{case.id}.safetensors" for case in cases]
    made = generate.index_of(cases, {name: (VECTORS / name).read_bytes() for name in names})
    assert (VECTORS / "index.json").read_text("utf-8") == made, "python -m minidl.check.generate writes it anew"


def test_the_index_lists_the_cases_as_they_are_defined():
    assert [entry.id for entry in SUITE.entries] == [case.id for case in all_cases()]


def test_inputs_are_exact_in_the_dtype_of_the_case():
    for entry in SUITE.entries:
        case = SUITE.case(entry)
        for name, value in case.inputs.items():
            if not name.startswith("state.") and value.dtype.kind == "f":
                assert value.dtype == np.dtype(case.dtype), (case.id, name)


def test_a_reference_that_differs_stops_the_generator(monkeypatch, tmp_path):
    class Wrong(generate.Reference):
        def forward(self, x, training):
            return super().forward(x, training) * (1 + 1e-12)

    monkeypatch.setattr(generate, "Reference", Wrong)
    with pytest.raises(generate.DisagreementError, match=r"out\.y\.0 of minidl\.reference differs"):
        generate.generate(tmp_path, [definition("linear-shape-nc-float32-01")])
    assert not list(tmp_path.iterdir())


def test_a_gradient_that_differs_from_the_complex_step_stops_the_generator():
    case = definition("linear-shape-nc-float32-01")
    values = generate.precise(case)
    generate.agree_with_complex_step(case, values)
    values["out.dx.0"] = values["out.dx.0"] * (1 + 1e-12)
    with pytest.raises(generate.DisagreementError, match="differ from the complex step"):
        generate.agree_with_complex_step(case, values)


def test_the_command_says_what_differs_and_exits_1(monkeypatch, capsys, tmp_path):
    def refuse(case):
        raise generate.DisagreementError(f"{case.id}: differs")

    monkeypatch.setattr(generate, "finished", refuse)
    monkeypatch.setattr(generate, "all_cases", lambda: [replace(definition(SOME[0]))])
    assert generate.main([str(tmp_path)]) == 1
    assert "differs; nothing was written" in capsys.readouterr().err
