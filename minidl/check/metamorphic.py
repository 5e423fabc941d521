"""Relations that hold whatever the values are: no oracle is needed, and a true layer keeps them to rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from minidl.check.adapter import load_adapter
from minidl.check.case import Array, Case
from minidl.check.cases import Table
from minidl.check.compare import TensorResult, compare
from minidl.check.conventions import Conventions, NotSupportedError, declared
from minidl.check.expected import exactly, tolerances
from minidl.check.program import Make
from minidl.check.report import Report
from minidl.check.runner import CaseResult, run_case

Change = Callable[[Case], Case]
Back = Callable[[dict[str, Array]], dict[str, Array]]
GATES = ("out.dgate.weight.0", "out.dgate.bias.0")


def base_case(layer: str, dtype: str, **options: Any) -> Case:
    """A training step with values of which none is special."""
    table = Table()
    shape = (5, 6, 2, 3)
    if layer in ("mode_norm", "mode_group_norm"):
        options = {"num_modes": 3} | options
    if layer == "group_norm":
        options = {"num_groups": 3} | options
    table.add(layer, "relation", shape, dtype=dtype, **options)
    return table.cases[0]


def changed(case: Case, **inputs: Callable[[Array], Array]) -> Case:
    """The case with some inputs mapped; names are written with _ for the dots."""
    names = {name.replace(".", "_"): name for name in case.inputs}
    return replace(case, inputs=case.inputs | {names[k]: change(case.inputs[names[k]]) for k, change in inputs.items()})


def without_gates(outputs: dict[str, Array]) -> dict[str, Array]:
    """Outputs without the gradients of Psi."""
    return {name: value for name, value in outputs.items() if name not in GATES and not name.startswith("state")}


def relations(layer: str, dtype: str) -> Iterator[tuple[str, Case, Case, Back]]:
    """Yield (name, case, equivalent case, how the second's outputs read as the first's).

    The second case may be of another layer: MN with one mode is BN.
    """
    case = base_case(layer, dtype)
    order = np.array([3, 0, 4, 2, 1])
    inverse = np.argsort(order)
    turned = changed(case, in_x_0=lambda a: a[order], in_dy_0=lambda a: a[order])

    def unturned(outputs: dict[str, Array]) -> dict[str, Array]:
        return {n: v[inverse] if n in ("out.y.0", "out.dx.0") else v for n, v in outputs.items()}

    yield "permuted batch", case, turned, unturned
    if layer in ("batch_norm", "mode_norm"):
        yield "repeated batch", case, repeated(case), halved
    if layer in ("mode_norm", "mode_group_norm"):
        yield from gated(layer, dtype, case)
    if layer == "group_norm":
        one, each = base_case(layer, dtype, num_groups=1), base_case(layer, dtype, num_groups=6)
        yield "one group is layer norm", one, replace(one, layer="layer_norm"), dict
        yield "C groups are instance norm", each, replace(each, layer="instance_norm"), dict


def gated(layer: str, dtype: str, case: Case) -> Iterator[tuple[str, Case, Case, Back]]:
    """Relations of the layers with gates."""
    modes = np.array([2, 0, 1])
    back = np.argsort(modes)
    mapped: dict[str, Callable[[Array], Array]] = {
        name: (lambda a: a[modes]) for name in ("param_gate_weight", "param_gate_bias")
    }
    if layer == "mode_norm":
        mapped |= {name: (lambda a: a[modes]) for name in ("state_0_running_mean", "state_0_running_mean_square")}

    def unpermuted(outputs: dict[str, Array]) -> dict[str, Array]:
        return {n: v[back] if n in GATES or n.startswith("state") else v for n, v in outputs.items()}

    yield "permuted modes", case, changed(case, **mapped), unpermuted
    yield "shifted logits", case, changed(case, param_gate_bias=lambda a: a + a.dtype.type(1.5)), dict
    single = base_case(layer, dtype, num_modes=1)
    plain = {
        name: value for name, value in single.inputs.items() if "gate" not in name and not name.startswith("state")
    }
    equal = "batch_norm" if layer == "mode_norm" else "group_norm"
    options = {key: value for key, value in single.options.items() if key != "num_modes"} | {"num_groups": 1}
    other = replace(single, layer=equal, inputs=plain, options=options)
    yield f"one mode is {equal.replace('_', ' ')}", single, other, without_gates
    constant = changed(case, param_gate_weight=lambda a: 0 * a)
    same = {name: constant.inputs[name] for name in plain}
    yield f"constant gates are {equal.replace('_', ' ')}", constant, replace(other, inputs=same), without_gates


def repeated(case: Case) -> Case:
    """The batch twice."""
    return changed(case, in_x_0=lambda a: np.concatenate([a, a]), in_dy_0=lambda a: np.concatenate([a, a]))


def halved(outputs: dict[str, Array]) -> dict[str, Array]:
    """What the batch alone gives, from the outputs of the batch twice; running_var changes with n, so states are left
    out.
    """
    kept = {name: value for name, value in outputs.items() if not name.startswith("state")}
    return {
        name: value[: len(value) // 2] if name in ("out.y.0", "out.dx.0") else value / 2 for name, value in kept.items()
    }


def metamorphic(
    adapter: Make | str, layer: str, dtype: str = "float64", conventions: Mapping[str, str] | None = None
) -> Report:
    """Check the relations of a layer on an adapter and return the report; no expected values are involved.

    Where a relation names another layer (MN with one mode is BN), that one is computed by the plain formulas in
    extended precision.

    Parameters
    ----------
    adapter : class, function or str
        As for `run`.
    layer : str
        One of `python -m minidl.check list`.
    dtype : str
        Of the arrays that the adapter gets.
    conventions : mapping of str, optional
        What the layer declares, in place of the adapter's own ``conventions``.

    Examples
    --------
    >>> from minidl import check
    >>> check.metamorphic("minidl.check.adapters.reference:Adapter", "mode_norm").exit_code
    0
    """
    make = load_adapter(adapter) if isinstance(adapter, str) else adapter
    agreed = declared(getattr(make, "conventions", None) if conventions is None else conventions)
    allowed: dict[int, dict[str, Array]] = {}
    results = []
    for relation, first, second, back in list(relations(layer, dtype)):
        if id(first) not in allowed:
            want = {n: np.asarray(v, np.float64) for n, v in exactly(first).items()}
            allowed[id(first)] = tolerances(first, dtype, want)
        results.append(relate(make, relation, first, second, back, allowed[id(first)], dtype, agreed))
    name = adapter if isinstance(adapter, str) else getattr(adapter, "__name__", type(adapter).__name__)
    title = f"{name}: relations of {layer} in {dtype}"
    return Report(title, results)


def relate(
    make: Make,
    name: str,
    first: Case,
    second: Case,
    back: Back,
    tol: Mapping[str, Array],
    dtype: str,
    agreed: Conventions,
) -> CaseResult:
    """Compare two cases that must answer alike."""
    named = replace(first, id=f"{first.layer}: {name}", flag="relation")
    one = outputs_of(make, named, dtype, agreed)
    if one.status != "passed":
        return one
    if second.layer == first.layer:
        other = outputs_of(make, second, dtype, agreed)
        if other.status != "passed":
            return replace_case(other, named)
        want = back(other.outputs)
    else:
        want = {n: np.asarray(v, np.float64) for n, v in exactly(second).items() if not n.startswith("state")}
    tensors: list[TensorResult] = []
    for key, value in want.items():
        if key in tol and key in one.outputs:
            tensors.append(compare(key, one.outputs[key], value, tol[key]))
    failed = any(not tensor.passed for tensor in tensors)
    return CaseResult(named, "failed" if failed or not tensors else "passed", "", tensors)


def replace_case(result: CaseResult, case: Case) -> CaseResult:
    """The result under another case's name."""
    result.case = case
    return result


def outputs_of(make: Make, case: Case, dtype: str, agreed: Conventions) -> CaseResult:
    """Run a case that has no expected values, for its outputs."""
    wanted = replace(case, expected={}, tol={dtype: {}})
    plain = replace(agreed, running_var="unbiased") if agreed.running_var != "unbiased" else agreed
    try:
        return run_case(make, wanted, dtype, plain)
    except NotSupportedError as error:
        return CaseResult(case, "declared", str(error))
