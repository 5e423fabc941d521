"""Whether what is asked for is the run that a folder holds."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data import Task
from . import changes, describe
from .config import Config
from .named import why_not_found
from .record import DataChangedError, RunError, read_config
from .run_folder import RunFolder, check_same_run
from .span import ConfigError


def describe_code(config: Config, given: dict[str, Any], out: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Return `describe.describe_code`, where `out` is the folder of a run to go on with.

    Raises
    ------
    ConfigError
        A norm or a network of one's own is not found.
    RunError
        The same, of those that the run was trained with.
    """
    try:
        return describe.describe_code(config, given)
    except ConfigError as error:
        record = {} if out is None or not (Path(out) / "config.json").exists() else read_config(out)
        there = record.get("config")
        if there and (there["model"], there["norm"]) == (config.model, config.norm):
            line = str(error)
            for facts in record.get("code", {}).values():
                line = why_not_found(error, facts["name"], facts["sha256"]) if line == str(error) else line
            raise RunError(f"{out}: {line}") from error
        raise


def with_code(there: dict[str, Any], code: dict[str, Any]) -> dict[str, Any]:
    """Return a run's config.json with the sha256 of code of one's own as it is now, and a note of each that changed.

    Each note of ``code_changes`` has "part", "from" and "to"; "after_update" is None until that is known.

    Parameters
    ----------
    there : dict
        The run's config.json.
    code : dict
        What identifies the parts that are not minidl's own now.
    """
    now = {part: facts for part, facts in there.get("code", {}).items() if _has_changed(facts, code.get(part, {}))}
    if not now:
        return there
    notes = [
        {"after_update": None, "part": part, "from": facts["sha256"], "to": code[part]["sha256"]}
        for part, facts in now.items()
    ]
    return {
        **there,
        "code": there["code"] | {part: {**facts, "sha256": code[part]["sha256"]} for part, facts in now.items()},
        "code_changes": [*there.get("code_changes", []), *notes],
    }


def _has_changed(then: dict[str, Any], now: dict[str, Any]) -> bool:
    return bool(now.get("name") == then["name"] and now.get("sha256") != then["sha256"])


def check_settings(
    folder: RunFolder,
    config: Config,
    code: dict[str, Any],
    given: dict[str, Any],
    task_given: bool,
    changed_code: bool = False,
) -> None:
    """Refuse to go on with other settings, or without what the run was given from Python: before any data is read.

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
    changed_code : bool
        Whether code of one's own may have changed since.

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
        if _has_changed(facts, code.get(part, {})) and not changed_code:
            raise RunError(
                f"{folder.path}: the file of {facts['name']} has changed since the run was started; put the old file "
                "back, or go on with the new one by --changed-code (from Python: changed_code=True), or start a new "
                f"run with another --out (--from {folder.path} starts it with this one's weights)"
            )
    if changed_code:
        there = with_code(there, code)
    if there.get("task_given") and not task_given:
        raise RunError(
            f"{folder.path} was trained from Python with data of its own; "
            "resume it there, with Trainer(config, out, resume=True, task=...)"
        )
    config = replace(config, ranks=there["config"].get("ranks", 1))  # may change: RunFolder.go_on
    asked = {"config": describe.recorded(config, there["config"]["backend"]), "code": code}
    length = {"length": there["config"].get("length")}
    check_same_run(
        describe.settings(there) | describe.code_identity(there) | length,
        describe.settings(asked) | describe.code_identity(asked) | length,
        folder.path,
    )


def check_data(folder: RunFolder, there: dict[str, Any], now: dict[str, Any], task: Task) -> None:
    """Refuse to go on with other data.

    Parameters
    ----------
    folder : RunFolder
        Of the run.
    there, now : dict
        The run's config.json, and what it would be with the data that was found.
    task : Task
        That data.

    Raises
    ------
    DataChangedError
        With what changed.
    """
    which = task.noted.differing(there.get("digests")) if task.noted else ""
    if what := changes.changed(describe.data_identity(there), describe.data_identity(now), which):
        raise DataChangedError(
            f"{folder.path} was trained on other data: {what}{changes.skipped(there['config'])}; put the data back as "
            f"it was, or start a new run with another --out (--from {folder.path} starts it with this one's weights)"
        )


def check_input(folder: RunFolder, there: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on where the run's config.json names other inputs than those of its own data.

    Raises
    ------
    RunError
        With what differs. Mean and deviation are not looked at: another version may round them otherwise.
    """
    for name in ("shape", "fit", "class_names"):
        then = there.get("input", now["input"]).get(name)
        if then != now["input"][name]:
            raise RunError(
                f"{folder.config_file} is damaged (the {name} of its input is {then!r:.60}, and that of the data "
                f"{now['input'][name]!r:.60}); put back the one that the run wrote"
            )
