"""Promise 20: a file or a folder that cannot be written or read is named, with a cure that works."""

import errno
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from limited import close, limited
from PIL import Image

import minidl
from minidl import files
from minidl.files import UmaskError, make_folder, naming, no_folder, open_own
from minidl.train.__main__ import main
from minidl.train.lock import FolderLock
from minidl.writing import write_atomic, write_together

RUN = ["lenet", "mnist", "--sample", "--norm", "none", "--batch-size", "8", "--threads", "1", "--backend", "numpy"]
SHORT = [*RUN, "--updates", "4", "--eval-every", "2", "--checkpoint-every", "2", "--quiet"]
SAMPLE = Path(minidl.__file__).parent / "data" / "sample" / "mnist"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights, and no umask")


@pytest.fixture
def place(tmp_path):
    """A folder that everybody may look into: those above pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="minidl-rights-"))
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


# -- a full disk --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "says", "cure"),
    [
        (errno.ENOSPC, "No space left on device", "free some space"),
        (errno.EIO, "Input/output error", "see that the disk can be written"),
    ],
    ids=["full", "broken"],
)
def test_whatever_a_disk_refuses_is_named_and_the_cure_goes_on_to_the_end(
    number, says, cure, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minidl.train.plots.draw_run", lambda *args: None)
    fsync, seen = os.fsync, set()
    for allowed in range(100):
        left = [allowed]

        def limit(descriptor, left=left):
            if not left[0]:
                raise OSError(number, says)  # as the system says it: of no file
            left[0] -= 1
            fsync(descriptor)

        shutil.rmtree("R", ignore_errors=True)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", limit)
            status = main([*SHORT, "--out", "R"])
        err = capsys.readouterr().err
        if status == 0:
            break
        assert (status, err.count("\n")) == (1, 1)
        name, why = err.removeprefix("minidl.train: ").rstrip("\n").split(": ")
        assert name.startswith("R")
        seen.add(Path(name).name)
        begun = Path("R", "config.json").exists()
        assert why == f"{says}; {cure}, then {'--resume' if begun else 'run it again'}"
        assert main(["--out", "R", "--resume"] if begun else [*SHORT, "--out", "R"]) == 0
        capsys.readouterr()
    assert status == 0
    assert {"config.json", "metrics.jsonl", "summary.json", "step-000000002.safetensors"} <= seen


def test_a_full_disk_leaves_the_files_of_one_evaluation_and_never_those_of_two(tmp_path, monkeypatch, capsys):
    from minidl.evaluate.__main__ import main as evaluate

    monkeypatch.chdir(tmp_path)
    assert main([*SHORT, "--out", "R"]) == 0
    steps = sorted(Path("R", "checkpoints").iterdir())

    def measured(step):
        return evaluate([str(steps[step]), "--out", "E", "--quiet"]), {
            p.name: p.read_bytes() for p in Path("E").iterdir()
        }

    _, first = measured(0)
    _, second = measured(1)
    assert len(first) == 4
    assert first["evaluation.json"] != second["evaluation.json"]
    fsync = os.fsync
    for allowed in range(20):
        assert measured(0) == (0, first)
        capsys.readouterr()
        left = iter([fsync] * allowed)

        def limit(descriptor, left=left):
            for go in left:
                return go(descriptor)
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", limit)
            status, there = measured(1)
        if status == 0:
            break
        assert there == first
        err = capsys.readouterr().err
        assert err.startswith("minidl.evaluate: E")
        assert err.endswith(": No space left on device; free some space, then run it again\n")
    assert allowed > len(first)
    assert there == second


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no links"])
def test_a_rename_that_fails_leaves_the_files_as_they_were(tmp_path, monkeypatch, links):
    first = {tmp_path / name: name.encode() for name in "abc"}
    second = {path: b"new " + path.name.encode() for path in (*first, tmp_path / "d")}
    write_together(first)
    replace = os.replace
    if not links:
        monkeypatch.setattr(os, "link", lambda *args, **keywords: os.open(tmp_path, os.O_WRONLY))  # raises OSError
    for failing in range(100):
        calls = iter(range(100))

        def sometimes(source, target, failing=failing, calls=calls):
            if next(calls) == failing:
                raise OSError(errno.EIO, "Input/output error")
            replace(source, target)

        failed = None
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", sometimes)
            try:
                write_together(second)
            except OSError as error:
                failed = error
        if failed is None:
            break
        assert failed.strerror == "Input/output error"
        assert Path(failed.filename) in {*second, tmp_path / "a.unfinished"}
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert failing >= len(first) + len(second)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == second


def test_the_picture_of_another_evaluation_does_not_stay_beside_new_numbers(tmp_path, monkeypatch, capsys):
    from minidl.evaluate.__main__ import main as evaluate

    monkeypatch.chdir(tmp_path)
    assert main([*SHORT, "--out", "R"]) == 0
    assert evaluate(["R"]) == 0
    monkeypatch.setattr("minidl.evaluate.picture.draw", lambda *args: 1 / 0)
    assert evaluate(["R"]) == 0
    assert "the picture could not be drawn (ZeroDivisionError" in capsys.readouterr().err
    assert sorted(path.name for path in Path("R", "evaluation").iterdir()) == [
        "classes.csv",
        "confusion.csv",
        "evaluation.json",
    ]


def test_a_full_disk_leaves_the_pages_of_one_table(tmp_path, monkeypatch):
    from minidl.reproduce.report import write_files

    first = {"a.md": b"## Where it comes from\n\n- command: `python -m minidl.reproduce a`", "a.csv": b"# command: "}
    first["a.csv"] += b"python -m minidl.reproduce a"
    write_files(tmp_path, first)

    def full(descriptor, left=[os.fsync]):  # noqa: B006 - one list is meant
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        left.pop()(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        write_files(tmp_path, {name: content + b" again" for name, content in first.items()})
    assert error.value.filename == str(tmp_path / "a.csv")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_a_limit_on_the_size_of_a_file_is_named_with_its_cure(tmp_path):
    status, out, err = limited(tmp_path, "minidl.train", *SHORT, "--out", "R", before="ulimit -f 1")
    assert (status, out) == (1, "")
    what = "raise the limit on a file's size (ulimit -f), then run it again"
    assert err == f"minidl.train: R/config.json: File too large; {what}\n"
    assert limited(tmp_path, "minidl.train", *SHORT, "--out", "R")[0] == 0


def test_the_lock_is_named_where_it_cannot_be_written_and_is_let_go_of(tmp_path, monkeypatch):
    def full(descriptor, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    lock = FolderLock(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left") as error:
            lock.take()
    assert error.value.filename == str(tmp_path / ".lock")
    with FolderLock(tmp_path):
        pass


def test_the_report_of_a_measurement_is_named_and_the_one_before_it_stays(tmp_path, monkeypatch):
    from minidl.bench import record

    record.save([{"what": "steps"}], tmp_path / "bench.json")
    before = (tmp_path / "bench.json").read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        record.save([{"what": "steps"}, {"what": "modes"}], tmp_path / "bench.json")
    assert error.value.filename == str(tmp_path / "bench.json")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"bench.json": before}


def test_an_error_that_names_a_file_keeps_its_name():
    with pytest.raises(OSError, match="'b'") as error, naming("a"):
        raise OSError(errno.ENOENT, "none", "b")
    assert error.value.filename == "b"


# -- --out --------------------------------------------------------------------------------------------------------

NO_FOLDERS = {
    "a file": (lambda path: path.write_text("mine"), "is a file, not a folder"),
    "a link to a file": (lambda path: path.symlink_to("own"), "is a file, not a folder"),
    "a link to nothing": (lambda path: path.symlink_to("gone"), "is a link to gone, which is not there"),
    "a pipe": (lambda path: os.mkfifo(path), "is no folder"),
}


@pytest.mark.parametrize("kind", NO_FOLDERS)
def test_what_is_no_folder_and_has_the_name_of_one_to_be_written_is_named_at_once(tmp_path, monkeypatch, capsys, kind):
    from minidl.evaluate.__main__ import main as evaluate
    from minidl.reproduce.__main__ import main as reproduce

    make, what = NO_FOLDERS[kind]
    monkeypatch.chdir(tmp_path)
    Path("own").write_text("mine", encoding="utf-8")
    assert main([*SHORT, "--out", "run"]) == 0
    make(Path("R"))
    before = sorted(path.name for path in tmp_path.iterdir()), Path("own").read_text("utf-8")
    capsys.readouterr()
    monkeypatch.setattr("minidl.train.build.load_task", lambda *args, **more: pytest.fail("it read the data before"))
    monkeypatch.setattr("minidl.evaluate.data.find_data", lambda *args: pytest.fail("it read the data before"))
    for command, args, status, cure in (
        (main, [*SHORT, "--out", "R"], 1, "R {what}; give another --out"),
        (evaluate, ["run", "--out", "R"], 2, "--out R {what}; give another folder"),
        (reproduce, ["overhead", "--out", "R"], 1, "R {what}; give another --out"),
    ):
        assert command(args) == status
        out, err = capsys.readouterr()
        assert (out, err.partition(": ")[2]) == ("", cure.format(what=what) + "\n")
    assert (sorted(path.name for path in tmp_path.iterdir()), Path("own").read_text("utf-8")) == before


def test_a_folder_below_a_file_or_a_link_to_nothing_is_not_made(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("gone")
    for name, what in (("file", "Not a directory"), ("link", "is a link to gone, which is not there")):
        with pytest.raises(NotADirectoryError, match=what) as error:
            make_folder(tmp_path / name / "a" / "b")
        assert error.value.filename == str(tmp_path / name)
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert no_folder(tmp_path / "a" / "b") is None


# -- rights -------------------------------------------------------------------------------------------------------


def photos(folder):
    for part in ("train", "test"):
        for k, name in enumerate(("ant", "bee")):
            (folder / part / name).mkdir(parents=True)
            for i in range(3):
                Image.fromarray(np.full((32, 32, 3), 40 * k + i, np.uint8)).save(folder / part / name / f"{i}.png")
    return folder


def arrays(folder):
    folder.mkdir()
    images, labels = np.arange(8 * 32 * 32, dtype=np.uint8).reshape(8, 32, 32), np.arange(8) % 2
    np.savez(folder / "a.npz", images=images, labels=labels)
    return folder


DATA = {  # what makes it, and what --data-dir names in the folder
    "mnist": (lambda folder: shutil.copytree(SAMPLE, folder / "mnist").parent, "."),
    "folder": (photos, "."),
    "imagenet": (photos, "."),
    "arrays": (arrays, "a.npz"),
}
CLOSED = {
    "itself": lambda data: data,
    "what is above it": lambda data: data.parent,
    "what is in it": lambda data: min(data.iterdir(), key=lambda path: path.name != "train"),
}


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize("task", DATA)
def test_data_that_may_not_be_read_is_named_and_not_the_folder_of_the_run(place, task, closed):
    make, name = DATA[task]
    (place / "above").mkdir()
    data = make(place / "above" / "data")
    close(CLOSED[closed](data))
    given = [arg.replace("mnist", task) for arg in SHORT if arg != "--sample"]
    given += ["--data-dir", f"above/data/{name}" if name != "." else "above/data", "--out", "R"]
    status, out, err = limited(place, "minidl.train", *given, rights=False)
    assert (status, out, err.count("\n")) == (4, "", 1), err
    assert err.startswith("minidl.train: above")
    assert "(Permission denied); check " in err
    assert not (place / "R").exists()


def test_a_run_that_may_not_be_read_is_named(place):
    (place / "above").mkdir()
    (place / "above" / "run").mkdir()
    close(place / "above")
    status, out, err = limited(place, "minidl.evaluate", "above/run", rights=False)
    assert (status, out) == (1, "")
    assert err == (
        "minidl.evaluate: above/run: cannot be looked into (Permission denied); check the path and its rights\n"
    )


@pytest.mark.parametrize("umask", ["777", "277", "377"])
@pytest.mark.parametrize("out", ["R", "a/b/R", "there"])
def test_what_the_umask_closes_to_its_maker_is_not_left_behind(place, umask, out):
    (place / "there").mkdir()
    command = ["minidl.train", *SHORT, "--out", out]
    status, said, err = limited(place, *command, before=f"umask {umask}", rights=False)
    assert (status, said, err.count("\n")) == (1, "", 1), err
    assert "closed even to its owner, by the umask of this shell; run: umask 022, then this once more" in err
    assert sorted(place.rglob("*")) == [place / "there"]
    assert limited(place, *command, before="umask 022", rights=False)[0] == 0


def test_what_another_process_made_and_closed_is_not_removed(tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "access", lambda *args: False)
    make_folder(tmp_path / "theirs")
    os.close(open_own(tmp_path / "file", os.O_RDWR))
    with pytest.raises(UmaskError, match="umask 022"):
        make_folder(tmp_path / "theirs" / "a" / "b")
    with pytest.raises(UmaskError, match="umask 022"):
        open_own(tmp_path / "theirs" / "c", os.O_RDWR)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "theirs"]


def test_whether_there_is_a_folder_is_not_guessed_where_it_cannot_be_known(tmp_path, monkeypatch):
    assert files.is_kind(stat.S_ISDIR, tmp_path)
    assert not files.is_kind(stat.S_ISREG, tmp_path)
    assert not files.is_kind(stat.S_ISDIR, tmp_path / "none")
    assert not files.is_kind(stat.S_ISDIR, "a\0b")

    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(PermissionError):
        files.is_kind(stat.S_ISDIR, tmp_path)


def test_what_is_written_whole_goes_where_a_link_leads(tmp_path):
    from minidl.outputs import write_output

    (tmp_path / "link.json").symlink_to("target.json")
    write_output(tmp_path / "link.json", "[]")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "target.json").read_text("utf-8") == "[]"
    write_atomic(tmp_path / "a", b"1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "link.json", "target.json"]
