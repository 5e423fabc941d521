"""Bugs of the held-out sets that were unknown, or had a second name, are named since, each alone."""

import pytest

from minidl import check

pytest.importorskip("torch")

NAMED = {
    "n5-mn-share-over-batch-size": "N/K for N_k",  # by hand: the backward that belongs to the count
    "n6-mn-counts-are-n": "N for N_k",
    "n7-bn-rstd-kept-for-evaluation": "evaluation takes the last batch's variance",
    "t7-bn-weight-by-its-size": "the weight's magnitude and eps",
    "t7-bn-momentum-doubled-for-mean": "running_mean updated twice",
    "n7-in-weight-index-of-sample": "weight and bias of the sample",
    "t7-gn-affine-of-the-group": "weight of the group's first channel",
    "t7-mgn-variance-about-plain-mean": "variance about the sample's mean",
    "n7-cv-dweight-axes-swapped": "dweight transposed over the kernel",
    "n7-ap-height-padding-not-counted": "padding not counted along the height",
}


@pytest.mark.parametrize("bug", NAMED)
def test_it_is_named_alone(bug):
    from heldout.fifth import collected as fifth
    from heldout.seventh import collected as seventh
    from heldout.sixth import collected as sixth

    found = next(one for one in (*fifth.BUGS, *sixth.BUGS, *seventh.BUGS) if one.id == bug)
    report = check.run(found.make, found.layer, found.dtype)
    assert [line.partition(":")[0] for line in report.diagnosis] == [NAMED[bug]]
