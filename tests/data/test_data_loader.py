"""The loader: every image once an epoch, one seed one stream of bytes, and a state that resumes it exactly."""

import gc
import itertools
import json
import threading

import numpy as np
import pytest
from data_files import assert_statistics, colour
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import assert_close, terms

from minidl.data import Compose, Dataset, Loader, PadCrop, RandomFlip, channel_statistics
from minidl.data.prefetch import prefetched

M = 23
MEAN, STD = [0.3, 0.4, 0.5], [0.2, 0.25, 0.3]
LARGEST = 1.5 / 0.2  # of |pixel| + |mean| over the deviation


def dataset(n=M):
    rng = np.random.default_rng(5)
    labels = np.arange(n)  # so that a label tells the image
    return Dataset(colour(rng, n), labels, labels % 3, ("a", "b", "c"), n)


DATA = dataset()


def loader(seed=0, batch_size=4, **options):
    options = {"augment": Compose(RandomFlip(), PadCrop(4)), "rng": np.random.default_rng(seed), **options}
    return Loader(DATA, batch_size, mean=MEAN, std=STD, **options)


def taken(batches):
    return [tuple(array.tobytes() for array in batch) for batch in batches]


@given(batch_size=st.integers(1, M + 2), shuffle=st.booleans(), drop_last=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_an_epoch_gives_every_image_once_with_its_label_and_source(batch_size, shuffle, drop_last, seed):
    load = loader(seed, batch_size, shuffle=shuffle, drop_last=drop_last, augment=None)
    for _ in range(2):
        batches = list(load)
        assert len(batches) == len(load)
        sizes = [len(x) for x, _, _ in batches]
        whole, rest = divmod(M, batch_size)
        assert sizes == [batch_size] * whole + ([rest] if rest and not drop_last else [])
        seen = [label for _, labels, _ in batches for label in labels]
        assert len(set(seen)) == len(seen) == sum(sizes)
        if not shuffle:
            assert seen == list(range(len(seen)))
        for x, labels, source in batches:
            pixels = DATA.images[labels] / 255
            expected = (pixels - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
            assert_close(x, expected, terms(8, LARGEST, "float32"))
            np.testing.assert_array_equal(source, labels % 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_batch_has_the_batch_innermost_in_memory(dtype):
    for x, labels, source in loader(dtype=dtype):
        assert x.dtype == dtype
        assert x.shape == (len(labels), 3, 32, 32)
        assert x.transpose(1, 2, 3, 0).flags.c_contiguous
        assert labels.dtype == source.dtype == np.int64


def test_float64_batches_are_exact_to_rounding():
    [(x, labels, _)] = loader(batch_size=M, dtype="float64", augment=None)
    expected = (DATA.images[labels] / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    assert_close(x, expected, terms(8, LARGEST))


def test_epochs_and_seeds_differ_and_one_seed_gives_the_same_bytes():
    first, second, other = loader(1), loader(1), loader(2)
    epochs = [taken(first), taken(first)]
    assert epochs == [taken(second), taken(second)]
    assert epochs[0] != epochs[1]
    assert epochs[0] != taken(other)


@pytest.mark.parametrize("prefetch", [0, 1, 5, 100])
def test_computing_ahead_changes_no_byte(prefetch):
    serial, ahead = loader(prefetch=0), loader(prefetch=prefetch)
    for _ in range(2):
        assert taken(ahead) == taken(serial)


def test_without_threads_the_bytes_are_the_same(monkeypatch):
    expected = taken(loader())

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert taken(loader()) == expected


@given(k=st.integers(0, 6), epoch=st.integers(0, 2), prefetch=st.sampled_from([0, 2]), augmented=st.booleans())
@settings(max_examples=40)
def test_a_state_taken_after_any_batch_resumes_bit_for_bit(k, epoch, prefetch, augmented):
    options = {"prefetch": prefetch} | ({} if augmented else {"augment": None})
    whole = loader(7, **options)
    for _ in range(epoch):
        list(whole)
    batches = iter(whole)
    for _ in range(k):
        next(batches)
    state = json.loads(json.dumps(whole.state()))
    rest = taken(batches)
    following = taken(whole)

    resumed = loader(12345, **options)
    resumed.load_state(state)
    assert resumed.state() == state
    assert taken(resumed) == rest
    assert taken(resumed) == following


@given(first=st.integers(1, 5), prefetch=st.sampled_from([0, 2]))
@settings(max_examples=10)
def test_a_resumed_epoch_can_be_resumed_again(first, prefetch):
    expected = taken(loader(7))
    load, got = loader(7, prefetch=prefetch), []
    for count in (first, 6 - first, 6):
        batches = iter(load)
        got += taken(itertools.islice(batches, count))
        state = load.state()
        load = loader(1, prefetch=prefetch)
        load.load_state(state)
    assert got == expected


def test_a_state_taken_between_epochs_starts_the_next_one():
    whole = loader(7)
    list(whole)
    state = whole.state()
    assert state["batch"] == 0
    expected = taken(whole)
    resumed = loader(1)
    resumed.load_state(state)
    assert taken(resumed) == expected


def test_an_abandoned_epoch_leaves_no_trace_in_the_next():
    for given_up in (1, 3):
        load = loader(7)
        list(itertools.islice(load, given_up))
        after = taken(load)
        again = loader(7)
        list(again)
        assert after == taken(again)


def test_without_randomness_no_generator_is_needed():
    load = loader(rng=None, shuffle=False, augment=None)
    state = load.state()
    assert state["rng"] is None
    load.load_state(state)
    assert taken(load) == taken(loader(shuffle=False, augment=None))


@pytest.mark.parametrize("other", [{"batch_size": 5}, {"shuffle": False}, {"drop_last": True}])
def test_a_state_of_other_settings_is_refused(other):
    with pytest.raises(ValueError, match=rf"Loader.load_state: {next(iter(other))} must be .*, got .*; resume with"):
        loader(**other).load_state(loader().state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"prefetch": -1}, "prefetch must be >= 0, got -1"),
        ({"dtype": "float16"}, "dtype must be float32 or float64, got float16"),
        ({"rng": None}, "rng must be a numpy.random.Generator to shuffle or augment, got None"),
        ({"mean": [0.5]}, r"mean must be of shape \(3,\), got \(1,\)"),
        ({"std": [0.5, 0, 0.5]}, r"std must be above 0, got"),
    ],
)
def test_wrong_arguments_are_refused_by_name(options, message):
    arguments = {"batch_size": 4, "mean": MEAN, "std": STD, "rng": np.random.default_rng(0), **options}
    with pytest.raises(ValueError, match=rf"^Loader: {message}.*; "):
        Loader(DATA, **arguments)


def test_an_error_on_the_thread_is_raised_in_its_place():
    def fail(images, rng):
        if (images == DATA.images[6]).all(axis=(1, 2, 3)).any():
            raise KeyError("image 6")
        return images

    batches = iter(loader(shuffle=False, augment=fail))
    next(batches)
    with pytest.raises(KeyError, match="image 6"):
        next(batches)
    assert not loader_threads()


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name == "minidl-loader"]


@pytest.mark.parametrize("given_up", [1, 2, 6])
def test_the_thread_ends_when_the_iterator_is_dropped(given_up):
    batches = iter(loader())
    for _ in range(given_up):
        next(batches)
    assert given_up == 6 or loader_threads()
    del batches
    gc.collect()
    assert not loader_threads()


def test_no_more_than_the_asked_depth_is_computed_ahead():
    started = []
    gate = threading.Semaphore(0)

    def note(item):
        started.append(item)
        gate.release()
        return item

    results = prefetched(note, range(10), depth=3)
    assert next(results) == 0
    for _ in range(4):  # items 0 to 3: one given, three ahead
        assert gate.acquire(timeout=300)
    assert not gate.acquire(timeout=0.2)
    assert started == [0, 1, 2, 3]
    results.close()
    assert not loader_threads()


def test_statistics_are_those_of_all_pixels():
    mean, std = channel_statistics(DATA)
    pixels = DATA.images.transpose(1, 0, 2, 3).reshape(3, -1) / 255
    assert_statistics(mean, std, pixels)


def test_statistics_do_not_lose_a_small_spread_on_a_bright_background():
    images = np.full((700, 3, 32, 32), 255, np.uint8)
    images[699, :, 0, 0] = 254
    flat = Dataset(images, np.zeros(700, np.int64), np.zeros(700, np.int64), ("a",), 1)
    n = 700 * 1024
    want = np.full(3, np.sqrt(n - 1) / n / 255)
    assert_close(channel_statistics(flat)[1], want, terms(8, want))


# --- augmentation -------------------------------------------------------------------------------


def windows(image, pad):
    padded = np.zeros((3, 32 + 2 * pad, 32 + 2 * pad), np.uint8)
    padded[:, pad : pad + 32, pad : pad + 32] = image
    for top, left in itertools.product(range(2 * pad + 1), repeat=2):
        yield (top, left), padded[:, top : top + 32, left : left + 32]


@given(seed=st.integers(0, 10**6), pad=st.sampled_from([1, 4]))
@settings(max_examples=10)
def test_augmentation_is_a_flip_and_a_crop_and_nothing_else(seed, pad):
    before = DATA.images.copy()
    got = Compose(RandomFlip(), PadCrop(pad))(DATA.images, np.random.default_rng(seed))
    np.testing.assert_array_equal(DATA.images, before)
    assert got.dtype == np.uint8
    for image, result in zip(DATA.images, got, strict=True):
        views = (image, image[..., ::-1])
        assert sum((cut == result).all() for view in views for _, cut in windows(view, pad)) == 1


def test_each_batch_of_an_epoch_is_augmented_by_draws_of_its_own():
    same = Dataset(np.repeat(DATA.images[:1], 8, axis=0), *(np.zeros(8, np.int64),) * 2, ("a",), 1)
    load = Loader(same, 4, mean=MEAN, std=STD, augment=PadCrop(4), rng=np.random.default_rng(0))
    one, two = (x.tobytes() for x, _, _ in load)
    assert one != two


def test_every_crop_and_both_orientations_are_drawn_evenly():
    n = 8100
    image = DATA.images[0]
    crops = PadCrop(4)(np.broadcast_to(image, (n, 3, 32, 32)), np.random.default_rng(0))
    keys = {cut.tobytes(): place for place, cut in windows(image, 4)}
    counts = np.zeros((9, 9), int)
    for crop in crops:
        counts[keys[crop.tobytes()]] += 1
    assert counts.min() > 60  # 100 expected each, standard deviation 10
    assert counts.max() < 140
    flips = RandomFlip(0.3)(np.broadcast_to(image, (1000, 3, 32, 32)), np.random.default_rng(0))
    flipped = (flips == image[..., ::-1]).all(axis=(1, 2, 3)).sum()
    assert 250 < flipped < 350
    assert flipped + (flips == image).all(axis=(1, 2, 3)).sum() == 1000


def test_augmentations_refuse_arguments_out_of_range_and_say_what_they_are():
    with pytest.raises(ValueError, match=r"RandomFlip: p must be in \[0, 1\], got 2"):
        RandomFlip(2)
    with pytest.raises(ValueError, match=r"PadCrop: pad must be at least 1, got 0"):
        PadCrop(0)
    assert repr(Compose(RandomFlip(), PadCrop(4))) == "Compose(RandomFlip(p=0.5), PadCrop(4))"
