"""The bundled sample: what it holds, and that its maker makes it again."""

import numpy as np
import pytest
from data_files import (
    REAL_OR_SAMPLE,
    colour,
)

from minidl.data import load_task, make_sample, multitask
from minidl.data.compressed import unpack


def test_the_sample_is_balanced_small_and_says_its_sources():
    task = load_task("multitask", sample=True, progress=False)
    assert np.bincount(task.train.labels).tolist() == [115] * 40
    assert np.bincount(task.test.labels).tolist() == [29] * 40
    files = [path for path in multitask.SAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 6_000_000
    licences = (multitask.SAMPLE / "LICENSES.md").read_text("utf-8")
    assert all(f"`{path.parent.name}/`" in licences for path in files if path.parent != multitask.SAMPLE)
    assert "svhn: 1150 of 73257 training images, 290 of 26032 test images" in task.describe()[2]


def test_the_samples_maker_rebuilds_it_byte_for_byte(tmp_path, monkeypatch):
    # compared unpacked: another zlib or liblzma may pack the same bytes otherwise
    monkeypatch.setattr(make_sample, "_pack", lambda path, content, form: path.write_bytes(content))
    assert make_sample.main(["--data-dir", str(REAL_OR_SAMPLE), "--out", str(tmp_path)]) == 0
    packed = [path for path in multitask.SAMPLE.rglob("*.?z") if path.is_file()]
    assert len(packed) == 12
    for path in packed:
        assert (tmp_path / path.relative_to(multitask.SAMPLE).with_suffix("")).read_bytes() == unpack(path)


@pytest.mark.parametrize(("form", "packing"), [("idx", ".gz"), ("cifar", ".xz"), ("svhn", ".xz")])
def test_the_samples_packing_depends_on_the_content_alone(tmp_path, form, packing):
    content = colour(np.random.default_rng(0), 2).tobytes()
    for name in ("one", "two"):
        make_sample._pack(tmp_path / name, content, form)
    one, two = (tmp_path / f"{name}{packing}" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert unpack(one) == content


def test_the_samples_maker_says_in_one_line_what_it_lacks(tmp_path, capsys):
    assert make_sample.main(["--data-dir", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'none'}: no such data folder")
