"""CuPy computes what NumPy computes, in every layer, norm, loss, optimiser and network."""

import pytest
from on_a_gpu import ON_A_GPU

from minidl.parity.cases import cases
from minidl.parity.compare import compare
from minidl.parity.subjects import DTYPES

pytestmark = ON_A_GPU


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_a_gpu_computes_what_numpy_computes(case, dtype):
    records = compare(case, dtype, "cupy", seconds=0)
    wrong = [f"{r['value']}: {r['relative']:.1e} of {r['largest']:.1e}" for r in records if not r["ok"]]
    assert not wrong
