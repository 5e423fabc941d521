"""What is written stays out of the folders of images, where it would be taken for a class or for its images."""

from __future__ import annotations

import os
from pathlib import Path

from ..data.errors import DataError
from ..data.find_images import image_folders
from .span import ConfigError

OF_FOLDERS = ("folder", "imagenet")  # tasks


def check_outside(
    flag: str, folder: str | os.PathLike[str], task: str, data_dir: str | os.PathLike[str] | None
) -> None:
    """Raise ConfigError where a folder that is to be written is, or lies in, one of the folders of classes.

    Parameters
    ----------
    flag : str
        That names it.
    folder : path
    task : str
    data_dir : path, optional
        Of the data.
    """
    if task not in OF_FOLDERS or data_dir is None:
        return
    try:
        there = image_folders(data_dir)
    except DataError:
        return  # which is said when it is read
    asked = Path(os.path.realpath(folder))
    for images in there:
        real = Path(os.path.realpath(images))
        if asked.is_relative_to(real):
            name = asked.name if asked != real else "run"
            other = os.path.relpath(Path(os.path.realpath(there[0])).parent / "runs" / name)
            raise ConfigError(
                f"{flag} must lie outside {real}, the folder of the images, where it would be taken for a class, "
                f"got {os.fspath(folder)}; give another, such as {flag} {other}"
            )
