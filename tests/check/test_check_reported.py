"""Causes that public reports told of: named where they are, and not where they only look alike."""

import sys
from pathlib import Path

import numpy as np
import pytest
from tolerance import assert_close, terms

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from heldout.third import n_layers, n_norms  # noqa: E402

from minidl.check import run  # noqa: E402
from minidl.check.adapters.reference import Adapter  # noqa: E402
from minidl.check.variants import known_wrong  # noqa: E402

DOUBTS = ("unknown", "perhaps", "note")


def variant(layer, name, **options):
    """A known-wrong layer, built."""
    return next(v for v in known_wrong(layer) if v.name == name).make(layer, options)


def names(make, layer, dtype="float32"):
    """What a report names, doubts and notes left out."""
    report = run(make, layer, dtype)
    assert report.exit_code == 1
    lines = [line for line in report.diagnosis if not line.startswith(DOUBTS)]
    return [":".join(line.split(":")[: 1 + (" as of:" in line)]) for line in lines]


@pytest.mark.parametrize(
    ("make", "layer", "dtype", "name"),
    [
        (n_layers.DbUnsummed, "linear", "float32", "dbias is not summed over the batch"),
        (n_layers.ConvOverwritten, "conv2d", "float32", "dweight as of: gradients overwritten"),
        (n_layers.MaxFromZero, "softmax_cross_entropy", "float32", "largest logit starts at 0"),
        (n_layers.WgradSwapped, "conv2d", "float32", "stride and dilation swapped in dweight"),
        (
            n_norms.InHalfSum,
            "instance_norm",
            "float16",
            "squares summed in float16 or squares taken in float16",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_bug_of_a_public_report_is_named_alone(make, layer, dtype, name):
    assert names(make, layer, dtype) == [name]


class HalfTheShards(Adapter):
    """Batch normalization that is wrong for shards alone."""

    conventions = {**getattr(Adapter, "conventions", {}), "shards": "synchronised"}  # noqa: RUF012

    def forward(self, x, training):
        y = super().forward(x, training)
        return [1.01 * part for part in y] if isinstance(x, list) else y


def test_what_is_wrong_for_shards_alone_is_no_limit_on_the_samples():
    assert not any(name.startswith("limit") for name in names(HalfTheShards, "batch_norm"))


def test_new_variants_give_values_that_were_computed_by_hand():
    loss = variant("softmax_cross_entropy", "largest logit starts at 0")
    loss.load({"labels": np.array([0])}, {})
    with np.errstate(all="ignore"):
        assert loss.forward(np.array([[-1000.0, -1001.0]]), True) == -np.inf  # −(−1000 − log 0)
    x = np.array([[[[1.0, 2.0, 3.0]]]])
    pool = variant(
        "avg_pool2d", "padding is the total of both sides", kernel_size=[1, 2], stride=[1, 1], padding=[0, 1]
    )
    pool.load({}, {})
    np.testing.assert_array_equal(pool.forward(x, True), [[[[1.5, 2.5, 1.5]]]])  # one zero, on the right
    line = variant("linear", "dbias sums dweight")
    line.load({"weight": np.ones((1, 2)), "bias": np.zeros(1)}, {})
    line.forward(np.array([[1.0, 2.0], [3.0, 4.0]]), True)
    assert line.backward(np.array([[1.0], [10.0]]))["dbias"] == 1 * (1 + 2) + 10 * (3 + 4)
    row = variant("layer_norm_last", "variance about the running mean of the loop", eps=0.0)
    row.load({"weight": np.ones(2), "bias": np.zeros(2)}, {})
    # running means 0 and 1, squares 0 and 1, mean ½; y = (x − 1)/√½
    assert_close(row.forward(np.array([[0.0, 2.0]]), True), [[-(2**0.5), 2**0.5]], terms(8, 2**0.5))
    batch = variant("batch_norm", "running average of the standard deviation", eps=0.0, momentum=0.5)
    batch.load(
        {"weight": np.ones(1), "bias": np.zeros(1)}, {"running_mean": np.zeros(1), "running_var": np.full(1, 9.0)}
    )
    batch.forward(np.array([[-1.0], [1.0]]) * 0.5**0.5, True)  # unbiased variance 1: (½·3 + ½·1)² = 4
    assert_close(batch.state()["running_var"], [4.0], terms(16, 4.0))
