"""Shows, without minidl.check, that each bug differs from the right layer in float64, and that no correct one does.

    PYTHONPATH=PROJECT:PROJECT/tests/check python tests/check/heldout/fifth/verify.py

Three steps (training, training, evaluation) on six inputs a layer; ``NAME2`` below is output NAME of the evaluation.
"""

from __future__ import annotations

import numpy as np
from heldout.fifth import collected, n_modes
from heldout.third import nbase, tbase

RIGHT = {
    "batch_norm": nbase.Bn,
    "instance_norm": nbase.Grouped,
    "layer_norm": nbase.Grouped,
    "group_norm": nbase.Grouped,
    "layer_norm_last": nbase.Rows,
    "rms_norm": nbase.Rms,
    "conv2d": nbase.Conv,
    "max_pool2d": nbase.MaxPool,
    "avg_pool2d": nbase.AvgPool,
    "linear": nbase.Linear,
    "softmax_cross_entropy": nbase.Loss,
    "mode_norm": nbase.Mn,
    "mode_group_norm": n_modes.ModeGroupNorm,
}
SEEDS = range(6)


def rows(normal, layer, seed):
    """For the norms over the last axis."""
    c = (7, 6, 5)[seed % 3]
    shape = ((9, c), (3, 2, c), (2, 3, 2, c))[seed % 3]
    params = {"weight": normal(c)} | ({"bias": normal(c)} if layer != "rms_norm" else {})
    return {"num_features": c, "eps": 0.03}, params, {}, lambda: normal(*shape) * 1.5 + 0.7


def conv(normal, seed, plain):
    """For the convolution; a plain one has no dilation and no groups."""
    g = 1 if plain else (1, 2, 3)[seed % 3]
    stride, padding = [2, 1 + seed % 2], [1, 2 * (seed % 2)]
    options = {"in_channels": 2 * g, "out_channels": 2 * g, "kernel_size": [2, 3], "stride": stride, "padding": padding}
    options |= {"bias": 1} | ({} if plain else {"dilation": [1 + seed % 2, 2], "groups": g})
    params = {"weight": normal(2 * g, 2, 2, 3), "bias": normal(2 * g)}
    return options, params, {}, lambda: normal(3, 2 * g, 8, 9)


def pool(normal, seed):
    """For the pools; odd seeds have ties."""
    options = {"kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 1] if seed % 2 else [1, 0]}
    if seed % 3 == 2:
        options = {"kernel_size": [2, 3], "stride": [2, 2], "padding": [1, 1]}
    return options, {}, {}, lambda: np.round(normal(2, 3, 7, 8) * 2 - 2) if seed % 2 else normal(2, 3, 7, 8) - 1.5


def norm(r, normal, layer, seed):
    """For the norms over samples, channels and modes."""
    c = 6
    options = {"num_features": c, "eps": 0.05, "momentum": 0.3, "num_groups": 2, "num_modes": 3}
    params, state = {"weight": normal(c), "bias": normal(c)}, {}
    if layer == "batch_norm":
        state = {"running_mean": normal(c), "running_var": r.uniform(0.5, 2, c)}
    if layer.startswith("mode"):
        params |= {"gate.weight": normal(3, c if layer == "mode_norm" else 1), "gate.bias": normal(3)}
    if layer == "mode_norm":
        mean = normal(3, c)
        state = {"running_mean": mean, "running_mean_square": mean**2 + r.uniform(0.5, 2, (3, c))}
    shape = ((5, c), (4, c, 5), (3, c, 4, 3))[seed % 3]
    scale = r.uniform(0.05, 2, c).reshape(1, c, *(1,) * (len(shape) - 2))
    return options, params, state, lambda: normal(*shape) * scale + normal(c).reshape(scale.shape) * 0.8


def inputs(layer, seed, plain):
    """Options, parameters, state and what draws an x."""
    r = np.random.default_rng(seed)

    def normal(*shape):
        return r.normal(size=shape)

    if layer in ("layer_norm_last", "rms_norm"):
        return rows(normal, layer, seed)
    if layer == "conv2d":
        return conv(normal, seed, plain)
    if layer.endswith("pool2d"):
        return pool(normal, seed)
    if layer == "linear":
        params = {"weight": normal(4, 6), "bias": normal(4)}
        return {"in_features": 6, "out_features": 4, "bias": 1}, params, {}, lambda: normal(5, 6)
    if layer == "softmax_cross_entropy":
        scale = 30 if seed % 3 == 2 else 1
        return {}, {"labels": np.array([0, 2, 1, 3, 0, 2])}, {}, lambda: normal(6, 4) * scale
    return norm(r, normal, layer, seed)


def play(make, layer, seed, plain):
    """Every output of the three steps; an exception stands under raisedN."""
    options, params, state, draw = inputs(layer, seed, plain)
    played, right = make(layer, options), RIGHT[layer](layer, options)
    played.load(params, state)
    right.load(params, state)
    last = make.conventions.get("layout") == "NHWC"
    out, r = {}, np.random.default_rng(seed + 99)
    for step, training in enumerate((True, True, False)):
        x = draw()
        dy = r.normal(size=np.shape(right.forward(x, True)))
        try:
            y = played.forward(np.moveaxis(x, 1, -1).copy() if last else x.copy(), training)
            out[f"y{step}"] = np.moveaxis(y, -1, 1) if last else y
            grads = played.backward(np.moveaxis(dy, 1, -1).copy() if last else dy.copy())
            out |= {f"{k}{step}": np.moveaxis(v, -1, 1) if last and k == "dx" else v for k, v in grads.items()}
        except Exception as error:
            out[f"raised{step}"] = repr(error)
        out |= {f"{k}{step}": v for k, v in played.state().items()}
    return out


def as_accumulated(out):
    """The parameters' gradients as a layer gives them that accumulates."""
    total = {}
    for name, value in out.items():
        if name[0] == "d" and not name.startswith("dx"):
            total[name[:-1]] = total.get(name[:-1], 0) + value
            value = total[name[:-1]]
        yield name, value


def differences(make, layer, seed, plain=False):
    """(size, name) of every output that differs from the right layer's."""
    conventions = make.conventions
    right = play(RIGHT[layer], layer, seed, plain)
    if conventions.get("grads", tbase.Torch.conventions["grads"]) == "accumulate":
        right = dict(as_accumulated(right))
    got = play(make, layer, seed, plain)
    other_state = conventions.get("momentum") == "old" or conventions.get("running_var") == "biased"
    for name, want in right.items():
        if other_state and (name.startswith("running") or name.endswith("2")):
            continue  # its state is of another convention
        if name not in got:
            yield np.inf, f"{name} ({next((v for k, v in got.items() if k.startswith('raised')), 'missing')})"
        elif np.shape(got[name]) != np.shape(want):
            yield np.inf, f"{name} (shape {np.shape(got[name])}, not {np.shape(want)})"
        elif not np.allclose(got[name], want, 1e-9, 1e-11, equal_nan=True):
            with np.errstate(invalid="ignore"):
                yield float(np.nanmax(np.abs(np.asarray(got[name], float) - want))), name


def main():
    """Print what differs, of each layer of the set."""
    doubtful = 0
    for item in collected.CORRECT:
        found = [d for seed in SEEDS for d in differences(item.make, item.layer, seed, item.style == "einsum")]
        print(f"correct, {item.id}:", found[:3] or "agrees")
        doubtful += bool(found)
    for bug in collected.BUGS:
        found = [list(differences(bug.make, bug.layer, seed)) for seed in SEEDS]
        every = [pair for pairs in found for pair in pairs]
        names = " ".join(sorted({name for _, name in every}))
        largest = max((size for size, _ in every), default=0.0)
        print(
            f"{bug.id}: {sum(map(bool, found))} of {len(found)} inputs, up to {largest:.3g}: {names or 'NO DIFFERENCE'}"
        )
        doubtful += not every
    ids = {bug.id for bug in collected.BUGS}
    print(f"{len(collected.BUGS)} bugs, {len(ids)} ids, {len(collected.CORRECT)} correct layers, {doubtful} doubtful")


if __name__ == "__main__":
    main()
