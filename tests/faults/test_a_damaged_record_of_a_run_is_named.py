"""Promise 12: a damaged config.json or log of a run is named in one line, by its field or line, with the cure."""

import json
import os
import shutil

import pytest
from tiny_run import TOTAL, result, train

import minidl
from minidl.train import RunError
from minidl.train.checkpoint import CheckpointError


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"config": {}}', '{"config": {"length": 5}}', "[" * 100_000, '{"config": []}', "\x00", "5"]
)
def test_a_damaged_config_is_named(tmp_path, stopped, content):
    shutil.copytree(stopped, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(content)
    with pytest.raises(RunError, match=r"config.json is damaged \(.*\); start again with another --out") as error:
        train(tmp_path / "run", resume=True)
    assert "\n" not in str(error.value)


PARTS = {
    "data": None,
    "plan": None,
    "config": None,
    "dataset": 5,
    "input": [],
    "code": {"norm": 5},
    "stages": [5],
    "went_on": 5,
    "from": {},
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("use", ["resume", "load"])
def test_a_part_of_the_config_that_is_missing_or_of_another_kind_is_named(tmp_path, stopped, part, use):
    shutil.copytree(stopped, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text("utf-8")) | {part: PARTS[part]}
    if PARTS[part] is None:
        del content[part]
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match=rf"config.json is damaged \(.*\b{part}\b.*\)"):
        train(tmp_path / "run", resume=True) if use == "resume" else minidl.load(tmp_path / "run")


WITHIN = [
    ("data", {"train_images": 5}, "train_images of data must be an object, got 5"),
    ("data", {"test_images": None}, "test_images of data must be an object, got None"),
    ("data", {"train_images": {"mnist": "x"}}, "train_images of 'mnist' must be a whole number from 0, got 'x'"),
    ("data", {"test_images": {"mnist": -1}}, "test_images of 'mnist' must be a whole number from 0, got -1"),
    ("data", {"data_sha256": 5}, "data_sha256 of data must be text, got 5"),
    ("dataset", {"train_images_by_class": [3]}, "train_images_by_class of dataset must be an object"),
    ("dataset", {"split": ["drawn"]}, "split of dataset must be text"),
    ("went_on", [{"after_update": 3, "backend": "abacus"}], "backend of went_on must be one of .*, got 'abacus'"),
    ("went_on", [{"after_update": 3, "backend": []}], "backend of went_on must be one of"),
    ("went_on", [{"after_update": 3, "backend": "auto"}], "backend of went_on must be one of numpy, numba, cupy, got"),
    ("went_on", [{"after_update": 3, "machine": "x"}], "went_on must have after_update and backend or ranks, got"),
    ("went_on", [{"backend": "numpy"}], "went_on must have after_update and backend or ranks, got"),
    ("went_on", [{"after_update": 3}], "went_on must have after_update and backend or ranks, got"),
    ("went_on", [{"after_update": 3, "ranks": 0}], "ranks of went_on must be at least 1, got 0"),
]


@pytest.mark.parametrize(("part", "value", "what"), WITHIN)
def test_a_field_of_the_config_that_no_run_writes_is_named(tmp_path, stopped, part, value, what):
    shutil.copytree(stopped, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text("utf-8"))
    content[part] = value if isinstance(value, list) else content[part] | value
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match=rf"config.json is damaged \({what}.*\); start again with another") as error:
        train(tmp_path / "run", resume=True)
    assert "\n" not in str(error.value)
    assert error.value.exit_status == RunError.exit_status == 1


def test_a_config_without_its_data_set_says_so(tmp_path, stopped):
    shutil.copytree(stopped, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text("utf-8"))
    del content["dataset"]
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"another run than .*config.json, which has no dataset"):
        train(tmp_path / "run", resume=True)


def test_a_config_that_an_editor_saved_with_a_byte_order_mark_is_read(tmp_path, stopped):
    shutil.copytree(stopped, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert train(tmp_path / "run", resume=True).step == TOTAL


@pytest.mark.parametrize("line", ["5", "{}", "null", '{"step": "x", "epoch": 1, "test_error": 2}', "NaN", '{"step": 1'])
def test_a_damaged_line_of_the_log_is_named(tmp_path, stopped, line):
    shutil.copytree(stopped, tmp_path / "run")
    log = tmp_path / "run" / "metrics.jsonl"
    log.write_text(log.read_text("utf-8") + line + "\n")
    with pytest.raises(RunError, match=r"metrics.jsonl is damaged in line 3; mend or remove that line"):
        train(tmp_path / "run", resume=True)


@pytest.mark.parametrize("seconds", ["none", None, "x", -1.0, float("nan"), True])
def test_an_evaluation_without_its_seconds_is_a_damaged_line(tmp_path, stopped, seconds):
    shutil.copytree(stopped, tmp_path / "run")
    log = tmp_path / "run" / "metrics.jsonl"
    first, last = map(json.loads, log.read_text("utf-8").splitlines())
    last["seconds"] = seconds
    if seconds == "none":
        del last["seconds"]
    log.write_text("".join(json.dumps(line) + "\n" for line in (first, last)))
    with pytest.raises(RunError, match=r"metrics.jsonl is damaged in line 2; mend or remove that line"):
        train(tmp_path / "run", resume=True)


LOGS = {"metrics.jsonl": "the evaluation after update 5", "losses.jsonl": "the loss after update 6"}


@pytest.mark.parametrize("name", LOGS)
def test_a_log_that_lost_lines_before_its_last_is_not_gone_on_with(tmp_path, stopped, name):
    shutil.copytree(stopped, tmp_path / "run")
    log = tmp_path / "run" / name
    lines = log.read_text("utf-8").splitlines(keepends=True)
    del lines[-2]
    log.write_text("".join(lines))
    with pytest.raises(RunError, match=f"{name} lacks {LOGS[name]}.*; put the file back, or start a new run with"):
        train(tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("name", "left"), [("metrics.jsonl", "nothing"), ("metrics.jsonl", "no file"), ("losses.jsonl", "nothing")]
)
def test_a_log_that_was_lost_is_not_gone_on_with(tmp_path, stopped, name, left):
    shutil.copytree(stopped, tmp_path / "run")
    log = tmp_path / "run" / name
    log.write_text("") if left == "nothing" else log.unlink()
    with pytest.raises(CheckpointError, match=rf"does not fit the run \(.*{name}.* put that file back") as error:
        train(tmp_path / "run", resume=True)
    assert error.value.exit_status == 4


@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize("name", LOGS)
def test_a_log_that_lost_its_last_line_is_gone_on_with_where_it_ends(tmp_path, stopped, uninterrupted, capsys, name):
    shutil.copytree(stopped, tmp_path / "run")
    log = tmp_path / "run" / name
    log.write_text("".join(log.read_text("utf-8").splitlines(keepends=True)[:-1]))
    train(tmp_path / "run", resume=True)
    assert capsys.readouterr().err.count("step-000000011.safetensors does not fit the run") == 1
    assert result(tmp_path / "run") == uninterrupted


@pytest.mark.parametrize(
    ("name", "content"), [("config.json", '{"config": {'), ("config.json", '{"config": {"x": 1}}')]
)
def test_a_damaged_configuration_is_named(tmp_path, name, content):
    train(tmp_path / "run", until=2)
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(RunError, match=r"config.json is damaged \(.*\); start again with another --out"):
        train(tmp_path / "run", resume=True)


def test_a_damaged_log_is_named_by_line(tmp_path):
    train(tmp_path / "run", until=10)
    path = tmp_path / "run" / "metrics.jsonl"
    path.write_text(path.read_text("utf-8").replace('{"step": 10', '"step": 10'))
    with pytest.raises(RunError, match=r"metrics.jsonl is damaged in line 2; mend or remove that line"):
        train(tmp_path / "run", resume=True)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "losses.jsonl"])
def test_a_file_larger_than_any_that_a_run_writes_is_not_read(tmp_path, stopped, name):
    shutil.copytree(stopped, tmp_path / "run")
    os.truncate(tmp_path / "run" / name, 1 << 32)  # a hole: it takes no room
    cure = "put the run's own back, or give another --out"
    with pytest.raises(RunError, match=rf"{name} cannot be read \(has 4294967296 bytes, more than .*\); {cure}"):
        train(tmp_path / "run", resume=True)
