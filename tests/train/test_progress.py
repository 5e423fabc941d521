"""The progress bar: on a terminal alone, never when quiet."""

import io

import pytest
from tiny_run import tiny_config, tiny_task

from minidl.train import Trainer


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_a_bar_shows_loss_error_speed_and_time_left(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    Trainer(tiny_config(), task=tiny_task()).run()
    bar = [drawn for drawn in terminal.getvalue().split("\r") if "img/s" in drawn][-1]
    assert "/56.0 [" in bar  # images in all
    assert "<" in bar  # elapsed<left
    assert "loss " in bar
    assert "error " in bar
    assert "test error" in capsys.readouterr().out


@pytest.mark.parametrize(("stream", "quiet"), [(Terminal, True), (io.StringIO, False)])
def test_there_is_no_bar_when_quiet_or_off_a_terminal(monkeypatch, capsys, stream, quiet):
    screen = stream()
    monkeypatch.setattr("sys.stderr", screen)
    Trainer(tiny_config(), task=tiny_task(), quiet=quiet).run()
    assert screen.getvalue() == ""
    assert (capsys.readouterr().out == "") == quiet
