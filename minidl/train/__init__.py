"""Training from configurations: `python -m minidl.train`, or `Trainer` from Python."""

from .recipes import Config, ConfigError, recipe
from .record import RunError
from .running import DivergedError
from .signals import StoppedError
from .trainer import Trainer

__all__ = ["Config", "ConfigError", "DivergedError", "RunError", "StoppedError", "Trainer", "recipe"]
