"""A trained network on a test set: errors by class and the confusion matrix. `python -m minidl.evaluate RUN`."""

from .confusion import Confusion

__all__ = ["Confusion"]
