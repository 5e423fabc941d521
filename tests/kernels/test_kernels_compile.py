"""NVRTC compiles every kernel for real GPUs, without a driver, and none of them needs memory beside its registers."""

import re

import pytest

from kernels import needs
from kernels.emulate import REAL
from kernels.kernel_cases import FOLDER, SOURCES

pytestmark = needs.NVRTC

WANTED = (80, 90, 100)  # A100, H100 and H200, B200
ALSO = (75, 120)  # T4, RTX 50: where this NVRTC knows them


def compile_cubin(source: str, architecture: int, real: str = "float", index: str = "int") -> tuple[bytes, str]:
    """Return the machine code, and what the assembler says of it; SyntaxError where the source does not compile."""
    from cuda.bindings import nvrtc

    def call(function, *args):
        status, *rest = function(*args)
        assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, f"{function.__name__}: {status.name}"
        return rest[0] if rest else None

    as_cupy = ("-std=c++17", f"-DREAL={real}", f"-DINDEX={index}", "-ftz=true", f"-arch=sm_{architecture}")
    options = (*as_cupy, "--ptxas-options=-v")
    program = call(nvrtc.nvrtcCreateProgram, source.encode(), b"kernel.cu", 0, [], [])
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    log = bytearray(call(nvrtc.nvrtcGetProgramLogSize, program))
    call(nvrtc.nvrtcGetProgramLog, program, log)
    text = bytes(log).decode().strip("\0 \n")
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise SyntaxError(text)
    code = bytearray(call(nvrtc.nvrtcGetCUBINSize, program))
    call(nvrtc.nvrtcGetCUBIN, program, code)
    call(nvrtc.nvrtcDestroyProgram, program)
    return bytes(code), text


def check(source: str, architecture: int, real: str = "float", index: str = "int") -> None:
    """Compile; every kernel must be there, with no warning, no stack and nothing spilled."""
    code, log = compile_cubin(source, architecture, real, index)
    assert code.startswith(b"\x7fELF")
    kernels = re.findall(r"__global__ void (\w+)", source)
    assert kernels
    assert sorted(re.findall(r"Compiling entry function '(\w+)'", log)) == sorted(kernels), log
    stacks = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert stacks == [("0", "0", "0")] * len(kernels), log
    assert "warning" not in log, log


def architectures() -> list[int]:
    """Return those of WANTED and ALSO that this NVRTC compiles for."""
    from cuda.bindings import nvrtc

    _, known = nvrtc.nvrtcGetSupportedArchs()
    return [architecture for architecture in sorted(WANTED + ALSO) if architecture in known]


def test_this_nvrtc_compiles_for_every_gpu_that_is_wanted():
    assert set(WANTED) <= set(architectures())


@pytest.mark.parametrize("real", REAL.values())
@pytest.mark.parametrize("source", SOURCES)
def test_a_source_compiles_for_every_gpu_without_stack_or_spills(source, real):
    text = (FOLDER / f"{source}.cu").read_text("utf-8")
    for architecture in architectures() if real == "float" else WANTED:
        check(text, architecture, real)
    check(text, 90, real, index="long long")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("y[0] = x[0]", r'expected a ";"'),
        ("y[0] = atomic_sum(x);", "identifier"),
        ("double a[64]; for (int i = 0; i < 64; ++i) a[i] = x[i * n]; y[0] = a[int(x[n])];", "stack frame"),
        ("int unused = 0; y[0] = x[0];", "warning"),
    ],
    ids=["syntax", "name", "local memory", "warning"],
)
def test_what_nvrtc_or_the_assembler_dislikes_is_found_out(body, complaint):
    source = 'extern "C" __global__ void k(const double *__restrict__ x, double *__restrict__ y, int n) {%s}'
    with pytest.raises((SyntaxError, AssertionError), match=complaint):
        check(source % body, 90)
