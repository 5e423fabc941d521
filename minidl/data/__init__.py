"""Data: readers by format, the catalog, tasks, your own images, augmentation and the loader."""

from minidl.data.arrays import arrays_task
from minidl.data.augment import Compose, PadCrop, RandomFlip
from minidl.data.dataset import Dataset, Task, channel_statistics, data_sha256, rarer
from minidl.data.device_loader import DeviceLoader
from minidl.data.errors import DataError
from minidl.data.loader import Loader
from minidl.data.multitask import TASKS, load_task

__all__ = [
    "TASKS",
    "Compose",
    "DataError",
    "Dataset",
    "DeviceLoader",
    "Loader",
    "PadCrop",
    "RandomFlip",
    "Task",
    "arrays_task",
    "channel_statistics",
    "data_sha256",
    "load_task",
    "rarer",
]
