"""The training loop, and everything around it that makes a run repeatable: streams, evaluations, checkpoints."""

import math
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, log
from ..arguments import whole
from ..backend import Array, use_backend, use_device
from ..data import Task
from ..data.loader import Batch
from ..data.multitask import OWN
from ..distributed import ALONE, Communicator
from ..extras import require
from ..layers.base import Layer
from ..layers.show import expect
from ..losses import SoftmaxCrossEntropy
from ..parallel import threads
from . import build, checkpoint, diverged, finish, restore, rules, stages, transfer
from .checkpoint import CheckpointError
from .config import Config, digest
from .continuing import check_data, check_input, check_settings, describe_code
from .evaluate import evaluate
from .finite import DivergedError, gradient_sum
from .loss_log import LossLog, usual_interval
from .named import name_of, own_settings
from .outside import check_outside
from .progress import Progress
from .recipes import recipe
from .record import RunError, check_log, describe_evaluation
from .run_folder import RunFolder, check_same_run, own_path
from .running import NotFiniteError, Running
from .signals import StoppedError, StopSignal
from .span import LONGEST, ConfigError
from .state import State
from .tensorboard import TensorBoard, events_folder


class Trainer:
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

    def __init__(
        self,
        config: Config,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        quiet: bool = False,
        task: Task | None = None,
        model: Layer | Callable[..., Layer] | None = None,
        optimiser: Any = None,
        across: Communicator = ALONE,
    ) -> None:
        self._across = across
        rules.check_given(config, task, model, optimiser)
        if resume and out is None:
            raise ConfigError(
                "Trainer: resume=True must go with the folder of a run, got out=None; give out, or leave it"
            )
        if out is not None:
            out = own_path(out)
            require("a run that is kept", "safetensors")
            if task is None and not resume:
                check_outside("--out", out, config.task, config.data_dir)
        if config.tensorboard is not None and task is None:
            check_outside("--tensorboard", config.tensorboard, config.task, config.data_dir)
        if model is not None:
            config = replace(config, model=name_of(model))
        if task is not None and task.name in OWN:
            config = replace(config, task=task.name)
        config = self._asked = replace(config, ranks=across.size)
        self.config = config = build.for_this_machine(config, across)
        self._given = {part: thing for part, thing in (("model", model), ("optimiser", optimiser)) if thing is not None}
        self._code = describe_code(config, self._given, out if resume else None)
        self._own = own_settings(config)
        folder = None if out is None else across.of_first(lambda: RunFolder(out, resume))
        self.folder = folder if across.rank == 0 else None
        self._task_given = task is not None and (task.name in OWN or task.name != config.task)
        if folder is not None and resume:  # before the data is read, which may take a while
            asked = self._asked, self._code, self._given, self._task_given
            across.of_first(lambda: check_settings(folder, *asked))
        self.progress = Progress(quiet, speaks=across.rank == 0)
        with across.first_on_each_machine():
            self.task = task or build.find_task(config, self.progress.bars)
        streams = np.random.SeedSequence(config.seed).spawn(3)
        init, data, self._dropout = (np.random.default_rng(stream) for stream in streams)
        with self._backend():
            self._loader, self._test_loader = build.make_loaders(config, self.task, data, across.rank)
            self.model = build.make_model(config, self.task, init, self._dropout, model)
            build.check_model(self.model, config, self.task, self._test_loader.batch_size)
            expect(self.model, self.task.train.images.shape[1:])
            self.optimiser = rules.make_optimiser(config, self.model, optimiser)
            self._together = build.make_together(config, across, self.model, self.optimiser)
        self._plan = build.make_plan(config, len(self._loader))
        self._auto = rules.make_auto(config, self.model, self.optimiser, self._plan, self._dropout)
        self.total = int(self._plan["updates"])
        self._earlier: list[stages.Stage] = []
        self._schedule = stages.make_schedule(config, self._plan, self._earlier)

        self._criterion = SoftmaxCrossEntropy(config.label_smoothing)
        events = events_folder(config, self.folder) if across.rank == 0 else None
        self._board = TensorBoard(events, self.progress.warn)
        every = config.log_every or usual_interval(self.total)
        self._losses = LossLog(every, self.total, self._describe_update, self.folder, self._board.losses)
        self._running = Running(on_loss=self._losses.add, total=across.total)
        moving = self.model, self.optimiser, self._loader, self._dropout, self._running, self._losses, self._auto
        self.state = State(*moving)
        self._saved = (0, 0)  # step and evaluated of the last checkpoint
        self._unshown = 0  # batches the progress bar has not counted
        self._torn = False  # an exception came within an update: the state is that of no step
        with self._backend():
            self._open(resume)
        self._began = self.step

    @property
    def step(self) -> int:
        """Updates done."""
        return self.state.step

    @property
    def history(self) -> list[dict[str, Any]]:
        """The evaluations, as metrics.jsonl holds them."""
        return self.state.history

    @property
    def best(self) -> dict[str, Any] | None:
        """The evaluation with the lowest test error."""
        return self.state.best

    @contextmanager
    def _backend(self) -> Iterator[None]:
        """Compute on the backend and the device of the configuration."""
        with use_backend(self.config.backend or "numpy"), use_device(self.config.device):
            yield

    def _open(self, resume: bool) -> None:
        """Start or continue the run's folder, and say what is about to happen."""
        content: dict[str, Any] = {
            "minidl": __version__,
            "config": build.recorded(self._asked, self.config.backend),
            "data": build.describe_data(self.task),
            "dataset": build.describe_dataset(self.task),
            "input": build.describe_input(self.task, self._loader),
            "plan": self._plan,
            "note": build.NOTE,
        }
        if self._code:
            content["code"] = self._code
        if self._task_given:
            content["task_given"] = True
        if self.task.noted is not None:
            content["digests"] = self.task.noted.digests
        for line in self.task.describe():
            self.progress.say(line)
        with ExitStack() as held:
            if self.folder is not None and resume:
                held.enter_context(self.folder)
                content = self._resume(self.folder, content)
                now = {"backend": str(self.config.backend), "ranks": self.config.ranks}
                self.folder.go_on(now, self.step, self.progress.warn)
            elif self._across.rank == 0:
                self._start_from(content)
                if self.folder is not None:
                    self.folder.make()
                    held.enter_context(self.folder)
                    self.folder.start(content)
            self._take_part(content["data"] | content["dataset"] if "dataset" in content else content["data"])
            self._identity, self._about = build.identity(content), build.about(content)
            log.settled()
            for line in rules.ignored(self.config, Config(), recipe(self.config.model, self.config.task)):
                self.progress.warn(line)
            self.progress.say(build.describe_run(self.config, self._plan, self.model))
            if self.folder is not None:
                self.folder.keep()  # until `run` ends: no other process may come between

    def _take_part(self, data: dict[str, Any]) -> None:
        """Let all ranks begin where rank 0 does, whose folder it is, with the same data."""
        if self._across.size == 1:
            return
        meta = {**self.state.meta(), "step": self.step}
        kept = self._earlier, self.history, self.state.seconds
        of_first, tensors, meta, kept = self._across.broadcast((data, self.state.tensors(), meta, kept))
        if of_first != data:
            raise RunError("the data here is not that of rank 0; give all machines the same --data-dir")
        if self._across.rank > 0:
            self.state.restore(tensors, meta, Path("rank 0"), None)
            self._earlier, self.state.history, self.state.seconds = kept
            self._schedule = stages.make_schedule(self.config, self._plan, self._earlier)
            self._losses.ends.update(stages.ends(self._earlier))

    def _start_from(self, content: dict[str, Any]) -> None:
        """Take the weights of the run to start from, and note it."""
        if self.config.start_from is not None:
            where = content["config"]["start_from"]
            content["from"] = transfer.start_from(
                self.model, where, content["config"], self.task.num_classes, self.state.fit_modes
            )
            self.progress.say(transfer.describe(content["from"], len(self.model.state())))

    def _resume(self, folder: RunFolder, content: dict[str, Any]) -> dict[str, Any]:
        """Take over the state of the newest checkpoint; return the run's config.json, which may have a new stage."""
        folder.refuse_a_link()
        there = folder.read_config()
        if "dataset" not in there:  # a run of an earlier version
            del content["dataset"]
        for means in ("backend", "ranks"):  # the run may go on with others: RunFolder.go_on
            content["config"][means] = there["config"].get(means, getattr(Config, means))
        length, content["config"]["length"] = content["config"]["length"], there["config"]["length"]
        extended = length != content["config"]["length"]
        content |= {part: there[part] for part in (*["plan"] * extended, "stages", "from") if part in there}
        check_data(folder, there, content, self.task)
        check_input(folder, there, content)
        check_same_run(build.identity(there), build.identity(content), folder.path)
        digests = stages.digests(content)
        known = self._known(folder, content)

        def use(path: Path, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> bool:
            if not restore.is_of(meta, digests):
                raise CheckpointError(
                    f"{path} belongs to another run than {folder.config_file}" + stages.lacking(there, meta)
                )
            check_log(known.evaluations, known.every, folder.metrics_file, "evaluation", known.ends)
            if known.losses and not content.get("stages"):  # whose lines may be of other numbers of updates
                every = self.config.log_every or usual_interval(known.ends[-1])
                check_log(known.losses, every, folder.losses_file, "loss", known.ends, known.losses[0]["step"] - 1)
            self.state.restore(tensors, meta, path, known)
            return True

        found = checkpoint.use_latest(folder.checkpoints, self.progress.warn, use)
        longer = stages.begin(there, length, self._plan, self.step, folder.path) if extended else content
        if not found:
            self._start_from(content)
            check_same_run(build.identity(there), build.identity(content), folder.path)
            folder.forget_after(0, 0)
            self.progress.say(f"{folder.path} has no checkpoint yet: starting from the beginning")
        else:
            self._take_over(folder)
            if known.losses is None and self.step >= self._losses.every:
                self.progress.warn(f"{folder.losses_file} is gone, with the losses to update {self.step}: begun anew")
        if extended:
            content = longer
            folder.extend(content)
            before = content["stages"][-1]["length"]
            self.progress.say(
                f"{folder.path} is extended from {before} to {length} after update {self.step}: "
                f"from here on the learning rate is that of a run of {length}"
            )
        self._earlier = content.get("stages", [])
        self._schedule = stages.make_schedule(self.config, self._plan, self._earlier)
        self._losses.ends.update(stages.ends(self._earlier))
        return content

    def _known(self, folder: RunFolder, content: dict[str, Any]) -> restore.Known:
        """Return what is known of the run that `content` describes, for its checkpoints to agree with."""
        return restore.Known(
            batches=len(self._loader),
            batch_size=self.config.batch_size,
            every=self._eval_every(),
            ends=[*stages.ends(content.get("stages", [])), int(content["plan"]["updates"])],
            evaluations=folder.read_metrics(),
            losses=folder.read_losses() if os.path.lexists(folder.losses_file) else None,
            largest=float(np.finfo(self.config.dtype).max),
        )

    def _take_over(self, folder: RunFolder) -> None:
        """Go on from the checkpoint that was restored."""
        self._saved = (self.step, self.state.evaluated)
        self.state.history = folder.forget_after(self.state.evaluated, self.step)
        self.state.seconds = self.history[-1]["seconds"] if self.history else 0.0
        self.progress.say(f"resuming {folder.path} after update {self.step} of {self.total}")

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
            finally:
                batches.close()
                self.progress.close()
                self._board.close()
                self.state.seconds += time.perf_counter() - self._started
            return self._finish()

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

    def _describe_update(self, update: int) -> dict[str, Any]:
        """Return where in the run an update is, as its line in a log has it."""
        return {
            "epoch": update / len(self._loader),
            "touches": update * self.config.batch_size,
            "lr": self._schedule(update - 1),
        }

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

    def _eval_every(self) -> int:
        return self.config.eval_every or len(self._loader)

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
        """
        self._read()
        self._losses.write(lasting=True)
        if self.folder is None or self._saved == (self.step, self.state.evaluated):
            return
        tensors = self.state.tensors()
        diverged.check_state(tensors, self.step, self._own)
        meta = {"identity_sha256": digest(self._identity), "run": self._about, **self.state.meta()}
        self.folder.save(self.step, tensors, meta)
        self._saved = (self.step, self.state.evaluated)

    def _interrupted(self, signum: int) -> StoppedError:
        self.save()
        kept = f", saved in {self.folder.path}; --resume goes on from there" if self.folder is not None else ""
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
