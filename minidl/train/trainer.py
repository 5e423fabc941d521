"""The training loop: updates, evaluations, checkpoints, and its end. What comes before is in `minidl.train.prepare`."""

import math
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import nullcontext
from typing import Any

import numpy as np

from ..arguments import whole
from ..backend import Array
from ..data.loader import Batch
from ..parallel import threads
from . import diverged, finish, late, restore, stages
from .config import digest
from .evaluate import evaluate
from .finite import DivergedError, gradient_sum
from .prepare import PreparedRun
from .record import RunError, describe_evaluation
from .running import NotFiniteError
from .saved import check_as_made
from .signals import StoppedError, StopSignal
from .span import LONGEST, ConfigError


class Trainer(PreparedRun):
    """Trains one network on one task as a configuration says.

    Everything random comes from `SeedSequence(seed).spawn`: one generator for the weights, one for the order of the
    data and its augmentation, one for dropout. The same configuration gives the same bytes, for any number of threads.

    Parameters
    ----------
    config : Config
    out : path, optional
        Where to keep the run; nothing is written without it.
    resume : bool
        Continue the run in `out` where its newest whole checkpoint stands. With a longer `config.length` than it had
        it is extended: from there on the learning rate is that of a run of this length at the same update.
    quiet : bool
        Print nothing and show no bar.
    task : Task, optional
        Data to train on instead of the task that `config` names.
    model : Layer, or a function or class that makes one, optional
        The network to train instead of the one that `config` names, as it is; or called as those of `minidl.models`,
        with those of num_classes, in_channels, norm, rng and dtype that it names.
    optimiser : object, or a function of the model that makes one, optional
        With lr, step, zero_grad, state and load_state, as `minidl.SGD`; instead of the one that `config` describes.
        Its rate follows the schedule of `config`, and must be `config.lr` at first.
    across : Communicator, optional
        The processes that share each batch, each with a Trainer that is given the same; rank 0 alone writes and speaks.
    changed_code : bool
        With `resume`: go on although the file of code of one's own has changed; config.json notes both sha256 and the
        update.

    Attributes
    ----------
    model, optimiser, task
        Ready to use before, between and after calls of `run`.
    state : State
        What training goes on from; `step`, `history` and `best` are read from it.
    total : int
        Updates to be done.

    Raises
    ------
    ConfigError, RunError, CheckpointError, DataError, BackendError, MissingLibraryError
        With one line that names the cure.

    Examples
    --------
    >>> from minidl.train import Trainer, recipe
    >>> from dataclasses import replace
    >>> config = replace(recipe("lenet", "multitask"), sample=True, length="2u", batch_size=8, norm="bn")
    >>> trainer = Trainer(config, quiet=True)
    >>> trainer.run()["last"]["step"]
    2
    """

    def run(
        self, until: int | None = None, on_evaluation: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """Train until the end, or until update `until`; evaluate, log and save on the way.

        Parameters
        ----------
        until : int, optional
            Stop after this update, saved; another `run`, here or in a resumed Trainer, goes on bit for bit.
        on_evaluation : callable, optional
            Called with each evaluation.

        Returns
        -------
        dict
            The summary: "status", the "last" and the "best" evaluation, and what the run cost.

        Raises
        ------
        StoppedError
            After SIGINT or SIGTERM, with the state saved.
        DivergedError
            If the loss or a gradient is not finite, or an evaluation; the checkpoints from before stay.
        ConfigError
            If `until` is no whole number.
        RunError
            If an exception ended the last call within an update, or another process trains in the folder.
        """
        if self._torn:
            raise RunError(f"the last run ended within update {self.step + 1}; make a new Trainer with resume=True")
        if until is not None:
            try:
                until = whole(until, "run: until", 0, "pass a number of updates, such as trainer.total // 2", LONGEST)
            except ValueError as error:
                raise ConfigError(str(error)) from error
        until = self.total if until is None else min(until, self.total)
        self._loader.load_state(self._loader.state())  # go on within the epoch
        batches = self._batches()
        self._started = self._lap = time.perf_counter()
        self._lap_step = self.step
        with (
            self.folder or nullcontext(),
            self._backend(),
            threads(self.config.threads),
            warnings.catch_warnings(),
            np.errstate(all="ignore"),  # whatever the caller's are: overflow leads to DivergedError, which says more
            StopSignal() as stop,
        ):
            warnings.simplefilter("ignore", RuntimeWarning)  # the threads have the usual ones
            self._board.begin(self.step)
            self.progress.start(self.step * self.config.batch_size, self.total * self.config.batch_size)
            try:
                while True:
                    if self._evaluation_due() and (evaluation := self._evaluate(stop)) and on_evaluation:
                        on_evaluation(evaluation)
                    if self._checkpoint_due():
                        self.save()
                    received = self._across.largest(stop.received or 0)
                    if received and not self._finished():
                        raise self._interrupted(received)
                    if self.step >= until:
                        break
                    self._torn = True
                    self._update(*next(batches))
                    self._torn = False
                    self._losses.write_now_and_then(self.step)
                self.save()
            except DivergedError as error:
                if self._own and self.folder is not None and self._saved[0] and self.step > self._began:
                    error.args = (f"{error}; --from {self.folder.path} starts it with the weights that were saved",)
                raise
            except SystemExit as error:
                late.explain_exit(error, self._own, self.step, self._kept())
                raise
            except Exception as error:
                late.explain(error, self.model, self._own, self.step, self._across.size == 1, self._kept())
                raise
            finally:
                batches.close()
                self.progress.close()
                self._board.close()
                self.state.seconds += time.perf_counter() - self._started
            return self._finish()

    def _kept(self) -> str:
        """Return how a new run starts with what this one has saved."""
        return late.kept(None if self.folder is None else self.folder.path)

    def _batches(self) -> Generator[Batch, None, None]:
        while True:
            yield from self._loader

    def _update(self, x: Array, labels: Array, source: Array) -> None:
        """Take one step of gradient descent on one batch."""
        if self._auto is not None:
            self._auto.before(self.step, x, labels)
        drawn = self._dropout.bit_generator.state
        logits = self.model.forward(x)
        loss = self._criterion.forward(logits, labels)
        self._together.after_forward(loss)
        self.optimiser.zero_grad()
        self.model.backward(self._together.cotangent(self._criterion.backward()))
        loss = self._together.after_backward(loss)
        self.optimiser.lr = self._schedule(self.step)
        try:
            shown = self._running.add(self.step + 1, loss, gradient_sum(self.model), logits, labels)
        except NotFiniteError as error:
            self._dropout.bit_generator.state = drawn
            # on a device it may have been an earlier update, whose batch is gone
            raise self._diverged(error, *((x, labels) if error.update == self.step + 1 else ())) from error
        self.optimiser.step()
        self.state.step += 1
        if self._auto is not None:
            self._auto.after(self.step)
        self._unshown += self.config.batch_size
        if shown:
            self.progress.update(self._unshown, self._running)
            self._unshown = 0

    def _read(self) -> None:
        """Fetch the losses that are still on the device."""
        try:
            self._running.read()
        except NotFiniteError as error:
            raise self._diverged(error) from error

    def _diverged(self, error: NotFiniteError, x: Array = None, labels: Array = None) -> DivergedError:
        random = {"dropout": self._dropout.bit_generator.state}
        step = error.update - 1
        lr, own, cure = self._schedule(step), self._own, self._cure(step)
        x, labels = self._together.part_ways(x, labels)
        return diverged.in_update(error, lr, self.model, self._criterion, self.folder, random, x, labels, own, cure)

    def _cure(self, step: int) -> str | None:
        """Return what to do where numbers after `step` updates are not finite, if no rate had any part in them."""
        if step > self._began:
            return None
        return diverged.before_the_rate(self.config, self._began, self.folder, self._own)

    def _evaluation_due(self) -> bool:
        return self.state.evaluated < self.step and (self._is_due(self.step))

    def _is_due(self, step: int) -> bool:
        return step % self._eval_every() == 0 or step in (self.total, *stages.ends(self._earlier))

    def _checkpoint_due(self) -> bool:
        return self.step % (self.config.checkpoint_every or len(self._loader)) == 0

    def _finished(self) -> bool:
        return self.state.evaluated == self.total

    def _evaluate(self, stop: StopSignal) -> dict[str, Any] | None:
        """Measure the test error and log it; None if a signal came meanwhile."""
        self._read()
        self._losses.write()
        now = time.perf_counter()
        rate = (self.step - self._lap_step) * self.config.batch_size / (now - self._lap)
        sources = self.task.test.sources
        stopped, total = (lambda: stop.received is not None), self._across.total
        result = evaluate(self.model, self._test_loader, sources, stopped, self.task.top5, total=total)
        if result is None:
            return None
        if not math.isfinite(result.get("test_loss", 0.0)):
            raise diverged.in_evaluation(
                result["test_loss"], self.step, self.model, self._test_loader, self._own, self._cure(self.step)
            )
        self._lap, self._lap_step = time.perf_counter(), self.step
        evaluation = {
            "step": self.step,
            **self._describe_update(self.step),
            "train_loss": self._running.loss,
            "train_error": self._running.error,
            **result,
            **({"modes": self._auto.modes()} if self._auto is not None else {}),
            "seconds": round(self.state.seconds + self._lap - self._started, 3),
            "images_per_second": round(rate, 1),
        }
        if self.folder is not None:
            self.folder.append(evaluation)  # first: where it fails, the evaluation is due again
        self._board.evaluation(evaluation)
        self._running.reset()
        self.state.evaluated = self.step
        self.history.append(evaluation)
        if self.best is None or evaluation["test_error"] < self.best["test_error"]:
            self.state.best = restore.timeless(evaluation)
        loss, rate = evaluation["train_loss"], evaluation["images_per_second"]
        self.progress.say(f"{describe_evaluation(evaluation)}, training loss {loss:.3f}, {rate:.0f} images/s")
        return evaluation

    def save(self) -> None:
        """Write a checkpoint, if there is a folder and this state is not in it yet.

        Raises
        ------
        DivergedError
            If the loss or an array of the model is not finite: nothing is written then.
        LateError
            If an array of a layer of one's own came, went or changed its shape or dtype: likewise.
        """
        self._read()
        self._losses.write(lasting=True)
        if self.folder is None or self._saved == (self.step, self.state.evaluated):
            return
        check_as_made(self.model, self._made, self._own, self.step, self._kept())
        tensors = self.state.tensors()
        diverged.check_state(tensors, self.step, self._own)
        meta = {"identity_sha256": digest(self._identity), "run": self._about, **self.state.meta()}
        self.folder.save(self.step, tensors, meta)
        self._saved = (self.step, self.state.evaluated)

    def _interrupted(self, signum: int) -> StoppedError:
        self.save()
        kept = ""
        if self.folder is not None and self._saved[0]:
            kept = f", saved in {self.folder.path}; --resume goes on from there"
        elif self.folder is not None:
            kept = f", before {self.folder.path} had a checkpoint; --resume starts it"
        return StoppedError(signum, f"stopped after update {self.step} of {self.total}{kept}")

    def _finish(self) -> dict[str, Any]:
        """Return the summary; at the end of the run also write it, with the curves."""
        summary = {
            "status": "finished" if self._finished() else "partial",
            "step": self.step,
            **finish.summarise(self.history, self.best, self.model, self.state.seconds, self.config),
        }
        if self.folder is not None and self._finished():
            self.folder.write_summary(summary)
            plan = {**self._plan, "lr_drops_after_updates": stages.drops(self._plan, self._earlier)}
            finish.draw(self.folder, self.history, plan, self.config.name(), self.progress.warn)
        return summary
