"""Runs: minidl's own layers, adapters that misbehave, damaged vectors, and the command."""

import json
import shutil
from collections.abc import Mapping

import numpy as np
import pytest
import strict

from minidl import check
from minidl.check.__main__ import main
from minidl.check.adapters.minidl import Adapter as Fast
from minidl.check.adapters.reference import Adapter as Reference
from minidl.check.suite import VECTORS, open_suite

NORMS = ("batch_norm", "instance_norm", "layer_norm", "group_norm", "mode_norm", "mode_group_norm")
LAYERS = (*NORMS, "conv2d", "max_pool2d", "avg_pool2d", "linear", "softmax_cross_entropy")
FAST = "minidl.check.adapters.minidl:Adapter"
ORACLE = "minidl.check.adapters.reference:Adapter"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", LAYERS)
def test_minidl_is_accurate(layer, dtype):
    report = check.run(FAST, layer, dtype)
    assert report.exit_code == 0, report.text()
    assert report.worst < 0.5
    assert report.grade == "accurate"


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("library", ["strict", "numba"], indirect=True)
def test_every_backend_is_checked_on_its_own_device(layer, library, monkeypatch):
    met = []
    forward = Fast.forward

    def noted(self, x, training):
        monkeypatch.setattr(self.made, "forward", lambda *args, call=self.made.forward: met.append(args) or call(*args))
        return forward(self, x, training)

    monkeypatch.setattr(Fast, "forward", noted)
    report = check.run(FAST, layer, "float32")
    assert report.exit_code == 0, report.text()
    assert met
    kind = strict.ndarray if library == "strict" else np.ndarray
    assert {type(each) for args in met for each in args} == {kind}


@check.conformance("layer_norm")
def test_minidl_conforms_case_by_case():
    return FAST


@pytest.mark.parametrize("layer", LAYERS)
def test_the_reference_conforms(layer):
    report = check.run(ORACLE, layer, "float64")
    assert report.exit_code == 0, report.text()


@pytest.mark.parametrize("layer", NORMS)
def test_minidl_keeps_the_relations(layer):
    report = check.metamorphic(FAST, layer)
    assert report.exit_code == 0, report.text()


def misbehaving(what):
    class Misbehaving(Reference):
        def forward(self, x, training):
            y = super().forward(x, training)
            if what == "raises":
                raise RuntimeError("no kernel for this\nsecond line")
            return {
                "shape": lambda: y[:, :, 0] if y.ndim > 2 else y[0],
                "dtype": lambda: y.astype(np.float64),
                "nan": lambda: np.where(y == y.max(), np.nan, y),
                "none": lambda: None,
                "input": lambda: np.multiply(x, 2, out=x) if x.flags.writeable else y,
            }[what]()

    return Misbehaving


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("raises", "raised RuntimeError: no kernel for this (after the start, at test_check_run.py:"),
        ("shape", "WRONG out.y.0: shape is (3, 5, 7), want (3, 5, 4, 7)"),
        ("dtype", "WRONG out.y.0: dtype is float64, want float32"),
        ("nan", "1 NaN"),
        ("none", "WRONG out.y.0: is NoneType, want a NumPy array"),
        ("input", "the layer changed its input in.x.0"),
    ],
)
def test_an_adapter_that_misbehaves_gets_a_line_and_the_other_cases_run(what, words):
    report = check.run(misbehaving(what), "batch_norm", cases=["shape-nchw", "eval-backward"])
    assert report.exit_code == 1
    assert words in report.text()
    assert len(report.results) == 2


def test_a_missing_output_is_named():
    class Forgetful(Reference):
        def backward(self, dy):
            return {key: value for key, value in super().backward(dy).items() if key != "dweight"}

    assert "WRONG out.dweight.0: is missing" in check.run(Forgetful, "layer_norm", cases=["shape-nc-"]).text()


def test_damaged_and_missing_vectors_get_a_line_and_the_others_run(tmp_path):
    shutil.copytree(VECTORS, tmp_path / "v")
    folder = tmp_path / "v" / "linear"
    files = sorted(folder.iterdir())
    files[0].write_bytes(files[0].read_bytes()[:-4])
    files[1].unlink()
    report = check.run(ORACLE, "linear", vectors=tmp_path / "v")
    assert report.exit_code == 1
    assert f"{files[0].name}: its sha256 must be the index's" in report.text()
    assert f"{files[1].name}: cannot be read" in report.text()
    assert report.count("failed") == 2
    assert report.count("passed") == len(files) - 2


def test_later_failures_that_follow_from_an_earlier_one_say_so():
    report = check.run(
        ORACLE, "batch_norm", cases=["train3-eval"], conventions={"grads": "overwrite", "momentum": "old"}
    )
    assert "follows from state.3.running_mean" in report.text()
    assert "momentum swapped" in report.diagnosis[0]


def test_a_declared_difference_is_converted_not_failed():
    from minidl.check.variants import known_wrong

    biased = next(v for v in known_wrong("batch_norm") if v.name == "running_var biased")
    own = dict(biased.conventions)
    assert check.run(biased, "batch_norm", conventions=own).exit_code == 1
    assert check.run(biased, "batch_norm", conventions={**own, "running_var": "biased"}).exit_code == 0
    assert check.run(biased, "batch_norm", "float64", conventions={**own, "running_var": "biased"}).exit_code == 0


def test_the_nhwc_layout_is_converted():
    class Last(Reference):
        conventions: Mapping[str, str] = {**Reference.conventions, "layout": "NHWC"}

        def forward(self, x, training):
            return np.moveaxis(super().forward(np.moveaxis(x, -1, 1), training), 1, -1)

        def backward(self, dy):
            grads = super().backward(np.moveaxis(dy, -1, 1))
            return {**grads, "dx": np.moveaxis(grads["dx"], 1, -1)}

    assert check.run(Last, "group_norm", cases=["shape", "two-groups", "n1"]).exit_code == 0
    assert check.run(Last, "group_norm", cases=["shape-nchw"], conventions=Reference.conventions).exit_code == 1


def test_the_second_moment_is_converted():
    class Moments(Reference):
        conventions: Mapping[str, str] = {**Reference.conventions, "running_var": "second_moment"}

        def load(self, params, state):
            state = dict(state)
            if state:
                square = state.pop("running_mean_square")
                state["running_var"] = square - state["running_mean"].astype(np.float64) ** 2
            super().load(params, state)

        def update(self):
            from minidl import reference

            mean, var = self.running["running_mean"], self.running["running_var"]
            first, second = reference.batch_norm_running_moments(self.x, mean, var + mean**2, self.options["momentum"])
            self.running = {"running_mean": first, "running_var": second - first**2}

        def state(self):
            mean = self.running["running_mean"]
            return {"running_mean": mean, "running_mean_square": self.running["running_var"] + mean**2}

    report = check.run(Moments, "batch_norm", cases=["train3", "eval-twice", "shape-", "momentum-0.1", "reload"])
    assert report.exit_code == 0, report.text()


def test_what_a_layer_does_not_offer_counts_as_declared():
    class Partial(Reference):
        def __init__(self, layer, options):
            if options.get("moments") == "pooled":
                raise check.NotSupportedError("pooled moments")
            super().__init__(layer, options)

    report = check.run(Partial, "mode_group_norm", cases=["pooled", "shape-nc-"])
    assert (report.count("declared"), report.count("passed"), report.exit_code) == (2, 1, 0)


def test_nothing_ran_exits_3(capsys, tmp_path):
    assert main([]) == 3
    assert check.run(ORACLE, "linear", cases=["no such case"]).exit_code == 3
    assert main(["run", ORACLE, "--layer", "linear", "--case", "no such case"]) == 3
    assert "0 cases" in capsys.readouterr().out
    assert main(["verify", str(VECTORS), str(tmp_path)]) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nowhere:Adapter", "--layer", "linear"], "the adapter 'nowhere:Adapter' cannot be loaded"),
        (["run", "minidl.check", "--layer", "linear"], "must be given as pkg.module:Name"),
        (["run", ORACLE, "--layer", "dropout"], "layer must be one of batch_norm,"),
        (["run", ORACLE, "--layer", "linear", "--declare", "momentum"], "--declare must be KEY=VALUE"),
        (["run", ORACLE, "--layer", "linear", "--declare", "momentum=new_ish"], "momentum must be one of new, old"),
        (["run", ORACLE, "--layer", "linear", "--declare", "colour=red"], "a convention must be one of"),
        (["show", "nothing"], "case must be one that list prints"),
        (["verify", "/nowhere", "/nowhere"], "give a folder made by export"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(arguments, words, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_the_command_runs_lists_shows_and_exports(capsys, tmp_path):
    assert main(["run", FAST, "--layer", "linear", "--layer", "conv2d", "--json", str(tmp_path / "r.json")]) == 0
    reports = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert [report["grade"] for report in reports] == ["accurate", "accurate"]
    assert main(["relations", FAST, "--layer", "mode_norm"]) == 0
    assert main(["list", "--layer", "mode_norm"]) == 0
    assert "mode_norm-empty-mode-float32-01" in capsys.readouterr().out
    assert main(["show", "mode_norm-empty-mode-float32-01"]) == 0
    assert "0/0 where a mode has no sample" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "v"), "--layer", "linear"]) == 0
    assert check.run(FAST, "linear", vectors=tmp_path / "v").exit_code == 0


def test_every_vector_file_is_in_the_index_and_all_are_under_4_mb():
    suite = open_suite()
    files = {path.relative_to(VECTORS).as_posix(): path.stat().st_size for path in VECTORS.rglob("*.safetensors")}
    assert set(files) == {entry.file for entry in suite.entries}
    assert sum(files.values()) < 4_000_000
    assert all(entry.flag in suite.flags for entry in suite.entries)
