"""An adapter that cannot be imported, or is none, is one line and status 2."""

import re
import sys

import pytest

from minidl.check.__main__ import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("my_ad", None)


@pytest.mark.parametrize("command", ["run", "relations"])
@pytest.mark.parametrize(
    ("text", "spec", "said"),
    [
        (
            "import numpy\ndef f(:\n",
            "my_ad:BN",
            r"importing my_ad failed: SyntaxError: .*\(my_ad.py, line 2\); mend it",
        ),
        ("x = 1\n1 / 0\n", "my_ad:BN", r"importing my_ad failed: ZeroDivisionError: .*\(my_ad.py, line 2\); mend it"),
        ("raise SystemExit(7)\n", "my_ad:BN", r"importing my_ad failed: SystemExit: 7 \(my_ad.py, line 1\); mend it"),
        ("import no_such_lib\n", "my_ad:BN", r"No module named 'no_such_lib' \(my_ad.py, line 1\); mend it"),
        ("class Adapter:\n    pass\n", "my_ad:Adaptor", "my_ad has no Adaptor; did you mean Adapter"),
        ("BN = 3\ndef make():\n    pass\n", "my_ad:BN", "BN is neither a class nor a function there; it defines make"),
        ("", "my_ad.py:BN", "must name a module as `import` does; in the folder of the file write my_ad:BN"),
        ("", "my_other:BN", r"No module named 'my_other'\); is its folder on PYTHONPATH"),
        ("from minidl import BatchNorm\nclass BN(BatchNorm):\n    pass\n", "my_ad:BN", "my_ad:BN is a layer of minidl"),
        ("from minidl import BatchNorm\nBN = BatchNorm(3)\n", "my_ad:BN", "check its backward with minidl.check.grad"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_one_line(folder, capsys, command, text, spec, said):
    (folder / "my_ad.py").write_text(text)
    assert main([command, spec, "--layer", "batch_norm"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert re.search(said, err), err


def test_only_a_module_that_is_not_found_asks_for_its_folder(folder, capsys):
    (folder / "my_ad.py").write_text("import no_such_lib\n")
    main(["run", "my_ad:BN"])
    assert "PYTHONPATH" not in capsys.readouterr().err
