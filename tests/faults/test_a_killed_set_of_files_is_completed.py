"""Promise 23: a kill while files that belong together are replaced leaves those of one set, to be completed."""

import errno
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import minidl
from minidl import half_written, writing
from minidl.command_line import complain, exit_status
from minidl.writing import UnfinishedError, complete, write_together

OLD = {"a.json": b"old a", "b.csv": b"old b", "c.png": b"old c"}
NEW = {"a.json": b"new a", "b.csv": b"new b", "c.png": None, "d.md": b"new d"}

# Forks writers of NEW over OLD; the k-th is killed before its k-th call that changes a folder. What each left is kept.
KILLER = """
import os, pathlib, signal, sys
from minidl.writing import write_together
place, old, new, links = pathlib.Path(sys.argv[1]), eval(sys.argv[2]), eval(sys.argv[3]), eval(sys.argv[4])

def fatal(call, left):
    def instead(*args, **keywords):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **keywords)
    return instead

def no_link(*args, **keywords):
    raise OSError(95, "Operation not supported")

os.fsync = lambda descriptor: None  # whether the machine stops is another matter
for k in range(1000):
    folder = place / str(k)
    folder.mkdir()
    write_together({folder / name: data for name, data in old.items()})
    if (child := os.fork()) == 0:
        left = iter(range(k))
        for name in ("open", "replace", "link", "unlink"):
            setattr(os, name, no_link if name == "link" and not links else fatal(getattr(os, name), left))
        pathlib.Path.open = fatal(pathlib.Path.open, left)
        write_together({folder / name: data for name, data in new.items()})
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != -signal.SIGKILL:
        sys.exit(status)
"""


def shown(folder):
    """Return what a folder holds by name, without hidden files."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def hidden(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.fixture(scope="module", params=[True, False], ids=["links", "no links"])
def killed(request, tmp_path_factory):
    """Folders of writers that were killed before each of their steps."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    place = tmp_path_factory.mktemp("killed")
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1])}
    code = [sys.executable, "-c", KILLER, str(place), repr(OLD), repr(NEW), repr(request.param)]
    subprocess.run(code, env=env, check=True, timeout=300)
    return sorted(place.iterdir(), key=lambda path: int(path.name))


WHOLE = {name: data for name, data in NEW.items() if data is not None}


def test_no_kill_leaves_files_of_two_sets_and_each_is_completed(killed):
    partly = completed = 0
    for folder in killed:
        there = shown(folder)
        record = there.pop("a.json.unfinished", None)
        assert there.items() <= OLD.items() or there.items() <= WHOLE.items(), folder.name
        if there not in (OLD, WHOLE):
            partly += 1
            assert record is not None
            assert "the same command completes it" in json.loads(record)["note"]
        complete(folder)
        assert shown(folder) == (OLD if record is None and there == OLD else WHOLE)
        completed += record is not None
        write_together({folder / name: OLD.get(name) for name in NEW})
        assert shown(folder) == OLD
        assert hidden(folder) == []
    assert min(partly, completed - partly) >= 3


def crash_within(monkeypatch, folder, renames):
    """Leave what a writer leaves that is killed before a rename, without ending this process."""

    class Killed(BaseException):
        pass

    calls, replace = iter(range(renames)), os.replace

    def sometimes(source, target):
        if next(calls, None) is None:
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", sometimes)
        patch.setattr(writing._Set, "back", lambda self: None)  # a process that is gone undoes nothing
        with pytest.raises(Killed):
            write_together({folder / name: data for name, data in NEW.items()})


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A folder whose writer was killed when one new file had its name."""
    write_together({tmp_path / name: data for name, data in OLD.items()})
    crash_within(monkeypatch, tmp_path, 5)
    assert set(shown(tmp_path)) == {"a.json", "a.json.unfinished"}
    return tmp_path


def test_a_kill_of_what_completes_is_completed_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # there are thousands
    renames = 4 + 3  # aside, and to their names
    for first in range(renames):
        for second in range(renames):
            folder = tmp_path / f"{first}-{second}"
            folder.mkdir()
            write_together({folder / name: data for name, data in OLD.items()})
            crash_within(monkeypatch, folder, first)
            calls, replace = iter(range(second)), os.replace

            def sometimes(source, target, calls=calls, replace=replace):
                if next(calls, None) is None:
                    raise OSError(errno.EIO, "Input/output error")
                replace(source, target)

            with monkeypatch.context() as patch:
                patch.setattr(os, "replace", sometimes)
                with suppress(OSError):
                    complete(folder)
            there = shown(folder)
            there.pop("a.json.unfinished", None)
            assert there.items() <= OLD.items() or there.items() <= WHOLE.items(), folder.name
            complete(folder)
            assert shown(folder) == WHOLE


@pytest.mark.parametrize("unread", [False, True], ids=["renamed", "renamed or opened"])
def test_where_nothing_can_be_renamed_any_more_the_next_completes_it(tmp_path, monkeypatch, unread):
    replace, opened = os.replace, os.open

    def refuse(path, *how, **options):
        if os.fspath(path).endswith(".unfinished"):
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(path, *how, **options)

    for failing in range(1, 7):
        write_together({tmp_path / name: OLD.get(name) for name in NEW})
        calls = iter(range(failing))

        def until(source, target, calls=calls):
            if next(calls, None) is None:
                if unread:
                    monkeypatch.setattr(os, "open", refuse)
                raise OSError(errno.EIO, "Input/output error")
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", until)
            with pytest.raises(OSError, match="Input/output error"):
                write_together({tmp_path / name: data for name, data in NEW.items()})
        monkeypatch.setattr(os, "open", opened)
        there = shown(tmp_path)
        assert there.pop("a.json.unfinished")
        assert there.items() <= OLD.items() or there.items() <= WHOLE.items()
        complete(tmp_path)
        assert shown(tmp_path) == WHOLE
        assert hidden(tmp_path) == []


def test_a_file_that_has_its_name_and_cannot_be_read_is_not_called_gone(stopped, monkeypatch):
    opened = os.open

    def refuse(path, *how, **options):
        if os.fspath(path) == str(stopped / "a.json"):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return opened(path, *how, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(OSError, match=r"Input/output error: .*a\.json'$"):
            complete(stopped)
    complete(stopped)
    assert shown(stopped) == WHOLE


def test_a_part_that_is_gone_is_named_and_nothing_is_mixed(stopped):
    (gone,) = [path for path in stopped.iterdir() if path.name.startswith(".b.csv.") and ".old" not in path.name]
    gone.unlink()
    before = shown(stopped)
    for write in (lambda: complete(stopped), lambda: write_together({stopped / "a.json": b"", stopped / "b.csv": b""})):
        with pytest.raises(UnfinishedError) as error:
            write()
        assert str(error.value) == (
            f"{stopped} has files that were being replaced when the process was killed, and {gone.name}, a part of the "
            "new ones, is gone; remove a.json.unfinished and the files that it names, then run this again"
        )
    assert shown(stopped) == before


def test_another_process_that_replaces_the_same_files_is_waited_for_and_named(stopped, monkeypatch, capsys):
    monkeypatch.setattr(writing, "may_live", lambda token, path: True)
    monkeypatch.setattr(writing, "_PATIENCE", 0)
    before = shown(stopped)
    write_together({stopped / "e": b"1", stopped / "f": b"2"})  # files of another set
    complete(stopped)

    def write():
        write_together({stopped / name: data for name, data in NEW.items()})

    words = {"files": "", "memory": "", "interrupted": ""}
    assert exit_status(lambda status, line: complain("minidl.evaluate", status, line), write, **words) == 1
    assert capsys.readouterr().err == (
        f"minidl.evaluate: {stopped}/a.json.unfinished: another process replaces these files; run this again when it "
        "is done, or remove that file if it no longer runs\n"
    )
    assert shown(stopped) == before | {"e": b"1", "f": b"2"}


def test_the_other_process_ends_and_the_files_are_written_then(stopped, monkeypatch):
    looks = iter([True, True])
    alive = half_written.may_live
    monkeypatch.setattr(writing, "may_live", lambda *given: next(looks, False) or alive(*given))
    write_together({stopped / name: data for name, data in OLD.items()})
    assert shown(stopped) == OLD | {"d.md": b"new d"}


RECORDS = {
    "text": b"my own notes",
    "another kind of JSON": b"[1]",
    "a path": b'{"token": "%s", "files": {"../x": null}}' % (b"0" * 24),
    "a hidden file": b'{"token": "%s", "files": {".lock": null}}' % (b"0" * 24),
    "no digest": b'{"token": "%s", "files": {"a.json": 1}}' % (b"0" * 24),
    "a token with a path": b'{"token": "../../../../../../../../", "files": {"a.json": null}}',
}


@pytest.mark.parametrize("what", RECORDS)
def test_what_is_no_record_stays_and_is_named(tmp_path, what):
    write_together({tmp_path / name: data for name, data in OLD.items()})
    (tmp_path / "a.json.unfinished").write_bytes(RECORDS[what])
    complete(tmp_path)
    with pytest.raises(UnfinishedError, match=r"a\.json\.unfinished is in the way.+move it away$"):
        write_together({tmp_path / name: data for name, data in NEW.items()})
    assert shown(tmp_path) == OLD | {"a.json.unfinished": RECORDS[what]}
    assert hidden(tmp_path) == []


def test_a_record_that_is_a_link_or_a_pipe_is_not_followed(stopped, tmp_path):
    record = stopped / "a.json.unfinished"
    record.rename(tmp_path / "elsewhere")
    record.symlink_to("elsewhere")
    before = shown(stopped)
    complete(stopped)
    assert shown(stopped) == before
    record.unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo(record)
        complete(stopped)
        assert record.is_fifo()


def test_evaluate_completes_what_was_killed_before_it_looks_at_the_folder(tmp_path, monkeypatch, capsys):
    from minidl.evaluate.__main__ import FILES
    from minidl.evaluate.__main__ import main as evaluate
    from minidl.train.__main__ import main as train

    monkeypatch.chdir(tmp_path)
    run = ["lenet", "mnist", "--sample", "--norm", "none", "--batch-size", "8", "--threads", "1", "--backend", "numpy"]
    assert train([*run, "--updates", "2", "--eval-every", "2", "--quiet", "--out", "R"]) == 0
    assert evaluate(["R", "--out", "E", "--quiet"]) == 0
    whole = shown(Path("E"))
    calls = iter(range(1))
    replace = os.replace

    class Killed(BaseException):
        pass

    def sometimes(source, target):
        if next(calls, None) is None:
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", sometimes)
        patch.setattr(writing._Set, "back", lambda self: None)
        with pytest.raises(Killed):
            write_together({Path("E", name): b" " + whole[name] for name in FILES})
    assert not Path("E", "evaluation.json").exists()
    assert Path("E", "classes.csv").exists()
    capsys.readouterr()
    monkeypatch.setattr("minidl.evaluate.data.find_data", lambda *args: pytest.fail("it reads the data"))
    with pytest.raises(pytest.fail.Exception, match="it reads the data"):
        evaluate(["R", "--out", "E"])
    assert shown(Path("E")) == {name: b" " + whole[name] for name in FILES}
    assert hidden(Path("E")) == []


def test_reproduce_completes_what_was_killed_before_it_trains(stopped, monkeypatch, capsys):
    from minidl.reproduce.__main__ import main as reproduce

    monkeypatch.setattr("minidl.reproduce.command.write_overhead", lambda *args: ("", []))
    assert reproduce(["overhead", "--out", str(stopped)]) == 0
    assert shown(stopped) == WHOLE
    assert hidden(stopped) == []
