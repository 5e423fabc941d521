"""How a case is built: its values, parameters and state; the tables of cases are in the modules beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.check.case import LAST_AXIS, Array, Case
from minidl.check.plain import plain_class
from minidl.check.values import away_from_zero, normal, uniform

SHAPES = {"nc": (7, 5), "ncl": (5, 3, 4), "nchw": (3, 5, 4, 7)}
BUNDLE = (4, 3, 2, 5)


def images(kind: str, key: str, shape: tuple[int, ...]) -> Array:
    """Inputs of a kind: every channel has its own mean and scale unless the kind says otherwise."""
    n, c = shape[:2]
    tail = (1,) * (len(shape) - 2)
    level = (0.7 * np.arange(c) - 0.9).reshape(1, c, *tail)
    scale = (0.6 + 0.5 * uniform(key + " scale", c)).reshape(1, c, *tail)
    sample = (0.8 * normal(key + " sample", n, c)).reshape(n, c, *tail)
    noise = normal(key, *shape)
    x: Array = level + scale * (noise + (sample if len(shape) > 2 else 0))
    name, _, number = kind.partition("=")
    value = float(number or 0)
    if name == "constant":
        x[:, 1] = value
    elif name == "mean":
        x += value
    elif name == "std":
        x = value * noise
    elif name == "mixed":
        x *= 10.0 ** (3 * np.arange(c) - 3.0).reshape(1, c, *tail)
    elif name == "outlier":
        x.reshape(-1)[3] = value
    elif name == "subnormal":
        x[:, 1] = 1e-39 * noise[:, 1]
    elif name == "nan":
        x[1, 2] = np.where(np.arange(x[1, 2].size).reshape(x[1, 2].shape) == 1, np.nan, x[1, 2])
    elif name == "half":
        x = value + 500 * noise
    elif name == "wide":
        x = value * (2 * uniform(key, *shape) - 1)
    elif name == "clusters":
        side = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
        x = 0.2 * noise + side.reshape(n, 1, *tail) * (1 + 0.1 * np.arange(c)).reshape(1, c, *tail)
    elif name == "owner":
        x = 0.2 * noise + np.where(np.arange(n) == 1, 1.0, -1.0).reshape(n, 1, *tail)
    elif name == "ties":
        x = np.round(noise)
    elif name == "many":
        x = x - level + (0.7 * np.arange(c) % 4 - 2).reshape(level.shape)
    elif name == "split":
        x = 0.2 * noise + np.where(np.arange(c) % 2 == 0, 1.0, -1.0).reshape(1, c, *tail)
    return np.asarray(x)


class Table:
    """Collects cases, numbering those of one layer, flag and dtype."""

    def __init__(self) -> None:
        self.cases: list[Case] = []

    def add(
        self,
        layer: str,
        flag: str,
        shape: tuple[int, ...] = BUNDLE,
        steps: str = "train",
        x: str = "normal",
        dtype: str = "float32",
        memory: str = "",
        result: str = "valid",
        shards: tuple[int, ...] = (),
        params: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Add a case; a step written ``train-`` runs no backward, ``state={}`` leaves the layer as it was made."""
        number = 1 + sum((case.layer, case.flag, case.dtype) == (layer, flag, dtype) for case in self.cases)
        name = f"{layer}-{flag}-{dtype}-{number:02d}"
        cast = np.dtype(dtype)
        features = shape[-1] if layer in LAST_AXIS else shape[1]
        common = {"num_features": features, "eps": 1e-3} if layer.endswith("_norm") or layer in LAST_AXIS else {}
        settled = common | ({"momentum": 0.3} if layer in STATEFUL else {}) | options
        chosen = (default_params(name, layer, settled) if common else {}) | dict(params or {})
        inputs = {f"param.{k}": np.asarray(v, np.int64 if k == "labels" else cast) for k, v in chosen.items()}
        wide = np.dtype("float32") if dtype == "float16" else cast
        given = default_state(name, layer, settled) if state is None else state
        inputs |= {f"state.0.{k}": np.asarray(v, wide) for k, v in given.items()}
        for t, step in enumerate(step for step in steps.split() if step != "reload"):
            inputs[f"in.x.{t}"] = images(x, f"{name} x {t}", shape).astype(cast)
            if not step.endswith("-"):
                image = inputs[f"in.x.{t}"]
                dy = np.asarray(normal(f"{name} dy {t}", *output_shape(layer, settled, chosen, image)) + 0.4)
                if memory == "broadcast-dy":
                    dy = dy[(slice(None), slice(None), *(slice(1),) * (dy.ndim - 2))] + 0 * dy
                inputs[f"in.dy.{t}"] = dy.astype(cast)
        shifted = common and layer != "rms_norm" and x.startswith("mean=") and abs(float(x[5:])) >= 1e3
        offset = float(x[5:]) if shifted else 0.0
        plan = tuple(step.rstrip("-") for step in steps.split())
        self.cases.append(Case(name, layer, flag, dtype, settled, plan, memory, shards, result, offset, inputs))


STATEFUL = ("batch_norm", "mode_norm")
GATED = ("mode_norm", "mode_group_norm")


def default_params(name: str, layer: str, options: Mapping[str, Any]) -> dict[str, Array]:
    """Parameters of which none is 0 or 1."""
    c = options["num_features"]
    params = {"weight": away_from_zero(f"{name} weight", c), "bias": away_from_zero(f"{name} bias", c)}
    if layer == "rms_norm":
        del params["bias"]
    if layer in GATED:
        modes = options["num_modes"]
        if options.get("per_mode_affine"):
            params = {key: away_from_zero(f"{name} {key}", modes, c) for key in params}
        params["gate.weight"] = 0.7 * away_from_zero(f"{name} gates", modes, c if layer == "mode_norm" else 1)
        params["gate.bias"] = 0.5 * normal(f"{name} gate bias", modes)
    return params


def default_state(name: str, layer: str, options: Mapping[str, Any]) -> dict[str, Array]:
    """Running statistics of which none is 0 or 1."""
    if layer not in STATEFUL:
        return {}
    shape = (options["num_modes"], options["num_features"]) if layer == "mode_norm" else (options["num_features"],)
    average, spread = normal(f"{name} running mean", *shape), 0.4 + 1.3 * uniform(f"{name} running var", *shape)
    if layer == "mode_norm":
        return {"running_mean": average, "running_mean_square": average**2 + spread}
    return {"running_mean": average, "running_var": spread}


def output_shape(layer: str, options: Mapping[str, Any], params: Mapping[str, Any], x: Array) -> tuple[int, ...]:
    """The shape of y."""
    if layer.endswith("_norm") or layer in LAST_AXIS:
        return tuple(x.shape)
    plain = plain_class(layer)(layer, options)
    plain.load({name: np.asarray(value) for name, value in params.items()}, {})
    return tuple(np.shape(plain.forward(x.astype(np.float64), True)))
