"""What makes two runs the same, and what is found again in the results folder."""

import json
from dataclasses import fields, replace

import pytest

from minidl.reproduce import store
from minidl.reproduce.plan import Run
from minidl.reproduce.store import ReproduceError, Store, folder_name, run_hash
from minidl.train import describe, recipe
from minidl.train.config import FREE_FIELDS, NEWER_FIELDS, Config

DATA = {"train_images": {"mnist": 60}, "test_images": {"mnist": 20}, "data_sha256": "ab"}
BASE = replace(recipe(), backend="numpy", momentum=0.7)
OTHERS = {
    "ranks": 2,
    "sync_norm": True,
    "model": "lenet5",
    "task": "svhn",
    "norm": "bn",
    "modes": 3,
    "groups": 3,
    "per_mode_affine": True,
    "rarer": "mnist/10",
    "norm_momentum": 0.2,
    "batch_size": 64,
    "lr": 0.2,
    "momentum": 0.8,
    "weight_decay": 1e-4,
    "length": "14e",
    "lr_drops": ("5/7",),
    "drop_factor": 0.5,
    "augment": "flip-crop",
    "norm_at": "first",
    "image_size": 64,
    "corrupt": "skip",
    "optimiser": "adam",
    "nesterov": True,
    "betas": (0.8, 0.9),
    "eps": 1e-4,
    "schedule": "cosine",
    "warmup": "5u",
    "label_smoothing": 0.1,
    "log_every": 7,
    "test_share": 0.25,
    "start_from": "runs/other",
    "max_modes": 4,
    "auto_by": "split",
    "auto_strength": 0.1,
    "auto_threshold": 0.1,
    "auto_window": "1e",
    "auto_until": "1/2",
    "gate_input": "normalised",
    "gate_lr": 0.1,
    "gate_weight_decay": 0.0,
    "gate_temperature": 2.0,
    "seed": 1,
    "dtype": "float64",
    "backend": "cupy",
    "eval_every": 100,
}


def test_every_setting_is_looked_at():
    assert OTHERS.keys() | set(FREE_FIELDS) == {field.name for field in fields(Config)}


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_setting_is_another_run(name, monkeypatch):
    monkeypatch.setattr(Config, "__post_init__", lambda self: None)  # a second model need not exist
    other = replace(BASE, **{name: OTHERS[name]})
    assert run_hash(other, DATA) != run_hash(BASE, DATA)


def test_runs_recorded_before_a_field_came_stay_the_same_runs():
    before = {name: value for name, value in BASE.to_json().items() if name not in NEWER_FIELDS}
    assert describe.settings({"config": before}) == describe.settings({"config": BASE.to_json()})
    assert (
        run_hash(replace(BASE, momentum=0.9, backend="numpy"), {})
        == "4868e552d4dca711b51bdb70318b06387243c8625d1ef3752e77ce2460960336"
    )


def test_other_data_or_another_schema_is_another_run(monkeypatch):
    first = run_hash(BASE, DATA)
    for name, value in (("train_images", {"mnist": 61}), ("test_images", {"mnist": 21}), ("data_sha256", "ac")):
        assert run_hash(BASE, {**DATA, name: value}) != first
    monkeypatch.setattr(store, "SCHEMA", store.SCHEMA + 1)
    assert run_hash(BASE, DATA) != first


def test_where_the_data_lies_and_how_many_threads_work_is_no_other_run():
    for change in ({"data_dir": "elsewhere"}, {"sample": True}, {"threads": 7}, {"device": 1}, {"checkpoint_every": 5}):
        assert run_hash(replace(BASE, **change), DATA) == run_hash(BASE, DATA)
        assert folder_name(replace(BASE, **change), DATA) == folder_name(BASE, DATA)


def test_a_folders_name_can_be_read_and_ends_with_the_hash():
    name = folder_name(replace(BASE, norm="bn", seed=4), DATA)
    assert name == f"lenet-multitask-bn-n128-seed4-{run_hash(replace(BASE, norm='bn', seed=4), DATA)[:11]}"


def write_run(folder, config, data=DATA, status="finished", **changes):
    """Write what `Store` reads of a run."""
    folder.mkdir(parents=True)
    content = {"minidl": "0", "config": config.to_json() | changes, "data": data}
    (folder / "config.json").write_text(json.dumps(content))
    if status:
        line = {"test_error": 5.0}
        (folder / "summary.json").write_text(json.dumps({"status": status, "best": line, "last": line}))


def test_a_run_is_found_by_its_configuration_whatever_its_folder_is_called(tmp_path):
    write_run(tmp_path / "runs" / "any", BASE)
    assert list(Store(tmp_path).read()) == [run_hash(BASE, DATA)]


def test_a_run_of_a_version_without_some_setting_is_found(tmp_path):
    write_run(tmp_path / "runs" / "any", BASE)
    file = tmp_path / "runs" / "any" / "config.json"
    content = json.loads(file.read_text("utf-8"))
    del content["config"]["drop_factor"]
    file.write_text(json.dumps(content))
    assert list(Store(tmp_path).read()) == [run_hash(BASE, DATA)]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_a_finished_run_comes_before_an_unfinished_one_of_the_same_hash(tmp_path, names):
    write_run(tmp_path / "runs" / names[0], BASE)
    write_run(tmp_path / "runs" / names[1], BASE, status=None)
    assert Store(tmp_path).read()[run_hash(BASE, DATA)].path.name == names[0]


def test_a_partial_summary_is_no_finished_run(tmp_path):
    write_run(tmp_path / "runs" / "any", BASE, status="partial")
    run = Store(tmp_path).read()[run_hash(BASE, DATA)]
    with pytest.raises(ReproduceError, match="is not finished"):
        run.result()


def test_a_run_of_two_backends_is_no_run_of_a_table(tmp_path):
    write_run(tmp_path / "runs" / "any", BASE)
    file = tmp_path / "runs" / "any" / "config.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text("utf-8")), "went_on": [{"after_update": 3, "backend": "cupy"}]})
    )
    with pytest.raises(ReproduceError, match=r"any was trained with two backends; move it away to train the run anew"):
        Store(tmp_path).read()


@pytest.mark.parametrize("damage", ["{", "[]", '{"config": {"norm": "xy"}}', '{"config": {"colour": 3}, "data": {}}'])
def test_a_damaged_run_is_named_with_the_cure(tmp_path, damage):
    write_run(tmp_path / "runs" / "any", BASE)
    (tmp_path / "runs" / "any" / "config.json").write_text(damage)
    with pytest.raises(ReproduceError, match=r"any is damaged .*; remove that folder"):
        Store(tmp_path).read()


def test_runs_on_two_sets_of_data_are_not_mixed(tmp_path):
    planned = [Run(128, "MN K=2", 0, BASE)]
    with pytest.raises(ReproduceError, match="no run of this table"):
        Store(tmp_path).example(planned)
    write_run(tmp_path / "runs" / "a", BASE)
    write_run(tmp_path / "runs" / "c", replace(BASE, norm="bn"), {**DATA, "data_sha256": "cd"})  # of no interest
    assert Store(tmp_path).example(planned).data == DATA
    write_run(tmp_path / "runs" / "b", BASE, {**DATA, "data_sha256": "cd"})
    with pytest.raises(ReproduceError, match="different data; say which with --data-dir or --sample"):
        Store(tmp_path).example(planned)
