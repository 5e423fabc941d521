"""Checkpoints: whole or absent, and any damage noticed."""

import numpy as np

from minidl.train import checkpoint

TENSORS = {
    "model.b": np.arange(15, dtype=np.float32).reshape(3, 5).T,
    "model.a": np.linspace(0, 1, 7),
    "optimiser.v": np.array(3, np.int64),
}
META = {"evaluated": 4, "random": {"state": 2**127 + 1}, "best": None, "text": 'sha256:"é'}


def test_what_was_saved_is_loaded(tmp_path):
    path = checkpoint.save(tmp_path, 12, TENSORS, META)
    tensors, meta = checkpoint.load(path)
    assert meta == {"step": 12, **META}
    assert tensors.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name], array)


def test_the_same_content_gives_the_same_bytes(tmp_path):
    first = checkpoint.save(tmp_path / "a", 12, TENSORS, META)
    second = checkpoint.save(tmp_path / "b", 12, dict(reversed(TENSORS.items())), META)
    assert first.read_bytes() == second.read_bytes()


def test_any_safetensors_reader_reads_the_arrays(tmp_path):
    from safetensors.numpy import load_file

    path = checkpoint.save(tmp_path, 12, TENSORS, META)
    np.testing.assert_array_equal(load_file(path)["model.b"], TENSORS["model.b"])


def test_the_last_two_are_kept(tmp_path):
    for step in (8, 9, 10, 1000000000):
        checkpoint.save(tmp_path, step, TENSORS, META)
    assert [path.name for path in checkpoint.list_steps(tmp_path)] == [
        "step-000000010.safetensors",
        "step-1000000000.safetensors",
    ]
    assert len(list(tmp_path.iterdir())) == 2
