"""Running what is missing: several runs side by side, interrupted ones resumed, finished ones left alone."""

import signal
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minidl.reproduce.farm import AtWork, Start, hired
from minidl.reproduce.plan import Run
from minidl.reproduce.provenance import duration
from minidl.reproduce.run_process import BusyError, why_not_started
from minidl.reproduce.show import Show
from minidl.reproduce.store import Data, Store, StoredRun, run_hash
from minidl.train.build import make_plan
from minidl.train.record import RunError, read_metrics
from minidl.train.signals import StoppedError, StopSignal

POLL = 0.1  # seconds
LOOK = 2.0  # seconds between two readings of the logs


@dataclass(frozen=True)
class Job:
    """A planned run, what is stored of it, and where it belongs."""

    run: Run
    path: Path
    stored: StoredRun | None
    images: int  # that it trains on, repeats counted

    @property
    def state(self) -> str:
        """One of done, resume, run."""
        if self.stored is None:
            return "run"
        return "resume" if self.stored.summary is None else "done"

    def images_done(self) -> int:
        """Return how many its log has."""
        try:
            history = read_metrics(self.path / "metrics.jsonl")
        except RunError:  # the run itself will say so
            return 0
        return int(history[-1]["touches"]) if history else 0


def jobs_of(planned: Sequence[Run], store: Store, data: Data) -> list[Job]:
    """Return what has to be done for the planned runs, in their order."""
    there = store.read()
    jobs = []
    for run in planned:
        stored = there.get(run_hash(run.config, data))
        path = stored.path if stored else store.path_of(run.config, data)
        batches = sum(data["train_images"].values()) // run.config.batch_size
        jobs.append(Job(run, path, stored, make_plan(run.config, batches)["touches"] if batches else 0))
    return jobs


def run_jobs(jobs: Sequence[Job], side_by_side: int) -> list[str]:
    """Run those that are not done, at most `side_by_side` at a time; return a line for each that failed.

    Raises
    ------
    StoppedError
        After SIGINT or SIGTERM, once all have saved. A second one ends them at once, as KeyboardInterrupt.
    """
    todo = [job for job in jobs if job.state != "done"]
    with hired() as start:
        pool = _Pool(todo, side_by_side, start)
        try:
            with StopSignal() as stop:
                while pool.work(stop.received):
                    time.sleep(POLL)
        finally:
            pool.kill()
            pool.show.close()
    if stop.received is not None and pool.unfinished:
        raise StoppedError(
            stop.received,
            f"stopped with {len(pool.unfinished)} of {len(todo)} runs unfinished, saved; the same command continues",
        )
    return pool.failures


class _Pool:
    """The processes that run and the jobs that wait for one."""

    def __init__(self, todo: Sequence[Job], size: int, start: Start) -> None:
        self._start_run = start
        self.waiting, self.size, self.total = deque(todo), size, len(todo)
        self.processes: dict[AtWork, Job] = {}
        self.failures: list[str] = []
        self.unfinished = list(todo)
        self.images = {job.path: job.images_done() for job in todo}
        self.show = Show(sum(job.images for job in todo), sum(self.images.values()))
        self._looked = 0.0
        self._stopping = False

    def work(self, stopped_by: int | None) -> bool:
        """Start and collect processes; return whether anything is left to wait for."""
        if stopped_by is not None and not self._stopping:
            self._stopping = True
            self.show.say(f"{signal.Signals(stopped_by).name}: the runs save and stop; once more ends them at once")
            for process in self.processes:
                process.stop()
        for process in [process for process in self.processes if process.status() is not None]:
            self._collect(process, self.processes.pop(process))
        while self.waiting and len(self.processes) < self.size and not self._stopping:
            self._start(self.waiting.popleft())
        if time.monotonic() > self._looked + LOOK:
            self._looked = time.monotonic()
            self.images |= {job.path: job.images_done() for job in self.processes.values()}
            self._update()
        return bool(self.processes or (self.waiting and not self._stopping))

    def kill(self) -> None:
        """End every process that still runs."""
        for process in self.processes:
            process.kill()

    def _start(self, job: Job) -> None:
        try:
            self.processes[self._start_run(job.run.config, job.path)] = job
        except (BusyError, OSError) as error:
            self._fail(job, why_not_started(error))
        else:
            self.show.say(f"{'resuming' if job.state == 'resume' else 'starting'} {job.run.label}: {job.path}")

    def _collect(self, process: AtWork, job: Job) -> None:
        if process.status() == 0:
            self._finished(job)
        elif not self._stopping:
            self._fail(job, f"{process.last_words()} ({job.path / 'log.txt'})")

    def _finished(self, job: Job) -> None:
        self.unfinished.remove(job)
        self.images[job.path] = job.images
        self._update()
        last = read_metrics(job.path / "metrics.jsonl")[-1]
        self.show.say(
            f"[{self.total - len(self.unfinished)}/{self.total}] {job.run.label}: test error at the end "
            f"{last['test_error']:.2f} %, {duration(last['seconds'])}{self.show.time_left()}"
        )

    def _fail(self, job: Job, why: str) -> None:
        self.failures.append(f"{job.run.label} failed: {why}")
        self.show.say(self.failures[-1])

    def _update(self) -> None:
        self.show.update(sum(self.images.values()), [job.run.label for job in self.processes.values()])
