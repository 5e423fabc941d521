"""A rank's part of a batch, and what is drawn for it, do not depend on how many ranks there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import tiny_task

from minidl.data import Compose, DeviceLoader, Loader, PadCrop, RandomFlip
from minidl.data.part import part
from minidl.distributed.draws import PartOfDraws

OPTIONS = {"mean": [0.5] * 3, "std": [0.25] * 3}


@given(n=st.integers(0, 50), size=st.integers(1, 12))
def test_parts_are_near_equal_and_make_up_the_batch(n, size):
    parts = [list(range(n))[part(n, rank, size)] for rank in range(size)]
    assert [each for own in parts for each in own] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("kind", [Loader, DeviceLoader])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_parts_of_a_loaders_batches_are_the_batches_of_one_alone(kind, size):
    def epochs(rank, size):
        loader = kind(
            tiny_task().train, 4, augment=Compose(RandomFlip(), PadCrop(4)), rng=3, part=(rank, size), **OPTIONS
        )
        batches = [batch for _ in range(2) for batch in loader]
        return batches, loader.state()

    whole, state = epochs(0, 1)
    parts = [epochs(rank, size) for rank in range(size)]
    assert all(end == state for _, end in parts)  # so that a checkpoint serves any number of ranks
    given = [batch for batches, _ in parts for batch in batches]
    for each in range(3):  # images, labels, sources
        joined = {array.tobytes() for array in np.concatenate([batch[each] for batch in given])}
        assert joined == {array.tobytes() for array in np.concatenate([batch[each] for batch in whole])}
    for k, batch in enumerate(whole[:6]):  # those with an image for each rank
        assert np.array_equal(np.concatenate([batches[k][0] for batches, _ in parts]), batch[0])


def test_a_batch_without_an_image_for_a_rank_is_left_out_there():
    sizes = [
        [len(labels) for _, labels, _ in Loader(tiny_task().test, 4, shuffle=False, part=(rank, 4), **OPTIONS)]
        for rank in range(4)
    ]
    assert sizes == [[1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]]  # 4 + 4 + 3 images


def test_an_augmentation_that_cannot_be_drawn_apart_is_refused():
    with pytest.raises(ValueError, match="augment must be one that draws apart"):
        Loader(tiny_task().train, 4, augment=lambda images, rng: images, rng=0, part=(0, 2), **OPTIONS)


@given(n=st.integers(1, 9), size=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_ranks_masks_are_the_parts_of_one_mask(n, size, seed):
    size = min(n, size)
    alone = np.random.default_rng(seed)
    want = [alone.random((n, 3, 2)), alone.random((n, 5))]
    for rank in range(size):
        rng = np.random.default_rng(seed)
        mine = PartOfDraws(rng, n, part(n, rank, size))
        for whole in want:
            own = whole[part(n, rank, size)]
            assert np.array_equal(mine.random(own.shape), own)
        assert rng.bit_generator.state == alone.bit_generator.state


def test_a_mask_for_other_samples_than_the_part_is_refused():
    with pytest.raises(ValueError, match="must begin with 2"):
        PartOfDraws(np.random.default_rng(0), 4, slice(0, 2)).random((3, 5))
