"""Promise 16: a signal's handler, another thread or a forked child that computes changes no other's numbers."""

import gc
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl import SGD, LeNet, SoftmaxCrossEntropy, norm_factory, parallel, threads, use_backend

BACKENDS = pytest.mark.parametrize("library", ["numpy", "numba"], indirect=True)


def steps(count, seed=0, norm="mn", between=lambda: None):
    """Train a network for some steps; return its parameters."""
    rng = np.random.default_rng(seed)
    net = LeNet(10, norm=norm_factory(norm), rng=rng)
    loss, optimiser = SoftmaxCrossEntropy(), SGD(net, lr=0.05, momentum=0.9)
    x, labels = rng.random((32, 3, 32, 32), dtype=np.float32), rng.integers(0, 10, 32)
    for _ in range(count):
        loss.forward(net(x), labels)
        optimiser.zero_grad()
        net.backward(loss.backward())
        optimiser.step()
        between()
    return net.state()


def assert_same(got, wanted):
    for name, array in wanted.items():
        np.testing.assert_array_equal(got[name], array, name)


@BACKENDS
@pytest.mark.parametrize("n", [1, 2])
def test_a_handler_that_evaluates_another_network_changes_nothing(library, n):
    other = LeNet(10, norm=norm_factory("bn"), rng=1).eval()
    images = np.random.default_rng(1).random((32, 3, 32, 32), dtype=np.float32)
    with threads(n):  # BLAS on one thread: on several its products may have other bits
        wanted_logits = other(images)
    count, wrong, over = 0, [], False

    def handler(signum, frame):
        nonlocal count
        count += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        if not np.array_equal(other(images), wanted_logits):
            wrong.append(count)
        if not over:
            signal.setitimer(signal.ITIMER_REAL, 0.0005 * (1 + count % 7))

    with threads(n):
        wanted = steps(12)
        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            for _ in range(100):  # a fast machine takes the steps between a few signals
                assert_same(steps(12), wanted)
                if count > 5:
                    break
        finally:
            over = True  # first: else a last signal would set the timer again, and end the process
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert count > 5, "the handler came in between"
    assert wrong == []


@BACKENDS
def test_networks_on_many_threads_at_once_are_those_of_one_after_the_other(library):
    with threads(2):
        wanted = [steps(4, seed, norm) for seed, norm in enumerate(["mn", "bn", "gn", "mgn"])]
    got = [None] * 4

    def work(seed, norm):
        got[seed] = steps(4, seed, norm)

    with threads(2):
        workers = [threading.Thread(target=work, args=each) for each in enumerate(["mn", "bn", "gn", "mgn"])]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    for one, other in zip(got, wanted, strict=True):
        assert_same(one, other)


def test_blocks_of_threads_that_overlap_leave_what_was_before():
    from minidl.parallel import get_num_threads

    def blas():
        from threadpoolctl import threadpool_info

        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before, blas_before = get_num_threads(), blas()
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()
    inside = []

    def first():
        with threads(3):
            first_in.set()
            second_in.wait(300)
        first_out.set()

    def second():
        first_in.wait(300)
        with threads(2):
            second_in.set()
            first_out.wait(300)
            inside.append((get_num_threads(), blas()))

    workers = [threading.Thread(target=each) for each in (first, second)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert get_num_threads() == before
    assert blas() == blas_before
    assert all(count == 1 for count in inside[0][1]), "BLAS stays at one while a block is open"


def test_backends_asked_for_on_two_threads_do_not_mix():
    from minidl.backend import default_name

    pytest.importorskip("numba", reason="needs two backends on the CPU")
    barrier = threading.Barrier(2, timeout=300)
    seen = {}

    def work(name):
        with use_backend(name):
            barrier.wait()
            seen[name] = default_name()
            barrier.wait()
        barrier.wait()
        seen[f"after {name}"] = default_name()

    before = default_name()
    workers = [threading.Thread(target=work, args=[name]) for name in ("numpy", "numba")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert seen == {"numpy": "numpy", "numba": "numba", "after numpy": before, "after numba": before}
    assert default_name() == before


CHILD = """
import os, signal, sys, warnings
sys.path[:0] = {paths!r}
warnings.simplefilter("ignore")  # newer Pythons warn of forking with threads: that is what is tried here
import numpy as np
from tiny_run import make_tiny, tiny_config, tiny_task, train, result
from minidl.models import MODELS
from minidl.train import RunError, Trainer, plots
MODELS["tiny"] = make_tiny
plots.draw_run = lambda *args: None
signal.alarm(300)  # ends what hangs
"""


def python(folder, program):
    paths = Path(minidl.__file__).parents[1], Path(__file__).parents[1] / "train"
    head = CHILD.format(paths=list(map(str, paths)))
    done = subprocess.run(
        [sys.executable, "-c", head + program], cwd=folder, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr


def test_with_an_inherited_iterator_it_gets_the_same_batches(tmp_path):
    python(
        tmp_path,
        """
trainer = Trainer(tiny_config(), quiet=True, task=tiny_task())
batches = [x.tobytes() for x, _, _ in Trainer(tiny_config(), quiet=True, task=tiny_task())._loader]
loader = iter(trainer._loader)
assert next(loader)[0].tobytes() == batches[0]
child = os.fork()
assert [x.tobytes() for x, _, _ in loader] == batches[1:]
if child == 0:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
""",
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_its_training_is_that_of_any_process_and_the_parent_notices(tmp_path, threads):
    python(
        tmp_path,
        f"""
from pathlib import Path
train(Path("whole"), threads={threads})
trainer = train(Path("run"), until=7, threads={threads})
if (child := os.fork()) == 0:
    trainer.run()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert result(Path("run")) == result(Path("whole"))
try:
    trainer.run()
except RunError as error:
    assert "another Trainer went on with the run" in str(error)
else:
    raise AssertionError("the parent wrote as well")
""",
    )


@pytest.mark.parametrize("taken", [True, False], ids=["a helper has begun a block", "no helper has"])
def test_a_child_that_a_handler_forks_within_a_parallel_pass_and_returns_to_ends_it_or_says_why_not(tmp_path, taken):
    python(
        tmp_path,
        f"""
import threading
from minidl import parallel, threads
begun, go_on, done, children = threading.Event(), threading.Event(), [], []

def handler(signum, frame):
    children.append(os.fork())
    go_on.set()

def task(i):
    if i == 0:  # the first block is its giver's, the last a helper's
        assert not {taken} or begun.wait(300)
        signal.raise_signal(signal.SIGUSR1)
    elif threading.current_thread() is not threading.main_thread():
        begun.set()
        go_on.wait(300)
    done.append(i)

signal.signal(signal.SIGUSR1, handler)
with threads(2):
    parallel.run(lambda i: None, 2)  # the threads have started
    help = parallel._Job.help
    if not {taken}:
        parallel._Job.help = lambda self: None
    try:
        parallel.run(task, 3)
    except RuntimeError as error:
        assert children == [0] and {taken}, error
        assert "was forked by a signal's handler within a parallel pass" in str(error)
    else:
        assert sorted(done) == [0, 1, 2] and (children != [0] or not {taken})
    del done[:]
    parallel._Job.help = help
    parallel.run(done.append, 9)
    assert sorted(done) == list(range(9))
if children == [0]:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
""",
    )


class LeavingError(Exception):
    pass


@BACKENDS
@pytest.mark.parametrize("n", [1, 2])
def test_an_interrupt_within_a_parallel_pass_leaves_nothing_half_written(library, n):
    """Whatever pass of a step a handler's exception leaves, the workers end theirs, and the next step is right."""
    rng = np.random.default_rng(0)
    net = LeNet(10, norm=norm_factory("mn"), rng=rng)
    loss, optimiser = SoftmaxCrossEntropy(), SGD(net, lr=0.05, momentum=0.9)
    x, labels = rng.random((64, 3, 32, 32), dtype=np.float32), rng.integers(0, 10, 64)

    def gradients():
        net.load_state(start)
        value = loss.forward(net(x), labels)
        optimiser.zero_grad()
        net.backward(loss.backward())
        return [value, *(grad.copy() for _, layer in net.named_layers() for grad in layer.grads.values())]

    def handler(signum, frame):
        raise LeavingError

    with threads(n):
        start = net.state()
        wanted = gradients()
        begun = time.perf_counter()
        gradients()
        step = time.perf_counter() - begun
        before = signal.signal(signal.SIGALRM, handler)
        interrupted = 0
        gc.disable()  # what it calls may not be left by an exception
        try:
            for turn in range(60):
                try:
                    signal.setitimer(signal.ITIMER_REAL, step * (1 + turn % 30) / 30)
                    gradients()
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except LeavingError:
                    interrupted += 1
                values = [array.copy() for array in net.state().values()]
                time.sleep(0.002)  # a worker that still wrote would be seen
                for one, other in zip(values, net.state().values(), strict=True):
                    np.testing.assert_array_equal(one, other)
                begun = time.perf_counter()
                again = gradients()
                step = time.perf_counter() - begun  # anew: one of them may take long on a machine with other work
                for one, other in zip(again, wanted, strict=True):
                    np.testing.assert_array_equal(one, other)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            gc.enable()
    assert interrupted > 5, "it came in between"


def test_an_interrupt_waits_for_the_blocks_that_are_under_way_and_starts_no_more():
    both, interrupted = threading.Barrier(2, timeout=300), threading.Event()
    begun, written = [], []

    def task(i):
        begun.append(i)
        both.wait()  # two threads, a block each
        if threading.current_thread() is threading.main_thread():
            written.append(i)
            signal.setitimer(signal.ITIMER_REAL, 0.05)  # by then it waits for the other
        else:
            assert interrupted.wait(300)
            time.sleep(0.2)
            written.append(i)

    def handler(signum, frame):
        interrupted.set()
        raise LeavingError

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with threads(2):
            with pytest.raises(LeavingError):
                parallel.run(task, 2)
            assert sorted(written) == sorted(begun) == [0, 1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
