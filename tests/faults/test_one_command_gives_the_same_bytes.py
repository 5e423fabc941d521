"""Promise 7: the same command gives the same bytes, for any number of threads."""

import pytest
from tiny_run import result, train
from train_command import run


def test_one_configuration_gives_the_same_bytes_for_any_number_of_threads(tmp_path):
    for name, threads in (("a", 1), ("b", 1), ("c", 2)):
        train(tmp_path / name, threads=threads, data_dir=name)
    assert result(tmp_path / "a") == result(tmp_path / "b") == result(tmp_path / "c")


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"lr": 0.06}, {"augment": "none"}, {"modes": 2}, {"dtype": "float64"}]
)
def test_another_configuration_gives_other_bytes(tmp_path, uninterrupted, changes):
    train(tmp_path / "other", **changes)
    assert result(tmp_path / "other")[0] != uninterrupted[0]
    assert result(tmp_path / "other")[1] != uninterrupted[1]


SHORT = ["lenet", "multitask", "--sample", "--updates", "6", "--batch-size", "16", "--eval-every", "4", "--quiet"]


def test_a_command_repeated_in_another_process_gives_the_same_bytes_whatever_its_threads(tmp_path):
    for threads in (1, 2):
        status, _, err = run(tmp_path, *SHORT, "--threads", threads, "--out", f"on-{threads}")
        assert (status, err) == (0, "")
    assert result(tmp_path / "on-1") == result(tmp_path / "on-2")
