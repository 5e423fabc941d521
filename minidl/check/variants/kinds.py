"""Known-wrong variants: the plain layers with one text replaced each, and how a report names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minidl.check.plain import plain_class
from minidl.check.plain.base import Plain
from minidl.check.plain.derived import Derived
from minidl.check.program import Adapter


@dataclass(frozen=True)
class Variant:
    """A layer with one known change.

    ``name`` is short, ``says`` is the sentence of the diagnosis, ``patches`` are (old, new) texts in the plain layer's
    source. ``symptom`` marks bugs whose wrong digits are rounding noise: they are told by which cases fail, not by the
    values. ``correct`` marks another right way to compute the same.  ``derived`` marks bugs that
    show in gradients derived from the forward pass alone, such as what is detached.
    """

    layer: str
    name: str
    says: str
    patches: tuple[tuple[str, str], ...]
    dtype: str = "float32"
    symptom: bool = False
    correct: bool = False
    derived: bool = False
    seen: tuple[str, ...] = ()
    declares: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it from other variants."""
        return self.layer, self.name, self.patches

    @property
    def closed(self) -> bool:
        """Whether its gradients are settled by how it is built, so that none are derived from its forward pass."""
        return False

    @property
    def of_gradients(self) -> bool:
        """Whether it is built so that all it changes is the backward pass."""
        return False

    def plain(self, layer: str, options: dict[str, Any]) -> Plain:
        """Build the changed layer with its backward pass as it is written."""
        return plain_class(self.layer, self.patches)(layer, options)

    def make(self, layer: str, options: dict[str, Any]) -> Adapter:
        """Build the changed layer, as an adapter is built."""
        return Derived(self.plain(layer, options)) if self.derived else self.plain(layer, options)

    @property
    def conventions(self) -> Mapping[str, str]:
        """What the changed layer declares."""
        return {**Plain.conventions, **self.declares}

    def __call__(self, layer: str, options: dict[str, Any]) -> Adapter:
        """Build the changed layer: a variant is an adapter."""
        return self.make(layer, options)


class Collection:
    """Gathers the variants of one layer, written shortly."""

    def __init__(self, layer: str) -> None:
        self.layer = layer
        self.variants: list[Variant] = []

    def wrong(self, name: str, says: str, *patches: tuple[str, str], **extra: Any) -> None:
        """Add a known-wrong variant."""
        derived = any("detach(" in new for _, new in patches) and "training uses" not in name
        self.variants.append(Variant(self.layer, name, says, patches, derived=derived, **extra))

    def right(self, name: str, *patches: tuple[str, str], **extra: Any) -> None:
        """Add another correct way to compute the layer."""
        self.variants.append(Variant(self.layer, name, name, patches, correct=True, **extra))
