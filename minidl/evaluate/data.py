"""The data that a trained network is measured on: the run's own test set, or any other with its classes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minidl.data import TASKS, DataError, Dataset, Task, data_sha256
from minidl.data.class_folder import load_all
from minidl.data.find_images import find_images
from minidl.data.image_files import ImageFiles
from minidl.data.multitask import names_of
from minidl.data.split import count_by_class
from minidl.train import build, changes, describe
from minidl.train.config import Config
from minidl.train.record import DataChangedError, RunError
from minidl.trained import Classifier


@dataclass(frozen=True)
class TestData:
    """A test set with the network's labels.

    Attributes
    ----------
    task : Task
    own : bool
        Whether it is the very test set of the run.
    what : str
        Which data it is, in words.
    """

    task: Task
    own: bool
    what: str


def find_data(net: Classifier, where: object, asked: Mapping[str, Any], corrupt: str | None = None) -> TestData:
    """Return the data to measure a network on.

    Parameters
    ----------
    net : Classifier
    where : object
        The run, to be named.
    asked : dict
        Any of task, data_dir, sample in place of the run's own. Of a folder of images that has no test folder all are
        taken, unless they are those of the run.
    corrupt : {"refuse", "skip"}, optional
        What to do with images that cannot be read, in place of what the run did.

    Raises
    ------
    DataError
        The data cannot be had, or its classes or its images do not fit the network.
    DataChangedError
        None is asked for, and the run's own is not what it was.
    RunError
        The run was given its data from Python, and none is asked for.
    """
    if net.record.get("task_given") and not asked:
        raise RunError(
            f"{where} was trained from Python with data of its own; "
            "give --task and --data-dir, or evaluate it there: minidl.load(run).evaluate(task)"
        )
    config = net.config if corrupt is None else replace(net.config, corrupt=corrupt)
    if "data_dir" in asked or "sample" in asked or "task" in asked:
        config = replace(config, data_dir=None, sample=False)
    task_name = asked.get("task", config.task)
    size = net.shape[-1] if task_name in ("folder", "arrays", "imagenet") else config.image_size
    augment = "none"  # which goes with every task
    config = replace(config, **{**asked, "image_size": size, "augment": augment, "rarer": None})
    if sources := TASKS.get(task_name, ()):  # before anything is downloaded
        _places(task_name, names_of(sources), sources[0].name if len(sources) == 1 else "", net.class_names)
    task = _folder(net, config) if task_name == "folder" and asked else build.find_task(config)
    own = is_own(task, net.record)
    if not asked:
        _refuse_changed(where, net, config, task, own)
    task = fitted(task, net.class_names, net.shape)
    what = "the run's own test set" if own else "not the run's test set"
    if not own and _trained_there(net, asked):
        what += ": the run's folder has changed, and all its images are taken, those it was trained on among them"
    return TestData(task, own, f"{task.name}, {what}")


def is_own(task: Task, record: Mapping[str, Any]) -> bool:
    """Whether a task's test set is the very one that a run recorded."""
    there = record.get("dataset", {})
    if "test_sha256" in there and not isinstance(task.test.images, ImageFiles):
        return bool(data_sha256(task.test) == there["test_sha256"])
    return bool(describe.describe_data(task) == record.get("data"))


def _refuse_changed(where: object, net: Classifier, config: Config, task: Task, own: bool) -> None:
    """Raise DataChangedError where the record of a run says that its data was other; a checkpoint alone has none.

    The training set counts as well: what training and test set were drawn from is one folder.
    """
    then = describe.data_identity(net.record)
    if not then:
        return
    now = describe.describe_data(task) | describe.describe_dataset(task)
    which = task.noted.differing(net.record.get("digests")) if task.noted else ""
    gone = [name for name in net.class_names if name not in task.class_names]
    what = f"the class {gone[0]} is gone" if gone else changes.changed(then, now, which)
    if own and not what:
        return
    what += changes.skipped(net.record["config"])
    place = config.data_dir or task.name
    raise DataChangedError(
        f"{where}: its own data is not what it was, in {place}: {what}; put it back as it was, or give --data-dir to "
        "measure other images"
    )


def _trained_there(net: Classifier, asked: Mapping[str, Any]) -> bool:
    """Whether the folder that is asked for is that of the run, which drew its test set from it."""
    there = net.record["config"].get("data_dir")
    drawn = str(net.record.get("dataset", {}).get("split", "")).startswith("drawn")
    given = asked.get("data_dir")
    if not (drawn and net.config.task == "folder" and there and given):
        return False
    return bool(os.path.realpath(given) == os.path.realpath(there))


def _folder(net: Classifier, config: Config) -> Task:
    """Return a folder's images, divided as the run's where they are its own, else all of them."""
    if config.data_dir is None:
        return build.find_task(config)  # which says what is missing
    if _may_be_own(net, config):
        try:
            task = build.find_task(config)
        except DataError:
            pass  # so it is not
        else:
            if is_own(task, net.record):
                return task
    return load_all(config.data_dir, net.class_names, config.image_size, net.fit, config.corrupt)


def _may_be_own(net: Classifier, config: Config) -> bool:
    """Whether a folder has as many images of each class as the run had, or more where unreadable ones are skipped."""
    there = describe.data_identity(net.record)
    assert config.data_dir is not None
    try:
        found = find_images(config.data_dir, config.seed, config.test_share)
    except DataError:
        return False
    if found.class_names != net.class_names:
        return False
    for part in ("train", "test"):
        recorded = there.get(f"{part}_images_by_class", {})
        for name, count in count_by_class(found.labels[part], found.class_names).items():
            had = recorded.get(name)
            if had is None or count < had or (count > had and config.corrupt != "skip"):
                return False
    return True


def fitted(task: Task, class_names: Sequence[str], shape: tuple[int, ...]) -> Task:
    """Return a task that a network can be measured on, with the labels of the network.

    Raises
    ------
    DataError
        The network does not know one of the classes or takes images of another size, or there are no test images.
    """
    task = relabelled(task, class_names)
    if task.test.images.shape[1:] != shape:
        size = shape[-1]
        raise DataError(
            f"{task.name}: its images are {task.test.images.shape[1:]}, the network takes {shape}; make them "
            f"{size} × {size}: arrays_task(..., size={size}), or load_task(..., image_size={size}) of a folder"
        )
    if not len(task.test):
        raise DataError(f"{task.name}: no test images were found; add some")
    return task


def relabelled(task: Task, class_names: Sequence[str]) -> Task:
    """Return a task with the labels of a network: its classes are found by name, or by name behind the data set's.

    Raises
    ------
    DataError
        The network does not know one of the classes.
    """
    if tuple(task.class_names) == tuple(class_names):
        return task
    source = task.test.sources[0] if len(task.test.sources) == 1 else ""
    labels = np.array(_places(task.name, task.class_names, source, class_names), np.int64)[task.test.labels]
    test: Dataset = replace(task.test, labels=labels, num_classes=len(class_names), kept_sha256=None)
    return replace(task, test=test, num_classes=len(class_names), class_names=tuple(class_names))


def _places(task_name: str, names: Sequence[str], source: str, class_names: Sequence[str]) -> list[int]:
    """Return the label that a network of these classes has for each name, alone or behind that of its data set."""
    place = {name: k for k, name in enumerate(class_names)}
    found = [place.get(name, place.get(f"{source} {name}")) for name in names]
    if None in found:
        unknown = names[found.index(None)]
        bare = task_name == "arrays" and unknown.isdecimal()
        known = ", ".join(class_names[:10]) + (", ..." if len(class_names) > 10 else "")
        raise DataError(
            f"{task_name}: the network does not know the class {unknown}, it knows {known}; give data of these classes"
            + ("; labels that are numbers get names by arrays_task(..., class_names=net.class_names)" if bare else "")
        )
    return [label for label in found if label is not None]
