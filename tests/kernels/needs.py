"""What the tests here need beside Python; `MINIDL_KERNEL_TESTS=required` lets them fail instead of skip."""

import importlib.util
import os
import shutil

import pytest


def _need(present: bool, what: str) -> pytest.MarkDecorator:
    required = os.environ.get("MINIDL_KERNEL_TESTS") == "required"
    return pytest.mark.skipif(not present and not required, reason=f"{what} is not installed")


GXX = _need(shutil.which("g++") is not None, "g++")
NVRTC = _need(
    all(importlib.util.find_spec(name) for name in ("cuda", "cuda.bindings", "cuda.pathfinder")),
    "cuda-bindings with nvidia-cuda-nvrtc (pip install 'minidl[kernels]')",
)
