"""Whether what is asked for is the run that a folder holds: looked at before any data is read."""

from dataclasses import replace
from typing import Any

from . import build
from .config import Config
from .record import RunError, RunFolder, check_same_run


def check_settings(
    folder: RunFolder, config: Config, code: dict[str, Any], given: dict[str, Any], task_given: bool
) -> None:
    """Refuse to go on with other settings, or without what the run was given from Python.

    Parameters
    ----------
    folder : RunFolder
        Of the run.
    config : Config
        What is asked for. Its length may be another: stages.
    code : dict
        What identifies the parts that are not minidl's own.
    given : dict
        Those of "model" and "optimiser" that `Trainer` was given.
    task_given : bool
        Whether it was given data.

    Raises
    ------
    RunError
        With every difference.
    """
    there = folder.read_config()
    for part, facts in there.get("code", {}).items():
        if facts.get("given") and part not in given:
            raise RunError(
                f"{folder.path} was trained from Python with {part} {facts['name']}; "
                f"resume it there, with Trainer(config, out, resume=True, {part}=...)"
            )
        now = code.get(part, {})
        if now.get("name") == facts["name"] and now.get("sha256") != facts["sha256"]:
            raise RunError(
                f"{folder.path}: the file of {facts['name']} has changed since the run was started; put the old file "
                f"back, or start a new run with another --out (--from {folder.path} starts it with this one's weights)"
            )
    if there.get("task_given") and not task_given:
        raise RunError(
            f"{folder.path} was trained from Python with data of its own; "
            "resume it there, with Trainer(config, out, resume=True, task=...)"
        )
    config = replace(config, ranks=there["config"].get("ranks", 1))  # may change: RunFolder.go_on
    asked = {"config": build.recorded(config, there["config"]["backend"]), "code": code}
    length = {"length": there["config"].get("length")}
    check_same_run(
        build.settings(there) | build.code_identity(there) | length,
        build.settings(asked) | build.code_identity(asked) | length,
        folder.path,
    )
