"""A run, its events and an evaluation stay out of the folder of images, where they would be taken for a class."""

import numpy as np
import pytest
from PIL import Image
from tiny_run import tiny_config

from minidl.data import DataError, load_task
from minidl.data.class_folder import load_all
from minidl.evaluate.__main__ import main as evaluate
from minidl.train import ConfigError, Trainer
from minidl.train.__main__ import main

pytestmark = pytest.mark.usefixtures("no_curves")

SHORT = ["--batch-size", "4", "--updates", "2", "--threads", "1", "--quiet"]
TINY = ["tiny", "folder", *SHORT]


def put(folder, classes=("ant", "bee")):
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 256, (32, 35, 3), np.uint8)).save(folder / name / f"{i}.png")


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "photos")
    (tmp_path / "link").symlink_to("photos")
    return tmp_path / "photos"


def said(capsys):
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def below(folder):
    return sorted(path for path in folder.rglob("*") if path.suffix != ".png")


@pytest.mark.parametrize(
    "args",
    [
        ["--data-dir", "photos", "--out", "photos"],
        ["--data-dir", "photos", "--out", "photos/ant/runs/a"],
        ["--data-dir", "photos", "--out", "link/run"],
        ["--data-dir", "link", "--out", "photos/run"],
        ["--data-dir", ".", "--out", "photos/run"],
        ["--data-dir", "photos", "--out", "run", "--tensorboard", "photos/events"],
    ],
)
def test_a_run_among_the_images_is_refused_before_anything_is_written(photos, capsys, args):
    before = below(photos.parent)
    assert main([*TINY, *args]) == 2
    err = said(capsys)
    folder = photos if args[1] != "." else photos.parent
    assert f"{args[-2]} must lie outside {folder}, the folder of the images, where it would be taken for a class" in err
    assert f"got {args[-1]}; give another, such as {args[-2]} " in err
    assert below(photos.parent) == before


def test_the_default_folder_of_a_run_is_refused_there_too_and_the_one_that_is_named_instead_is_taken(
    photos, capsys, monkeypatch
):
    monkeypatch.chdir(photos)
    assert main([*TINY, "--data-dir", "."]) == 2
    err = said(capsys)
    assert "--out must lie outside " in err
    assert not (photos / "runs").exists()
    other = err.rpartition(" ")[2].strip()
    assert other.startswith("../runs/tiny-folder-")
    assert main([*TINY, "--data-dir", ".", "--out", other]) == 0
    assert evaluate([other, "--quiet"]) == 0
    assert main(["--out", other, "--resume", "--updates", "4", "--quiet"]) == 0


def test_a_run_beside_a_given_split_is_not_among_the_images(tmp_path, capsys):
    for part in ("train", "test"):
        put(tmp_path / "both" / part)
    assert main([*TINY, "--data-dir", "both", "--out", "both/run"]) == 0
    assert evaluate(["both/run", "--quiet"]) == 0
    capsys.readouterr()
    assert main([*TINY, "--data-dir", "both", "--out", "both/train/run"]) == 2
    assert f"--out must lie outside {tmp_path}/both/train, " in said(capsys)
    assert main(["tiny", "imagenet", *SHORT, "--image-size", "32", "--data-dir", "both", "--out", "both/test/run"]) == 2
    assert f"--out must lie outside {tmp_path}/both/test, " in said(capsys)


def test_from_python_it_is_refused_alike():
    with pytest.raises(ConfigError, match=r"--out must lie outside .*photos"):
        Trainer(tiny_config(task="folder", image_size=32, data_dir="photos"), "photos/run")


def test_an_evaluation_is_not_written_among_the_images(photos, capsys):
    assert main([*TINY, "--data-dir", "photos", "--out", "run"]) == 0
    put(photos.parent / "more")
    capsys.readouterr()
    for args in (["--out", "photos/found"], ["--data-dir", "more", "--out", "more/found"]):
        assert evaluate(["run", "--quiet", *args]) == 2
        assert f"got {args[-1]}; give another" in said(capsys)
        assert not (photos.parent / args[-1]).exists()
    assert evaluate(["run", "--quiet", "--data-dir", "more", "--out", "photos/found"]) == 0


@pytest.mark.parametrize("where", ["photos", "photos/cache", "link/ant/cache"])
def test_a_cache_among_the_images_is_refused_before_anything_is_written(photos, capsys, monkeypatch, where):
    monkeypatch.setenv("MINIDL_DATA", str(photos.parent / where))
    before = below(photos.parent)
    assert main([*TINY, "--data-dir", "photos", "--out", "run"]) == 4
    err = said(capsys)
    assert (
        f"MINIDL_DATA must lie outside {photos}, the folder of the images, where it would be taken for a class" in err
    )
    assert f"got {photos.parent / where}; set MINIDL_DATA to another folder" in err
    assert below(photos.parent) == before


def test_a_cache_that_was_written_among_the_images_is_named_and_not_the_class_it_seems_to_be(photos, monkeypatch):
    (photos / "cache" / "decoded").mkdir(parents=True)
    monkeypatch.setenv("MINIDL_DATA", str(photos / "cache"))
    for read in (
        lambda: load_task("folder", data_dir="photos", image_size=32),
        lambda: load_all("photos", ("ant", "bee"), 32),
    ):
        with pytest.raises(DataError, match=rf"^MINIDL_DATA must lie outside {photos}, the folder of the images"):
            read()
    monkeypatch.setenv("MINIDL_DATA", str(photos.parent / "cache"))
    with pytest.raises(DataError, match=r"^cache_dir must lie outside .*; give another$"):
        load_task("folder", data_dir="photos", image_size=32, cache_dir="photos/cache")


def test_a_cache_within_a_split_that_is_read_late_is_refused_too(tmp_path, monkeypatch):
    for part in ("train", "val"):
        put(tmp_path / "both" / part)
    for name in ("cache", ".cache"):
        monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "both" / "train" / name))
        with pytest.raises(DataError, match=f"^MINIDL_DATA must lie outside {tmp_path}/both/train, "):
            load_task("imagenet", data_dir="both", image_size=32, workers=1)
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "both" / "cache"))
    assert load_task("imagenet", data_dir="both", image_size=32, workers=1).class_names == ("ant", "bee")


def test_a_hidden_cache_below_the_images_is_no_class(photos, monkeypatch):
    monkeypatch.delenv("MINIDL_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(photos / ".cache"))
    for _ in range(2):  # the second time it is there
        assert load_task("folder", data_dir="photos", image_size=32, progress=False).class_names == ("ant", "bee")
    assert (photos / ".cache" / "minidl" / "decoded").is_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(photos / "seen"))
    with pytest.raises(DataError, match=r"^the cache must lie outside .*; set MINIDL_DATA to another folder$"):
        load_task("folder", data_dir="photos", image_size=32, progress=False)


# -- runs that are there ------------------------------------------------------------------------------------------


def run_in(folder):
    Trainer(tiny_config(length="1u"), folder, quiet=True, task=load_task("mnist", sample=True))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("photos", "photos: the folder of images is that of a run as well, .*; move the folders of the classes into a"),
        ("photos/run", "photos/run: is a run of minidl, not images of a class; move it out of photos$"),
        ("photos/runs/a", "photos/runs: holds runs of minidl, not images of a class; move it out of photos$"),
        ("photos/ant/runs/a", "photos/ant/runs: holds runs of minidl, not images of a class; move it out of photos$"),
    ],
)
def test_runs_among_the_images_are_named_and_are_no_classes(photos, where, message):
    run_in(where)
    with pytest.raises(DataError, match=message):
        load_task("folder", data_dir="photos", image_size=32)


def test_a_run_that_another_version_wrote_into_its_own_images_says_what_to_move(photos, capsys):
    assert main([*TINY, "--data-dir", "photos", "--out", "run"]) == 0
    (photos.parent / "run").rename(photos / "run")
    for command in (
        lambda: evaluate(["photos/run", "--quiet"]),
        lambda: evaluate(["photos/run", "--quiet", "--data-dir", "photos"]),
        lambda: main(["--out", "photos/run", "--resume", "--updates", "4", "--quiet"]),
    ):
        assert command() == 4
        assert "photos/run: is a run of minidl, not images of a class; move it out of " in said(capsys)
    (photos / "run").rename(photos.parent / "run")
    assert evaluate(["run", "--quiet"]) == 0


@pytest.mark.parametrize("where", ["train/run", "val/ant/run", "val/run"])
def test_runs_among_images_that_are_read_late_are_named_too(tmp_path, where):
    for part in ("train", "val"):
        put(tmp_path / "both" / part)
    run_in(f"both/{where}")
    with pytest.raises(
        DataError, match=f"both/{where}: is a run of minidl, not images of a class; move it out of both"
    ):
        load_task("imagenet", data_dir="both", image_size=32, workers=1)


def test_a_class_may_have_a_file_of_that_name(photos):
    (photos / "ant" / "config.json").write_text('{"camera": "a"}')
    assert load_task("folder", data_dir="photos", image_size=32).class_names == ("ant", "bee")


def test_an_evaluation_takes_no_other_file_of_its_names(photos, tmp_path, capsys):
    assert main([*TINY, "--data-dir", "photos", "--out", "run"]) == 0
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "classes.csv").write_text("# mine\n")
    capsys.readouterr()
    assert evaluate(["run", "--quiet", "--out", "mine"]) == 2
    assert "--out mine has a classes.csv that is not of this command; give another folder" in capsys.readouterr().err
    (mine / "evaluation.json").write_text("[]")
    assert evaluate(["run", "--quiet", "--out", "mine"]) == 2
    assert sorted(path.name for path in mine.iterdir()) == ["classes.csv", "evaluation.json"]
    for _ in range(2):
        assert evaluate(["run", "--quiet", "--out", "other"]) == 0
