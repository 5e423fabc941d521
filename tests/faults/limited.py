"""Commands in a process that has no more rights, room or umask than a user's: root may do all, and reads anything."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import minidl

_RIGHTS = "-dac_override,-dac_read_search,-fowner"


def without_roots_rights():
    """Return what a command line begins with so that the rights of files count; skip where that cannot be had."""
    if not hasattr(os, "geteuid"):
        pytest.skip("this system has no rights of files as they are tested here")
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root reads every file, and setpriv, which takes that right away, is not installed")
    command = ["setpriv", f"--inh-caps={_RIGHTS}", f"--bounding-set={_RIGHTS}"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("root reads every file, and that right cannot be taken away here")
    return command


def limited(folder, *arguments, before="", rights=True):
    """Run `python -m ARGUMENTS` in a folder, after a line of the shell; return its status, output and errors."""
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1]), "MINIDL_BACKEND": "numpy"}
    env["PYTHONDONTWRITEBYTECODE"] = "1"  # or a umask would close what it writes to everybody
    command = [*([] if rights else without_roots_rights()), "bash", "-c", f'{before}\nexec "$@"', "bash"]
    done = subprocess.run(
        [*command, sys.executable, "-m", *map(str, arguments)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


def close(path):
    """Take all rights of a file or a folder from this user, and where that is root give it to somebody else."""
    if os.geteuid() == 0:
        with suppress(OSError):  # in a namespace of this user alone
            os.chown(path, 65534, 65534)
            path.chmod(0o700)
            return
    path.chmod(0)
