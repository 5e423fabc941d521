"""Training from configurations: `python -m minidl.train`, or `Trainer` from Python."""

from .config import Config
from .finite import DivergedError
from .recipes import recipe
from .record import RunError
from .signals import StoppedError
from .span import ConfigError
from .trainer import Trainer

__all__ = ["Config", "ConfigError", "DivergedError", "RunError", "StoppedError", "Trainer", "recipe"]
