"""Ranks as threads of one process: the same calls as over MPI, with nothing to install and nothing to start."""

import pickle
import threading

import numpy as np

from minidl.backend import array_module, to_device, to_host
from minidl.distributed import Communicator
from minidl.distributed.communicator import Pending


class Ranks:
    """What so many threads exchange; `run` starts them."""

    def __init__(self, size):
        self.size = size
        self.barrier = threading.Barrier(size, timeout=300)
        self.slots = [None] * size

    def run(self, function):
        """Return function(communicator) of each rank, in their order; the first exception is raised here."""
        results, errors = [None] * self.size, []

        def work(rank):
            try:
                results[rank] = function(OfThread(self, rank))
            except threading.BrokenBarrierError:
                pass  # another rank's exception
            except BaseException as error:
                errors.append(error)
                self.barrier.abort()

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results


class OfThread(Communicator):
    """One of the threads."""

    def __init__(self, ranks, rank):
        self.rank, self.size = rank, ranks.size
        self.local_rank, self.local_size = rank, ranks.size
        self._ranks = ranks

    def _exchange(self, thing):
        self._ranks.slots[self.rank] = thing
        self._ranks.barrier.wait()
        found = list(self._ranks.slots)
        self._ranks.barrier.wait()
        return found

    def start_total(self, array):
        self.messages, self.bytes = self.messages + 1, self.bytes + array.nbytes
        array[...] = to_device(sum(self._exchange(np.array(to_host(array)))), like=array)
        return Pending()

    def each(self, *arrays):
        xp = array_module(*(array for array in arrays if hasattr(array, "get")))
        host = [np.array(to_host(array), np.float64) for array in arrays]
        self.messages += 1
        self.bytes += sum(each.nbytes for each in host)
        return tuple(
            xp.asarray(np.stack(column)) if xp is np else to_device(np.stack(column), like=xp.empty(0))
            for column in zip(*self._exchange(host), strict=True)
        )

    def total(self, *arrays):
        return tuple(each.sum(axis=0) for each in self.each(*arrays))

    def largest(self, number):
        return max(self._exchange(number))

    def broadcast(self, thing):
        return pickle.loads(pickle.dumps(self._exchange(thing)[0]))  # a copy, as over MPI

    def gather(self, thing):
        found = self._exchange(thing)
        return found if self.rank == 0 else None

    def barrier(self):
        self._exchange(None)
