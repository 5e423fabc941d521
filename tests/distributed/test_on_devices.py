"""Ranks with a GPU each: the calls of NCCL and the staging through the host, over the stand-in for CuPy.

Not tested here: NCCL itself, streams and events that are truly asynchronous, and sums over several GPUs.
"""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
import strict
from threaded import OfThread, Ranks
from tiny_run import tiny_config, tiny_task
from tolerance import assert_close, rounding

from minidl import use_backend
from minidl.backend import to_device, to_host
from minidl.distributed.mpi import _cut, _flat
from minidl.distributed.nccl import NCCLCommunicator, why_no_nccl
from minidl.train import Trainer

DTYPES = {7: np.float32, 8: np.float64}  # NCCL's own numbers


class Stream:
    """Notes what is recorded and waited for; all that is asked of it is done at once."""

    def __init__(self, non_blocking=False):
        assert non_blocking
        self.ptr, self.waited = 1234, []

    def record(self):
        return "event"

    def wait_event(self, event):
        self.waited.append(event)


def memory(pointer, count, kind):
    size = count * np.dtype(DTYPES[kind]).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(pointer), DTYPES[kind])


class OfNCCL:
    """`cupy.cuda.nccl.NcclCommunicator` among threads, by the pointers that it is given."""

    def __init__(self, size, identifier, rank):
        self._thread = THREADS[identifier][rank]
        assert self._thread.size == size

    def allReduce(self, send, receive, count, kind, op, stream):
        assert (op, stream) == (0, 1234)
        total = sum(self._thread._exchange(memory(send, count, kind).copy()))
        memory(receive, count, kind)[...] = total

    def allGather(self, send, receive, count, kind, stream):
        found = np.concatenate(self._thread._exchange(memory(send, count, kind).copy()))
        memory(receive, found.size, kind)[...] = found


THREADS = {}


class OfDevice(OfThread):
    """A thread whose device arrays go over the stand-in for NCCL."""

    def on_device(self):
        identifier = id(self._ranks)
        everyone = self._exchange(self)
        THREADS[identifier] = everyone
        strict.cuda.nccl.get_unique_id = lambda: identifier
        return NCCLCommunicator(self)


@pytest.fixture
def nccl(monkeypatch):
    """CuPy's stand-in with NCCL, and pointers to what is its arrays' memory."""
    module = SimpleNamespace(
        available=True, NcclCommunicator=OfNCCL, NCCL_SUM=0, NCCL_FLOAT32=7, NCCL_FLOAT64=8, get_unique_id=None
    )
    stream = Stream(non_blocking=True)
    stream.synchronize = lambda: None
    monkeypatch.setattr(strict.cuda, "nccl", module, raising=False)
    monkeypatch.setattr(strict.cuda, "Stream", Stream)
    monkeypatch.setattr(strict.cuda, "get_current_stream", lambda: stream)
    pointer = property(lambda self: SimpleNamespace(ptr=self._memory.ctypes.data))
    monkeypatch.setattr(strict.ndarray, "data", pointer, raising=False)
    with strict.as_cupy(), use_backend("cupy"):
        yield module


def trained(size, kind=OfThread, **changes):
    config = tiny_config(dtype="float64", backend="cupy", **changes)

    def rank(across):
        across.__class__ = kind
        trainer = Trainer(config, None, False, True, tiny_task(), across=across)
        trainer.run(3)
        return trainer

    return Ranks(size).run(rank)


@pytest.mark.parametrize("changes", [{"norm": "bn"}, {"norm": "mn", "sync_norm": True}], ids=str)
def test_sums_over_nccl_are_those_of_ranks_on_the_host(nccl, changes):
    over_host = [trainer.state.tensors() for trainer in trained(2, **changes)]
    over_nccl = [trainer.state.tensors() for trainer in trained(2, OfDevice, **changes)]
    for host, device in zip(over_host, over_nccl, strict=True):
        for name, array in host.items():
            np.testing.assert_array_equal(device[name], array)


def test_gradients_wait_in_a_stream_of_their_own(nccl):
    def rank(across):
        across.__class__ = OfDevice
        arrays = across.on_device()
        row = to_device(np.arange(4.0))
        pending = arrays.start_total(row)
        assert arrays._stream.waited == ["event"]  # for what computes the gradients
        before = list(strict.cuda.get_current_stream().waited)
        pending.wait()
        assert strict.cuda.get_current_stream().waited[len(before) :].count("event") >= 1
        (total,) = arrays.total(to_device(np.ones(3)))
        (each,) = arrays.each(to_device(np.full(2, float(across.rank))))
        return [to_host(array).tolist() for array in (row, total, each)]

    assert Ranks(2).run(rank) == [[[0, 2, 4, 6], [2, 2, 2], [[0, 0], [1, 1]]]] * 2


def test_nccl_needs_a_gpu_for_each_rank_of_a_machine(nccl):
    assert why_no_nccl(2) is None
    assert why_no_nccl(3) == "3 ranks share 2 GPUs; NCCL needs one for each"
    nccl.available = False
    assert why_no_nccl(1) == "this CuPy has no NCCL"


def test_ranks_on_devices_are_one_process_to_rounding():
    with strict.as_cupy(), use_backend("cupy"):
        changes = {"norm": "mn", "sync_norm": True}
        got = trained(2, **changes)[0].state.tensors()
        (alone,) = trained(1, **changes)
        want = alone.state.tensors()

    def perturbed(**start):
        def rank(across):
            trainer = Trainer(tiny_config(dtype="float64", **changes), None, False, True, tiny_task(), across=across)
            trainer.model.load_state(start)
            trainer.run(3)
            return trainer.state.tensors()

        return Ranks(1).run(rank)[0]

    start = Trainer(tiny_config(dtype="float64", **changes), None, False, True, tiny_task()).model.state()
    tolerance = rounding(perturbed, start)
    for name, array in got.items():
        assert_close(array, want[name], tolerance[name], name)


def test_what_travels_is_cut_into_the_shapes_it_had():
    with strict.as_cupy(), use_backend("cupy"):
        arrays = (3, to_device(np.arange(6.0).reshape(2, 3)), np.float64(2))
        flat = _flat(arrays)
        assert flat.tolist() == [3, 0, 1, 2, 3, 4, 5, 2]
        count, back, last = _cut(np.stack([flat, flat]), arrays)
        assert [to_host(each).shape for each in (count, back, last)] == [(2,), (2, 2, 3), (2,)]
        assert all(isinstance(each, strict.ndarray) for each in (count, back, last))
