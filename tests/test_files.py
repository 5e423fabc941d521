"""What lies under a name is asked once: other processes make and remove files between two questions."""

import os

import pytest

from minidl.files import make_folder, no_folder


@pytest.fixture
def made_after_the_first_look(tmp_path, monkeypatch):
    """A name under which another process makes a folder as soon as somebody has looked for it."""
    folder, look = tmp_path / "run", os.stat

    def and_make(path, *args, **options):
        try:
            return look(path, *args, **options)
        finally:
            if path == folder:
                monkeypatch.setattr(os, "stat", look)
                folder.mkdir()

    monkeypatch.setattr(os, "stat", and_make)
    return folder


def test_a_folder_that_is_made_at_the_first_look_is_a_folder(made_after_the_first_look):
    assert no_folder(made_after_the_first_look) is None
    assert no_folder(made_after_the_first_look) is None


def test_a_file_a_pipe_and_a_link_to_nothing_are_no_folder(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.touch()
    link.symlink_to("gone")
    assert no_folder(file) == "is a file, not a folder"
    assert no_folder(link) == "is a link to gone, which is not there"
    assert no_folder(tmp_path / "nothing") is None
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        make_folder(file)
