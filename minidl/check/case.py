"""A case: inputs, a program of steps, and the expected values with their tolerances."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl.check import safetensors

Array = np.ndarray[Any, Any]
DTYPES = ("float16", "float32", "float64")  # of the vectors; bfloat16 is made from those of float32
SCHEMA = 1
LAST_AXIS = ("layer_norm_last", "rms_norm")  # a weight for each element of the last axis of x


@dataclass
class Case:
    """One case, as it is defined (no expected values yet) or as it is read from a vector file.

    ``steps`` are ``train`` (forward, and backward where ``in.dy.t`` exists), ``eval`` (the same in evaluation) and
    ``reload`` (the state moves into a fresh layer); the t-th of train and eval reads ``in.x.t`` and writes ``out.*.t``
    or ``eval.*.t``, then ``state.t+1.*``.
    """

    id: str
    layer: str
    flag: str
    dtype: str
    options: dict[str, Any]
    steps: tuple[str, ...]
    memory: str = ""
    shards: tuple[int, ...] = ()
    result: str = "valid"
    offset: float = 0.0
    inputs: dict[str, Array] = field(default_factory=dict)
    expected: dict[str, Array] = field(default_factory=dict)
    tol: dict[str, dict[str, Array]] = field(default_factory=dict)
    accurate: dict[str, dict[str, Array]] = field(default_factory=dict)

    def group(self, prefix: str) -> dict[str, Array]:
        """Inputs under a prefix, with the prefix taken off."""
        return {name[len(prefix) :]: value for name, value in self.inputs.items() if name.startswith(prefix)}

    def runs_in(self, dtype: str) -> bool:
        """Whether the inputs are exact in dtype; float16 files are for float16 alone."""
        if "float16" in (dtype, self.dtype):
            return dtype == self.dtype
        if dtype not in DTYPES:
            return False
        return DTYPES.index(dtype) >= DTYPES.index(self.dtype)

    def to_file(self) -> bytes:
        """The bytes of the case's vector file."""
        tensors = dict(self.inputs)
        for name, value in self.options.items():
            if not isinstance(value, str):
                tensors[f"option.{name}"] = np.asarray(value, np.float64)
        moves = [step for step in self.steps if step != "reload"]
        tensors["option.training"] = np.asarray([step == "train" for step in moves], np.float64)
        tensors |= self.expected
        for prefix, table in (("tol", self.tol), ("accurate", self.accurate)):
            for dtype, tolerances in table.items():
                tensors |= {f"{prefix}.{dtype}.{name}": value for name, value in tolerances.items()}
        described = {
            "schema": SCHEMA,
            "id": self.id,
            "layer": self.layer,
            "flag": self.flag,
            "dtype": self.dtype,
            "options": self.options,
            "steps": self.steps,
            "memory": self.memory,
            "shards": self.shards,
            "result": self.result,
            "offset": self.offset,
        }
        return safetensors.dumps(tensors, {"minidl.check": json.dumps(described)})


def from_tensors(tensors: Mapping[str, Array], metadata: Mapping[str, str], name: str) -> Case:
    """Return the case that a vector file holds."""
    try:
        head = json.loads(metadata["minidl.check"])
        if head.pop("schema") != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        head["steps"], head["shards"] = tuple(head["steps"]), tuple(head["shards"])
        case = Case(**head)
    except (KeyError, TypeError, ValueError) as error:
        raise safetensors.VectorError(f"{name}: must describe a case, got {type(error).__name__}: {error}") from None
    for key, value in tensors.items():
        prefix, _, rest = key.partition(".")
        if prefix in ("tol", "accurate"):
            dtype, _, tensor = rest.partition(".")
            getattr(case, prefix).setdefault(dtype, {})[tensor] = value
        elif prefix in ("in", "param") or key.startswith("state.0."):
            case.inputs[key] = value
        elif prefix in ("out", "eval", "state"):
            case.expected[key] = value
    return case
