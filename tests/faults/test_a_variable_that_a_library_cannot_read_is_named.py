"""Promise 22: a library that cannot be imported, as it cannot read a variable of the environment, is one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import minidl
from minidl.command_line import complain, exit_status

TINY = ["lenet", "mnist", "--sample", "--norm", "none", "--batch-size", "8", "--updates", "2", "--eval-every", "2"]

LIBRARIES = ("NPY_", "NUMPY_", "SOURCE_", "NUMBA_CPU_")  # whose variables are set here


def command(folder, *arguments, **variables):
    """Return status and stderr of a command with these variables, without those of a library that are set here."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(LIBRARIES)}
    ours["PYTHONPATH"] = str(Path(minidl.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env={**ours, **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stderr


def test_numba_that_compiles_with_a_library_that_fails_is_refused_and_auto_takes_numpy(tmp_path, monkeypatch):
    pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")
    pytest.importorskip("scipy", reason="Numba imports SciPy, which reads the variable: pip install 'minidl[test]'")
    why = (
        "numba cannot be imported (invalid literal for int() with base 10: 'soon'); "
        "unset SOURCE_DATE_EPOCH, which it cannot read"
    )
    run = ["minidl.train", *TINY, "--quiet", "--out", "R"]
    given = {"SOURCE_DATE_EPOCH": "soon"}
    refused = f"minidl.train: backend numba cannot be used: {why}\n"
    assert command(tmp_path, *run, "--backend", "numba", **given) == (1, refused)
    assert not (tmp_path / "R").exists()
    status, err = command(tmp_path, *run, "--backend", "auto", CUDA_VISIBLE_DEVICES="", **given)
    assert status == 0
    assert err.startswith("minidl: backend auto: numpy, since ")
    assert err.endswith(f"{why}\n")
    assert err.count("\n") == 1


NO_PROCESSORS = [
    ("NUMBA_CPU_NAME", "warp9", "NUMBA_CPU_NAME is 'warp9', no processor of this kind that LLVM knows"),
    ("NUMBA_CPU_NAME", "help", "NUMBA_CPU_NAME is 'help', no processor of this kind that LLVM knows"),
    ("NUMBA_CPU_NAME", "x" * 999, f"NUMBA_CPU_NAME is '{'x' * 60}', no processor of this kind that LLVM knows"),
    ("NUMBA_CPU_FEATURES", "warp", "NUMBA_CPU_FEATURES has 'warp', which begins with neither + nor -"),
    ("NUMBA_CPU_FEATURES", ",+warp9", "NUMBA_CPU_FEATURES has '+warp9', which LLVM does not know"),
    ("NUMBA_CPU_FEATURES", "-warp9,+warp8", "NUMBA_CPU_FEATURES has '-warp9', which LLVM does not know"),
    ("NUMBA_CPU_FEATURES", "+help", "NUMBA_CPU_FEATURES has '+help', which LLVM does not know"),
]


@pytest.mark.parametrize(("name", "value", "why"), NO_PROCESSORS, ids=[each[1][:9] for each in NO_PROCESSORS])
def test_a_processor_that_llvm_does_not_know_is_one_line_and_none_of_llvms(tmp_path, name, value, why):
    pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install 'minidl[fast]'")
    run = ["minidl.train", *TINY, "--quiet", "--out", "R"]
    why = f"numba does not compile, since {why}; correct it, or unset it"
    refused = f"minidl.train: backend numba cannot be used: {why}\n"
    assert command(tmp_path, *run, "--backend", "numba", **{name: value}) == (1, refused)
    assert not (tmp_path / "R").exists()
    status, err = command(tmp_path, *run, "--backend", "auto", CUDA_VISIBLE_DEVICES="", **{name: value})
    assert status == 0
    assert err.startswith("minidl: backend auto: numpy, since ")
    assert err.endswith(f"{why}\n")
    assert err.count("\n") == 1


def test_what_this_processor_lacks_is_refused_and_what_it_has_is_taken(monkeypatch):
    binding = pytest.importorskip("llvmlite.binding", reason="Numba's compiler: pip install 'minidl[fast]'")
    from minidl import processor

    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: {"plain": True, "wide": False})
    monkeypatch.setattr(processor, "_is_known", lambda name, features: pytest.fail("it asks for what is known"))
    assert processor.why_not_for(None, "+plain,-wide,-plain") is None
    assert processor.why_not_for(None, "+plain,+wide") == (
        "NUMBA_CPU_FEATURES has '+wide', which this processor lacks; correct it, or unset it"
    )


@pytest.mark.parametrize(("name", "features"), [(None, None), ("", ""), ("generic", ""), ("here", "here")])
def test_a_processor_that_llvm_knows_is_taken(name, features):
    binding = pytest.importorskip("llvmlite.binding", reason="Numba's compiler: pip install 'minidl[fast]'")
    from minidl.processor import why_not_for

    if name == "here":
        name = binding.get_host_cpu_name()
        features = ",".join(f"{'-+'[has]}{each}" for each, has in binding.get_host_cpu_features().items())
    assert why_not_for(name, features) is None


@pytest.mark.parametrize("features", [None, "", ","])
def test_llvm_is_not_asked_where_the_variables_say_nothing(monkeypatch, features):
    pytest.importorskip("numba", reason="LLVM comes with Numba")
    from minidl import processor

    monkeypatch.setattr(processor, "_features_here", lambda: pytest.fail("it asks"))
    assert processor.why_not_for(None, features) is None


def test_where_llvm_cannot_be_asked_the_variables_are_taken(monkeypatch):
    pytest.importorskip("llvmlite.binding", reason="Numba's compiler: pip install 'minidl[fast]'")
    from minidl.processor import _is_known, why_not_for

    for executable in ("", "/no such/python"):
        _is_known.cache_clear()
        monkeypatch.setattr(sys, "executable", executable)
        assert why_not_for("warp9", None) is None
    _is_known.cache_clear()


@pytest.mark.parametrize("name", ["minidl", "minidl.train", "minidl.check"])
def test_numpy_that_cannot_read_a_variable_is_one_line_of_every_command(tmp_path, name):
    status, err = command(tmp_path, name, "--help", NUMPY_MADVISE_HUGEPAGE="often")
    why = "invalid literal for int() with base 10: 'often'"
    assert (status, err) == (1, f"minidl: NumPy cannot be imported ({why}); unset NUMPY_MADVISE_HUGEPAGE\n")


def test_of_the_forty_lines_of_numpy_the_cause_alone_is_said(tmp_path):
    status, err = command(tmp_path, "minidl", NPY_ENABLE_CPU_FEATURES="AVX2", NPY_DISABLE_CPU_FEATURES="AVX2")
    if status == 0:
        pytest.skip("this NumPy has no features of the processor to choose")
    assert (status, err.count("\n")) == (1, 1)
    assert err.endswith("; unset NPY_DISABLE_CPU_FEATURES and NPY_ENABLE_CPU_FEATURES\n")


@pytest.mark.parametrize(
    ("library", "name", "value", "why"),
    [
        ("numba", "NUMBA_OPT", "9", "Environment variable 'NUMBA_OPT' is defined but its associated value '9' could"),
        ("PIL", "PILLOW_BLOCK_SIZE", "1k", "PILLOW_BLOCK_SIZE: block_size should be multiple of 4096"),
    ],
)
def test_a_variable_that_a_library_warns_of_is_one_line_without_a_traceback(tmp_path, library, name, value, why):
    pytest.importorskip(library, reason="it reads the variable: pip install 'minidl[train,fast]'")
    backend = "numba" if library == "numba" else "numpy"
    status, err = command(
        tmp_path, "minidl.train", *TINY, "--quiet", "--out", "R", "--backend", backend, **{name: value}
    )
    lines = [line for line in err.splitlines() if "compiling for this processor" not in line]
    assert (status, len(lines)) == (0, 1), err
    assert lines[0].startswith(f"minidl: {why}")
    assert lines[0].endswith(f"; unset {name}, or correct it")


def test_a_warning_of_code_of_ones_own_is_one_line_with_its_place(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import warnings\nimport minidl\n\n\nclass Net(minidl.Sequential):\n"
        "    def __init__(self, num_classes, in_channels, norm, rng, dtype):\n"
        "        warnings.warn('two\\nlines')\n"
        "        super().__init__(minidl.MaxPool2d(8), minidl.Flatten(),\n"
        "                         minidl.Linear(in_channels * 16, num_classes, rng=rng, dtype=dtype))\n"
    )
    words = ["minidl.train", "mine:Net", *TINY[1:], "--quiet", "--out", "R", "--backend", "numpy"]
    status, err = command(tmp_path, *words)
    place = f"minidl: {tmp_path / 'mine.py'}, line 7: two (UserWarning)"
    assert (status, {*err.splitlines()}) == (0, {place})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import os\nperiod = int(os.environ['A_PERIOD'])\n",
            "askew cannot be imported (ValueError: invalid literal for int() with base 10: 'x'); "
            "unset A_PERIOD, which it cannot read",
        ),
        ("raise RuntimeError('no\\nroom')\n", "askew cannot be imported (RuntimeError: no); install it anew"),
        (
            "from json import no_such_name\n",
            "askew cannot be imported (ImportError: cannot import name 'no_such_name' from 'json'",
        ),
    ],
    ids=["variable", "error", "another version"],
)
def test_any_library_that_fails_while_it_is_imported_is_one_line(tmp_path, monkeypatch, capsys, source, message):
    package = tmp_path / "site-packages"
    package.mkdir()
    (package / "askew.py").write_text(source)
    monkeypatch.syspath_prepend(package)
    monkeypatch.setenv("A_PERIOD", "x")

    def run():
        import askew  # noqa: F401

    assert exit_status(lambda status, line: complain("minidl", status, line), run, "", "", "") == 1
    err = capsys.readouterr().err
    assert err.startswith(f"minidl: {message}")
    assert err.count("\n") == 1


def test_a_mistake_of_minidl_is_not_taken_for_one_of_a_library():
    def run():
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        exit_status(lambda status, line: status, run, "", "", "")
