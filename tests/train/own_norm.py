"""A folder with a norm of one's own and photographs to train it on: what the tests of mistakes in it share."""

import sys

import pytest
from photographs import photographs
from tiny_run import make_tiny

from minidl.models import MODELS
from minidl.train.__main__ import main

NORM = """import numpy as np

from minidl.norm.base import Norm


class Scale(Norm):
    def __init__(self, num_features, dtype="float32"):
        super().__init__(num_features, 1e-5, dtype)

    def small(self, m, v, values):
        weight, bias = self._affine()
        s = weight + 0 * v
        return s, s * m.value() + bias, m.value()

    def small_backward(self, ds, du, training, m):
        self.grads["weight"] += (ds + du * m).sum(axis=0)
        self.grads["bias"] += du.sum(axis=0)
        return self.params["weight"] * du, 0 * du
"""
RUN = ["tiny", "folder", "--batch-size", "4", "--threads", "1", "--quiet", "--data-dir", "photos"]


@pytest.fixture(name="folder", autouse=True)
def folder_of_a_norm(tmp_path, monkeypatch):
    """A folder with photographs of two classes and a norm that works; its cache and its modules are the test's own."""
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "cache"))
    monkeypatch.setitem(MODELS, "tiny", make_tiny)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a file that is changed within a second is read anew
    photographs(tmp_path / "photos")
    (tmp_path / "my_scale.py").write_text(NORM)
    yield tmp_path
    forget()


def forget():
    """Let the next command import the file anew, as another process would."""
    sys.modules.pop("my_scale", None)


def rewrite(folder, old, new):
    text = (folder / "my_scale.py").read_text("utf-8")
    assert old in text
    (folder / "my_scale.py").write_text(text.replace(old, new))
    forget()


def said(capsys):
    """Return what a command said on stderr, which is one line."""
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def train(*arguments, norm="my_scale:Scale", out="R"):
    return main([*RUN, "--norm", norm, "--out", out, *(arguments or ("--updates", "2"))])
