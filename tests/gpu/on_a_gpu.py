"""The mark of tests that need a GPU: skipped, with the reason, where CuPy cannot be used."""

import pytest

from minidl.backend import why_no_cupy

reason = why_no_cupy()
ON_A_GPU = [pytest.mark.gpu, pytest.mark.skipif(reason is not None, reason=str(reason))]
