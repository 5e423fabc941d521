"""The processor that Numba is told to compile for: LLVM prints lines about one that it does not know, or aborts."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from functools import cache

_SAID = "for this target"  # in what LLVM says of a processor or feature that it ignores, and of the name "help"
_SHOWN = 60  # characters of a value


def why_not_for(name: str | None, features: str | None) -> str | None:
    """Return what is wrong with NUMBA_CPU_NAME or NUMBA_CPU_FEATURES, and the cure, in one line; None if nothing is.

    Parameters
    ----------
    name, features : str or None
        The values of the variables; None of one that is not set.

    Examples
    --------
    >>> why_not_for(None, "avx2")
    "NUMBA_CPU_FEATURES has 'avx2', which begins with neither + nor -; correct it, or unset it"
    """
    if name and not _is_known(name, ""):
        return (
            f"NUMBA_CPU_NAME is {name[:_SHOWN]!r}, no processor of this kind that LLVM knows; correct it, or unset it"
        )
    named = list(filter(None, (features or "").split(",")))
    if not named:  # LLVM is not asked: a thread that asks has its lock, which a child that is forked then never gets
        return None
    here, asked = _features_here(), []
    for feature in named:
        if feature[0] not in "+-":
            return _wrong(feature, "begins with neither + nor -")
        if feature[0] == "+" and here.get(feature[1:]) is False:
            return _wrong(feature, "this processor lacks")
        if feature[1:] not in here:
            asked.append(feature)
    if asked and not _is_known("", ",".join(asked)):
        unknown = next((each for each in asked if not _is_known("", each)), ",".join(asked))
        return _wrong(unknown, "LLVM does not know")
    return None


def _wrong(feature: str, why: str) -> str:
    return f"NUMBA_CPU_FEATURES has {feature[:_SHOWN]!r}, which {why}; correct it, or unset it"


def _features_here() -> dict[str, bool]:
    """Return which features this processor has, of those that LLVM can tell."""
    from llvmlite.binding import get_host_cpu_features

    try:
        return dict(get_host_cpu_features())
    except RuntimeError:  # LLVM cannot tell any here
        return {}


@cache
def _is_known(name: str, features: str) -> bool:
    """Whether LLVM takes these without a word; True where it cannot be asked.

    It is asked in a process of its own, this file as a script: LLVM writes to the standard error of the process
    that asks, and ends that with an abort.
    """
    if not sys.executable:
        return True
    with suppress(OSError, ValueError, subprocess.TimeoutExpired):
        command = [sys.executable, "-P", __file__, name, features]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=300
        )
        aborted = done.stdout.startswith("asked") and "known" not in done.stdout
        return not aborted and _SAID not in done.stderr
    return True


def _ask(name: str, features: str) -> None:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    print("asked", flush=True)
    llvm.Target.from_default_triple().create_target_machine(cpu=name, features=features)
    print("known", flush=True)


if __name__ == "__main__":
    _ask(*sys.argv[1:])
