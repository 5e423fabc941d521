"""The loader of a device, over the stand-in for CuPy: the batches of the host's loader to the last bit, made there."""

import json

import numpy as np
import pytest
import strict
from data_files import colour
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl import to_host, use_backend
from minidl.data import Compose, Dataset, DeviceLoader, Loader, PadCrop, RandomFlip, device_loader

M = 23
LABELS = np.arange(M)
DATA = Dataset(colour(np.random.default_rng(5), M), LABELS, LABELS % 3, ("a", "b", "c"), M)
AUGMENTS = {
    "none": None,
    "flip": RandomFlip(0.4),
    "crop": PadCrop(3),
    "both": Compose(RandomFlip(), PadCrop(4)),
    "nested": Compose(PadCrop(1), Compose(RandomFlip(0.3), PadCrop(2))),
}


@pytest.fixture(autouse=True)
def _cupy():
    with strict.as_cupy(), use_backend("cupy"):
        yield


def loader(kind, seed=0, batch_size=4, **options):
    options = {"augment": AUGMENTS["both"], "rng": np.random.default_rng(seed), **options}
    return kind(DATA, batch_size, mean=[0.3, 0.4, 0.5], std=[0.2, 0.25, 0.3], **options)


def taken(batches):
    return [tuple(to_host(array).tobytes() for array in batch) for batch in batches]


@given(
    augment=st.sampled_from(sorted(AUGMENTS)),
    batch_size=st.integers(1, M + 2),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    ahead=st.integers(1, 7),
)
@settings(max_examples=40)
def test_its_batches_are_the_hosts_to_the_last_bit(augment, batch_size, shuffle, drop_last, dtype, ahead):
    options = {"shuffle": shuffle, "drop_last": drop_last, "dtype": dtype, "augment": AUGMENTS[augment]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_loader, "DRAWN_AHEAD", ahead)
        ours, theirs = (loader(kind, batch_size=batch_size, **options) for kind in (DeviceLoader, Loader))
        for _ in range(2):
            assert taken(ours) == taken(theirs)


@given(k=st.integers(0, 6), epoch=st.integers(0, 1), ahead=st.integers(1, 7))
@settings(max_examples=20)
def test_a_state_resumes_bit_for_bit_and_moves_between_host_and_device(k, epoch, ahead):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_loader, "DRAWN_AHEAD", ahead)
        whole = loader(DeviceLoader, 7)
        for _ in range(epoch):
            list(whole)
        batches = iter(whole)
        for _ in range(k):
            next(batches)
        state = json.loads(json.dumps(whole.state()))
        rest, following = taken(batches), taken(whole)
        for kind in (DeviceLoader, Loader):
            resumed = loader(kind, 12345)
            resumed.load_state(state)
            assert (taken(resumed), taken(resumed)) == (rest, following)


def test_batches_are_of_the_device_and_the_batch_is_innermost_in_memory():
    for x, labels, source in loader(DeviceLoader):
        assert {type(array) for array in (x, labels, source)} == {strict.ndarray}
        assert x.shape == (len(labels), 3, 32, 32)
        assert x.transpose(1, 2, 3, 0).flags.c_contiguous
        assert (labels.dtype, source.dtype, x.dtype) == (np.int64, np.int64, np.float32)


@pytest.mark.parametrize("augment", ["none", "both"])
def test_a_batch_neither_waits_nor_uploads(augment):
    batches = iter(loader(DeviceLoader, augment=AUGMENTS[augment]))
    with strict.no_synchronisation(), strict.recording() as first:
        next(batches)
    with strict.no_synchronisation(), strict.recording() as following:
        list(batches)
    assert (following.uploads, len(following.operations) > 10) == (0, True)
    assert first.uploads == 3 + 2 + 1 + (augment == "both")  # the data, the normalisation, the order, the draws


def test_the_data_is_uploaded_once():
    load = loader(DeviceLoader)
    list(load)
    with strict.recording() as record:
        list(load)
    assert record.uploads == 2  # the order and the draws


def test_a_label_out_of_range_is_refused_since_a_device_would_not_notice():
    wrong = Dataset(DATA.images, LABELS + 1, DATA.source, DATA.sources, M)
    message = r"DeviceLoader: labels must be in \[0, 23\), got 1 to 23; give the data set that many classes"
    with pytest.raises(ValueError, match=message):
        DeviceLoader(wrong, 4, mean=[0.5] * 3, std=[0.5] * 3, shuffle=False)


def test_an_augmentation_that_does_not_draw_separately_is_refused():
    with pytest.raises(
        ValueError, match=r"augment must be a minidl.data.augment.Drawn, got .*; give it draw and apply"
    ):
        loader(DeviceLoader, augment=lambda images, rng: images)
