"""Promise 8: a download is whole or absent, from a server on this machine that misbehaves in the ways servers do."""

import hashlib
import io
import itertools
import os
import shutil
import socket
import sys
import tarfile
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from data_files import cifar_content, colour, is_one_line, write_all

from minidl.data import DataError, download, load_task, multitask
from minidl.data.catalog import CIFAR10, SOURCES, SVHN, Remote
from minidl.data.download import fetch

CONTENT = {f"{split}_32x32.mat": np.random.default_rng(n).bytes(300_000) for n, split in enumerate(("train", "test"))}
HTML = b"<html>Please log in to this network</html>"


class Server(ThreadingHTTPServer):
    """Answers each request with the next of ``behaviours``, and with the file once these are used up."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.behaviours, self.requests, self.events = {}, [], [], []
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def remote(self, name, content, *urls):
        self.files[f"/{name}"] = content
        return Remote(name, urls or (self.url + name,), len(content), hashlib.sha256(content).hexdigest())


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        behaviour = self.server.behaviours.pop(0) if self.server.behaviours else "ok"
        content = self.server.files.get(self.path)
        if behaviour == "503" or content is None:
            self.send_error(503 if content else 404)
            return
        if behaviour == "html":
            content = HTML
        self.send_response(200)
        if "gzip" in self.headers.get("Accept-Encoding", ""):  # as servers do that call a .gz file an encoding
            self.send_header("Content-Encoding", "gzip")
        if behaviour != "endless":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if behaviour == "truncate":
            content = content[:-1000]
        if behaviour == "stall":
            self.wfile.write(content[:1000])
            self.wfile.flush()
            if not self.server.over.wait(60):
                self.server.events.append("waited in vain")
            return
        if behaviour == "drip":
            try:
                while not self.server.over.wait(0.05):
                    self.wfile.write(b"x")
                    self.wfile.flush()
            except OSError:
                pass
            return
        if behaviour == "endless":
            try:
                for _ in range(200):
                    self.wfile.write(content)
                self.server.events.append("took it all")
            except OSError:
                pass
            return
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def _no_proxy(monkeypatch):
    """Ask no proxy for this machine, whatever the user's variables say: those in small letters go first."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture
def server(monkeypatch, _no_proxy):
    monkeypatch.setattr(download, "PAUSE", 0.01)
    server, retrieve = Server(), download._retrieve

    def hurried(*given):
        """Wait for little time where nothing will come; else as long as a machine with other work may take."""
        comes = server.behaviours[:1]
        monkeypatch.setattr(download, "TIMEOUT", (60.0, 0.5 if comes == ["stall"] else 60.0))
        monkeypatch.setattr(download, "SLOWEST", 1.5 if comes == ["drip"] else 60.0)
        retrieve(*given)

    monkeypatch.setattr(download, "_retrieve", hurried)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def svhn(server):
    return replace(SVHN, remote=tuple(server.remote(name, content) for name, content in CONTENT.items()))


def check_complete(folder):
    assert {path.name: path.read_bytes() for path in (folder / "svhn").iterdir()} == CONTENT


@pytest.mark.parametrize(
    "first", [[], ["503", "503"], ["truncate"], ["html", "html"], ["stall"], ["drip"], ["truncate", "503"]]
)
def test_a_download_that_fails_twice_is_tried_again(server, svhn, tmp_path, first):
    server.behaviours = list(first)
    fetch(svhn, tmp_path, progress=False)
    check_complete(tmp_path)
    assert len(server.requests) == 2 + len(first)
    assert server.events == []


REASONS = {
    "503": "503",
    "truncate": "no connection, or it broke off",
    "html": "its size or sha256 differs",
    "stall": "no",  # "no answer in time", or "no connection" where the timeout strikes inside the body
    "drip": "it came too slowly",
    "endless": "its size or sha256 differs",
}


@pytest.mark.parametrize("behaviour", REASONS)
def test_a_download_that_keeps_failing_says_so_in_one_line_and_leaves_no_file(server, svhn, tmp_path, behaviour):
    server.behaviours = [behaviour] * 100
    with pytest.raises(DataError) as error:
        fetch(svhn, tmp_path, progress=False)
    remote = svhn.remote[0]
    path = tmp_path / "svhn" / remote.name
    cure = ("--data-dir", "--sample runs now")
    assert is_one_line(error, REASONS[behaviour], remote.urls[0], remote.sha256, str(path), *cure)
    assert list((tmp_path / "svhn").iterdir()) == []
    assert server.events == []


def test_the_next_address_is_tried_when_one_fails(server, svhn, tmp_path):
    urls = (server.url + "not/here", server.url + "train_32x32.mat")
    first = server.remote("train_32x32.mat", CONTENT["train_32x32.mat"], *urls)
    fetch(replace(svhn, remote=(first, svhn.remote[1])), tmp_path, progress=False)
    check_complete(tmp_path)


def test_what_is_there_is_not_asked_for_again(server, svhn, tmp_path):
    for _ in range(2):
        fetch(svhn, tmp_path, progress=False)
    assert len(server.requests) == 2
    (tmp_path / "svhn" / "test_32x32.mat").write_bytes(b"cut short")
    fetch(svhn, tmp_path, progress=False)
    assert server.requests[2:] == ["/test_32x32.mat"]
    check_complete(tmp_path)


def test_two_downloads_of_the_same_set_at_once_both_succeed(svhn, tmp_path):
    errors = []

    def run():
        try:
            fetch(svhn, tmp_path, progress=False)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    check_complete(tmp_path)


@pytest.mark.parametrize(("asked", "terminal"), [*itertools.product([False, True], repeat=2)])
def test_progress_is_shown_on_stderr_only_when_asked_and_on_a_terminal(
    svhn, tmp_path, capsys, monkeypatch, asked, terminal
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    fetch(svhn, tmp_path, progress=asked)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("train_32x32.mat" in err) == (asked and terminal)
    assert (err == "") == (not (asked and terminal))


def test_a_folder_that_cannot_be_written_is_named_in_one_line(svhn, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError) as error:
        fetch(svhn, tmp_path / "file", progress=False)
    assert is_one_line(error, str(tmp_path / "file"), "cannot be written", "MINIDL_DATA", "--sample runs now")


@pytest.mark.usefixtures("_no_proxy")
def test_without_a_network_the_task_says_what_runs_now(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "PAUSE", 0)
    with socket.socket() as taken:  # so that no other process gets the port, on which nobody listens
        taken.bind(("127.0.0.1", 0))
        gone = replace(SVHN.remote[0], urls=(f"http://127.0.0.1:{taken.getsockname()[1]}/x",))
        monkeypatch.setitem(multitask.TASKS, "svhn", (replace(SVHN, remote=(gone,)),))
        with pytest.raises(DataError) as error:
            load_task("svhn", cache_dir=tmp_path, progress=False)
    assert is_one_line(error, "no connection", str(tmp_path), gone.sha256, "--sample runs now")


# --- the CIFAR archive --------------------------------------------------------------------------

RNG = np.random.default_rng(0)
TRAIN, TEST = ((colour(RNG, n), RNG.integers(0, 10, n)) for n in (6, 4))


def archive(*more):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        members = {f"cifar-10-batches-bin/data_batch_{n}.bin": cifar_content(*TRAIN) for n in range(1, 6)}
        members["cifar-10-batches-bin/test_batch.bin"] = cifar_content(*TEST)
        members |= {"cifar-10-batches-bin/readme.html": HTML, "../evil.bin": b"x", "/tmp/minidl-evil.bin": b"x"}
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in more:
            tar.addfile(info)
    return packed.getvalue()


def link(name, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def small(cifar, remote):
    """Return CIFAR-10 with as few images as the archive here has."""
    train, test = replace(cifar.train, count=5 * len(TRAIN[0])), replace(cifar.test, count=len(TEST[0]))
    return replace(cifar, remote=(remote,), train=train, test=test)


def test_of_the_archive_only_the_data_files_are_kept_and_a_second_start_asks_nothing(server, monkeypatch, tmp_path):
    content = archive(link("elsewhere/test_batch.bin", "/etc/passwd"), link("cifar-10-batches-bin", "/tmp"))
    cifar = small(CIFAR10, server.remote("cifar-10-binary.tar.gz", content))
    monkeypatch.setitem(multitask.TASKS, "cifar10", (cifar,))
    for _ in range(2):
        task = load_task("cifar10", cache_dir=tmp_path, progress=False)
        np.testing.assert_array_equal(task.train.images, np.concatenate([TRAIN[0]] * 5))
        np.testing.assert_array_equal(task.test.labels, TEST[1])
    assert len(server.requests) == 1
    kept = [path for path in (tmp_path / "downloads").rglob("*") if not path.is_dir()]
    assert sorted(path.name for path in kept) == [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    assert not any(path.is_symlink() for path in kept)


@pytest.mark.parametrize("change", ["emptied", "cut to whole records", "gone"])
def test_an_extracted_file_that_lost_something_is_fetched_anew(server, tmp_path, change):
    cifar = small(CIFAR10, server.remote("cifar-10-binary.tar.gz", archive()))
    fetch(cifar, tmp_path, progress=False)
    path = tmp_path / "cifar-10" / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(b"" if change == "emptied" else whole[: 3 * 3073])
    if change == "gone":
        path.unlink()
    fetch(cifar, tmp_path, progress=False)
    assert path.read_bytes() == whole
    assert len(server.requests) == 2


def test_what_killed_downloads_left_is_removed_and_what_others_are_writing_is_not(server, svhn, tmp_path):
    place = tmp_path / "svhn"
    for name, age in (("tmpabcdefgh", 7200), ("tmpijklmnop", 60), (".download.old", 7200), (".download.new", 60)):
        path = place / name
        place.mkdir(exist_ok=True)
        if name.startswith("."):
            path.mkdir()
            (path / "part").write_bytes(b"x")
            os.utime(path / "part", (time.time() - age,) * 2)
        else:
            path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
    fetch(svhn, tmp_path, progress=False)
    assert {path.name for path in place.iterdir()} == {*CONTENT, "tmpijklmnop", ".download.new"}


@pytest.mark.skipif(sys.platform == "win32", reason="a folder cannot be locked there: the age alone decides")
def test_a_clock_that_jumps_takes_nothing_from_a_download_under_way(server, svhn, tmp_path, monkeypatch):
    under_way, go_on = threading.Event(), threading.Event()
    retrieve, errors = download._retrieve, []

    def wait(url, remote, place, progress):
        (place / "tmp01234567").write_bytes(b"half")
        under_way.set()
        assert go_on.wait(30)
        try:
            assert (place / "tmp01234567").read_bytes() == b"half"
        except BaseException as error:
            errors.append(error)
        (place / "tmp01234567").unlink(missing_ok=True)
        retrieve(url, remote, place, progress)

    monkeypatch.setattr(download, "_retrieve", wait)
    first = threading.Thread(target=fetch, args=(svhn, tmp_path, False))
    first.start()
    assert under_way.wait(30)
    monkeypatch.setattr(download, "_retrieve", retrieve)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 7200)
    fetch(svhn, tmp_path, progress=False)
    go_on.set()
    first.join()
    assert errors == []
    check_complete(tmp_path)


def test_what_was_left_before_the_clock_was_put_back_is_removed(svhn, tmp_path, monkeypatch):
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn" / "tmp01234567").write_bytes(b"half")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 7200)
    fetch(svhn, tmp_path, progress=False)
    check_complete(tmp_path)


def test_an_archive_put_there_by_hand_is_used(server, tmp_path):
    content = archive()
    cifar = small(CIFAR10, server.remote("cifar-10-binary.tar.gz", content))
    server.behaviours = ["503"] * 100
    with pytest.raises(DataError) as error:
        fetch(cifar, tmp_path, progress=False)
    by_hand = tmp_path / "cifar-10" / "cifar-10-binary.tar.gz"
    assert is_one_line(error, f"at {by_hand},")
    by_hand.write_bytes(content)
    server.requests.clear()
    fetch(cifar, tmp_path, progress=False)
    assert server.requests == []
    assert (by_hand.parent / "test_batch.bin").read_bytes() == cifar_content(*TEST)


def test_downloaded_files_make_the_same_task_as_a_folder_of_them(server, monkeypatch, tmp_path):
    data = tmp_path / "data"
    write_all(data, packing="")
    sources = []
    for source in multitask.TASKS["multitask"]:
        if source.format == "cifar":
            shutil.copy(data / "cifar-10" / "data_batch_1.bin", tmp_path / "batch")
            for n in range(2, 6):
                shutil.copy(tmp_path / "batch", data / "cifar-10" / f"data_batch_{n}.bin")
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w:gz") as tar:
                tar.add(data / "cifar-10", "cifar-10-batches-bin")
            remote = (server.remote("cifar-10-binary.tar.gz", packed.getvalue()),)
        else:
            names = [remote.name.removesuffix(".gz") for remote in source.remote]
            remote = tuple(
                server.remote(f"{source.name}/{name}", (data / source.name / name).read_bytes()) for name in names
            )
            remote = tuple(replace(one, name=name) for one, name in zip(remote, names, strict=True))
        sources.append(replace(source, remote=remote))
    monkeypatch.setitem(multitask.TASKS, "multitask", tuple(sources))
    downloaded = load_task("multitask", cache_dir=tmp_path / "cache", progress=False)
    given = load_task("multitask", data_dir=data, cache_dir=tmp_path / "cache", progress=False)
    for split in ("train", "test"):
        np.testing.assert_array_equal(getattr(downloaded, split).images, getattr(given, split).images)
        np.testing.assert_array_equal(getattr(downloaded, split).labels, getattr(given, split).labels)


def test_the_catalog_pins_every_file_and_has_the_papers_counts():
    for source in SOURCES.values():
        for remote in source.remote:
            assert len(remote.sha256) == 64
            assert int(remote.sha256, 16)
            assert remote.size > 0
            assert all(url.startswith("http") and url.endswith(remote.name) for url in remote.urls)
    assert sum(SOURCES[s].train.count for s in ("mnist", "cifar-10", "svhn", "fashion-mnist")) == 243257
    assert sum(SOURCES[s].test.count for s in ("mnist", "cifar-10", "svhn", "fashion-mnist")) == 56032
