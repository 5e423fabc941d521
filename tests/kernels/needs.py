"""What the tests here need beside Python; `MINIDL_KERNEL_TESTS=required` lets them fail instead of skip."""

import os
import shutil

import pytest


def _need(present: bool, what: str) -> pytest.MarkDecorator:
    required = os.environ.get("MINIDL_KERNEL_TESTS") == "required"
    return pytest.mark.skipif(not present and not required, reason=f"{what} is not installed")


GXX = _need(shutil.which("g++") is not None, "g++")


def _nvrtc() -> bool:
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()  # finds the library, or raises one of its own errors
    except Exception:
        return False
    return True


NVRTC = _need(_nvrtc(), "NVRTC with its bindings (pip install 'minidl[kernels]')")
