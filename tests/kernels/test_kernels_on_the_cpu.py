"""Every kernel, executed on the CPU: its NumPy twin's values, whatever the grid, the order and the rounding."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_runs import draw
from tolerance import assert_close, sums, terms

from kernels import emulate, needs
from kernels.kernel_cases import CASES, FOLDER, SOURCES, Device, check, on_device, running
from minidl import SoftmaxCrossEntropy, to_device, to_host
from minidl.engines.cuda import images
from minidl.engines.cuda import moments as moments_cuda
from minidl.layers import conv

pytestmark = needs.GXX
EACH = pytest.mark.parametrize("name", CASES)
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
LAUNCHES = [((1,), (1,)), ((1,), (7,)), ((3,), (5,)), ((2,), (256,)), ((211,), (32,))]  # too few threads, too many


@EACH
@DTYPES
def test_a_kernel_computes_what_numpy_computes(name, dtype):
    check(name, dtype)


@EACH
@DTYPES
@pytest.mark.skipif(not emulate.can_contract(), reason="this processor has no fused multiply-add")
def test_fused_multiply_adds_change_the_last_digits_alone(name, dtype):
    check(name, dtype, Device(contract=True))


@EACH
@DTYPES
def test_the_bits_depend_neither_on_the_grid_nor_on_the_order_of_the_threads(name, dtype):
    want = on_device(name, dtype)
    for grid, block in LAUNCHES:
        for reverse in (False, True):
            got = on_device(name, dtype, Device(grid, block, reverse))
            for key in want:
                np.testing.assert_array_equal(got[key], want[key], f"{key}, grid {grid}, block {block}, {reverse=}")


@EACH
def test_long_indices_give_the_same_bits(name):
    want, got = on_device(name, "float32"), on_device(name, "float32", Device(index="long long"))
    for key in want:
        np.testing.assert_array_equal(got[key], want[key], key)


def test_every_kernel_of_every_source_is_in_the_table():
    device = Device()
    for name in CASES:
        on_device(name, "float32", device)
    texts = [(FOLDER / f"{source}.cu").read_text("utf-8") for source in SOURCES]
    assert device.launched == {name for text in texts for name in re.findall(r"__global__ void (\w+)", text)}
    assert device.sources == {*SOURCES}
    assert {path.suffix for path in FOLDER.iterdir() if path.is_file()} == {".py", ".cu"}


@pytest.mark.parametrize("source", SOURCES)
def test_a_kernel_shares_no_memory_between_threads_and_names_its_twin(source):
    text = (FOLDER / f"{source}.cu").read_text("utf-8")
    for word in ("atomic", "__shared__", "__sync", "#include", "float ", "\t"):
        assert word not in text
    said = re.search(r"// A twin of ([\w., ]+) in (minidl/[\w/]+\.py)", text)
    assert said, "no line that says // A twin of ... in minidl/..."
    names, path = said.groups()
    for name in re.split(r", | and |\.", names):
        assert re.search(rf"(def|class) {name}\b", (FOLDER.parents[2] / path).read_text("utf-8")), name


# -- the values, from other sides --------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 40),
    st.sampled_from([0.0, 1e2, 1e4, 1e6]),
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 2**32 - 1),
)
def test_moments_are_exact_however_large_the_mean(n, c, p, mean, dtype, seed):
    x = draw(seed, n, c, p, mean=mean, std=1.0).astype(dtype)
    with running(Device()):
        (m0, delta), v, _ = moments_cuda.moments(to_device(x))
        m0, delta, v = (to_host(a) for a in (m0, delta, v))
    wide = x.astype(np.longdouble)
    want = wide.mean(axis=2)
    np.testing.assert_array_equal(m0, m0.astype(dtype))
    assert np.abs(delta).max() <= np.finfo(dtype).eps * np.abs(m0).max()
    got = m0.astype(np.longdouble) + delta
    # δ sums deviations in float64, the reference x in longdouble; both are then as good as the deviations are
    off = sums(2 * p, np.ptp(x)) + sums(p, np.abs(x).max(), np.longdouble)
    assert_close(got, want, off, "m")
    exact = ((wide - want[:, :, None]) ** 2).mean(axis=2)
    assert_close(v, exact, sums(2 * p, np.ptp(x) ** 2) + 2 * np.ptp(x) * off, "v")


def test_moments_of_one_pixel_are_the_pixel_and_zero():
    x = draw(1, 5, 3, mean=1e4).astype("float32")
    with running(Device()):
        (m0, delta), v, _ = moments_cuda.moments(to_device(x))
        np.testing.assert_array_equal(to_host(m0), x)
        assert not to_host(delta).any()
        assert not to_host(v).any()


@st.composite
def windows(draw_one):
    """Return N, C, (H, W), kernel, stride, padding with at least one window."""
    kernel, stride = (draw_one(st.tuples(st.integers(1, 4), st.integers(1, 4))) for _ in range(2))
    padding = draw_one(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    least = [max(1, k - 2 * p) for k, p in zip(kernel, padding, strict=True)]
    size = tuple(low + draw_one(st.integers(0, 6)) for low in least)
    return (draw_one(st.integers(1, 4)), draw_one(st.integers(1, 3)), *size), kernel, stride, padding


@settings(max_examples=60)
@given(windows(), st.integers(0, 2**32 - 1))
def test_im2col_and_col2im_give_the_bits_of_their_twins_whatever_the_sizes(problem, seed):
    shape, *window = problem
    x = draw(seed, *shape).astype("float32")
    cols = conv.im2col(x, *window)
    other = draw(seed + 1, *cols.shape).astype("float32")
    with running(Device()):
        got_cols = to_host(images.im2col(to_device(x), *window))
        got_back = to_host(images.col2im(to_device(other), shape, *window))
    np.testing.assert_array_equal(got_cols, cols)
    np.testing.assert_array_equal(got_back, conv.col2im(other, shape, *window))


@pytest.mark.parametrize("label", [-1, 5, 2**31, -(2**40)])
def test_a_label_that_nobody_checked_makes_the_loss_nan_and_reads_no_other_memory(label):
    with running(Device()):
        loss = SoftmaxCrossEntropy()
        value = loss.forward(to_device(draw(1, 3, 5)), to_device(np.array([2, label, 4])))
        assert np.isnan(to_host(value))
        dlogits = to_host(loss.backward())
    assert np.isfinite(dlogits).all()
    assert_close(dlogits.sum(axis=1), [0, 1 / 3, 0], terms(5 + 8, 2 / 3))


def test_labels_with_gaps_in_memory_are_read_as_they_are():
    wide, logits = np.array([2, 9, 0, 9, 4, 9]), draw(1, 3, 5)
    host = SoftmaxCrossEntropy()
    want = host.forward(logits, wide[::2]), host.backward()
    with running(Device()):
        loss = SoftmaxCrossEntropy()
        value = loss.forward(to_device(logits), to_device(wide)[::2])
        size = np.abs(logits).max() + 1
        assert_close(to_host(value), want[0], terms(2 * (3 + 5 + 8), 2 * size))
        assert_close(to_host(loss.backward()), want[1], terms(2 * (5 + 8), 2 * size / 3))


# -- memory ------------------------------------------------------------------------------------------------------------

SANITIZED = """
import sys
sys.path.insert(0, {tests!r})
from kernels.kernel_cases import CASES, Device, check
flags = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
for name in CASES:
    check(name, "float32", Device(flags=flags, change=lambda code: code.replace({old!r}, {new!r})))
print("clean")
"""


def sanitized(old: str = "", new: str = "") -> subprocess.CompletedProcess[str]:
    """Run the whole table in a process that checks every read and write of memory, and every overflow."""
    ask = ("g++", "-print-file-name=libasan.so"), ("g++", "-print-file-name=libubsan.so")
    runtimes = (subprocess.check_output(command, text=True).strip() for command in ask)
    program = SANITIZED.format(tests=str(Path(__file__).parents[1]), old=old or "no such text", new=new)
    options = {"LD_PRELOAD": ":".join(runtimes), "ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **options},
        cwd=FOLDER.parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_no_kernel_reads_or_writes_outside_of_its_arrays():
    done = sanitized()
    assert done.stdout == "clean\n", done.stderr[-3000:]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("t < size", "t <= size", "heap-buffer-overflow"),
        ("a >= 0 && a < H && b >= 0 && b < W", "true", "heap-buffer-overflow"),
        ("const INDEX n = t % N,", "const INDEX n = t * 1000000007 % N,", "signed integer overflow"),
    ],
)
def test_a_wrong_index_is_found_out(old, new, what):
    assert any(old in (FOLDER / f"{source}.cu").read_text("utf-8") for source in SOURCES)
    done = sanitized(old, new)
    assert done.returncode != 0
    assert what in done.stderr, done.stderr[-3000:]
