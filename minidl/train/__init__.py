"""Training from configurations: `python -m minidl.train`, or `Trainer` from Python."""

from .finite import DivergedError
from .recipes import Config, ConfigError, recipe
from .record import RunError
from .signals import StoppedError
from .trainer import Trainer

__all__ = ["Config", "ConfigError", "DivergedError", "RunError", "StoppedError", "Trainer", "recipe"]
