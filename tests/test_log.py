"""What minidl says goes through logging: an application routes it, and where nobody does it is printed."""

import io
import logging
from contextlib import contextmanager

import pytest

from minidl import backend, log


@contextmanager
def bare():
    """No handler anywhere, as in a fresh interpreter."""
    root = logging.getLogger()
    level = root.level
    with pytest.MonkeyPatch.context() as patch:
        root.setLevel(logging.WARNING)  # Python's own; pytest asks for more
        for logger in (logging.getLogger(), logging.getLogger("minidl")):
            patch.setattr(logger, "handlers", [])
        logging.getLogger("minidl").setLevel(logging.NOTSET)
        try:
            yield
        finally:
            root.setLevel(level)
            logging.getLogger("minidl").setLevel(logging.INFO)  # that of `plainly`, around every test


def test_where_nobody_set_up_logging_lines_are_printed(capsys):
    with bare():
        log.inform("minidl.train", "epoch 1: 3 %d")
        log.warn("minidl.train", "a warning")
    assert capsys.readouterr() == ("epoch 1: 3 %d\n", "minidl.train: a warning\n")


def test_an_application_routes_what_is_said_and_nothing_is_printed_beside(capsys):
    target = io.StringIO()
    handler = logging.StreamHandler(target)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    with bare():
        logger = logging.getLogger("minidl")
        logger.addHandler(handler)
        log.inform("minidl.train", "not asked for: the level is that of warnings")
        log.warn("minidl.train", "a warning")
        logger.setLevel(logging.INFO)
        log.inform("minidl.train", "50 % done")
    assert target.getvalue() == "minidl.train WARNING a warning\nminidl.train INFO 50 % done\n"
    assert capsys.readouterr() == ("", "")


def test_a_command_shows_it_plainly_whatever_is_nested_and_leaves_nothing_behind(capsys):
    @log.plainly()
    def command():
        with log.plainly():
            log.inform("minidl.train", "once")
            log.warn("minidl", "to standard error")

    with bare():
        command()
        command()
        logger = logging.getLogger("minidl")
        assert (logger.handlers, logger.level) == ([], logging.NOTSET)
    assert capsys.readouterr() == ("once\nonce\n", "minidl: to standard error\n" * 2)


def test_the_choice_of_a_backend_is_a_warning_of_the_library(monkeypatch, caplog):
    monkeypatch.setattr(backend, "has_gpu", lambda: True)
    monkeypatch.setattr(backend, "why_no_cupy", lambda: "no GPU")
    monkeypatch.setattr(backend, "why_no_numba", lambda: "no Numba")
    assert backend.resolve("auto") == "numpy"
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("minidl", "WARNING")
    assert record.message == "backend auto: numpy, since no GPU; and no Numba"
