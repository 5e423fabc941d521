"""A run made ready: its parts, its folder, and the state that it begins with or goes on from."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, log
from ..backend import use_backend, use_device
from ..data import Task
from ..data.multitask import OWN
from ..distributed import ALONE, Communicator
from ..extras import require
from ..layers.base import Layer
from ..layers.show import expect
from ..losses import SoftmaxCrossEntropy
from . import build, checkpoint, describe, restore, rules, stages, transfer
from .checkpoint import CheckpointError
from .config import Config
from .continuing import check_data, check_input, check_settings, describe_code, with_code
from .loss_log import LossLog, usual_interval
from .named import name_of, own_settings
from .outside import check_outside
from .progress import Progress
from .recipes import recipe
from .record import RunError, check_log
from .run_folder import RunFolder, check_same_run, own_path
from .running import Running
from .saved import kinds
from .span import ConfigError
from .state import State
from .tensorboard import TensorBoard, events_folder


class PreparedRun:
    """All that a Trainer has before its first update; its parameters, attributes and errors are those of `Trainer`.

    The parts are made from the configuration; a new run's folder is started, or the newest checkpoint that fits the
    run is taken over. How it is then trained is in `minidl.train.trainer`.
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
        changed_code: bool = False,
    ) -> None:
        self._across = across
        rules.check_given(config, task, model, optimiser)
        if resume and out is None:
            raise ConfigError(
                "Trainer: resume=True must go with the folder of a run, got out=None; give out, or leave it"
            )
        if changed_code and not resume:
            raise ConfigError("--changed-code goes with --resume: a new run takes the code as it is; leave it out")
        self._changed_code = changed_code
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
            across.of_first(lambda: check_settings(folder, *asked, changed_code))
        self.progress = Progress(quiet, speaks=across.rank == 0)
        with across.first_on_each_machine():
            self.task = task or build.find_task(config, self.progress.bars)
        streams = np.random.SeedSequence(config.seed).spawn(3)
        init, data, self._dropout = (np.random.default_rng(stream) for stream in streams)
        with self._backend():
            self._loader, self._test_loader = build.make_loaders(config, self.task, data, across.rank)
            self.model = build.make_model(config, self.task, init, self._dropout, model)
            build.check_model(self.model, config, self.task, self._test_loader.batch_size, model)
            expect(self.model, self.task.train.images.shape[1:])
            self.optimiser = rules.make_optimiser(config, self.model, optimiser)
            self._together = build.make_together(config, across, self.model, self.optimiser)
        self._made = kinds(self.model)
        self._plan = build.make_plan(config, len(self._loader))
        build.warn_of_late_drops(self._plan)
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
        self._began = self.step  # updates that had been done when this object was made

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
            "config": describe.recorded(self._asked, self.config.backend),
            "data": describe.describe_data(self.task),
            "dataset": describe.describe_dataset(self.task),
            "input": describe.describe_input(self.task, self._loader),
            "plan": self._plan,
            "note": describe.NOTE,
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
            self._identity, self._about = describe.identity(content), describe.about(content)
            log.settled()
            for line in rules.ignored(self.config, Config(), recipe(self.config.model, self.config.task)):
                self.progress.warn(line)
            self.progress.say(describe.describe_run(self.config, self._plan, self.model))
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
        there = recorded = folder.read_config()
        if self._changed_code:
            there = with_code(there, self._code)
        if "dataset" not in there:  # a run of an earlier version
            del content["dataset"]
        for means in ("backend", "ranks"):  # the run may go on with others: RunFolder.go_on
            content["config"][means] = there["config"].get(means, getattr(Config, means))
        length, content["config"]["length"] = content["config"]["length"], there["config"]["length"]
        extended = length != content["config"]["length"]
        content |= {
            part: there[part] for part in (*["plan"] * extended, "stages", "from", "code_changes") if part in there
        }
        check_data(folder, there, content, self.task)
        check_input(folder, there, content)
        check_same_run(describe.identity(there), describe.identity(content), folder.path)
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

        new_code = [change for change in there.get("code_changes", []) if change["after_update"] is None]
        try:
            found = checkpoint.use_latest(folder.checkpoints, self.progress.warn, use)
        except CheckpointError as error:
            if not new_code:
                raise
            names = " and ".join(there["code"][change["part"]]["name"] for change in new_code)
            raise CheckpointError(f"{error}; or put the old file of {names} back, whose state they hold") from error
        for change in new_code:
            change["after_update"] = self.step
        longer = stages.begin(there, length, self._plan, self.step, folder.path) if extended else content
        if not found:
            self._refuse_without_checkpoints(folder, known, there["config"].get("checkpoint_every"))
            self._start_from(content)
            check_same_run(describe.identity(there), describe.identity(content), folder.path)
            folder.forget_after(0, 0)
            self.progress.say(f"{folder.path} has no checkpoint yet: starting from the beginning")
        else:
            self._take_over(folder)
            if known.losses is None and self.step >= self._losses.every:
                self.progress.warn(f"{folder.losses_file} is gone, with the losses to update {self.step}: begun anew")
        if new_code:
            names = " and ".join(there["code"][change["part"]]["name"] for change in new_code)
            self.progress.say(f"{folder.path} goes on with the changed code of {names} after update {self.step}")
        if there is not recorded and not extended:
            folder.write_config(there)
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

    def _refuse_without_checkpoints(self, folder: RunFolder, known: restore.Known, every: int | None) -> None:
        """Refuse to begin anew where a run's logs show that it had a checkpoint: they would be lost with it."""
        last = max([line["step"] for line in [*known.evaluations, *(known.losses or [])]], default=0)
        finished = folder.summary_file.exists()
        if finished or last > (every or len(self._loader)):
            told = "its summary.json says that it was finished" if finished else f"its logs go on to update {last}"
            raise CheckpointError(
                f"{folder.path}: {told}, and there is no checkpoint in {folder.checkpoints}; put its checkpoints back, "
                "or start anew with another --out"
            )

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

    def _describe_update(self, update: int) -> dict[str, Any]:
        """Return where in the run an update is, as its line in a log has it."""
        return {
            "epoch": update / len(self._loader),
            "touches": update * self.config.batch_size,
            "lr": self._schedule(update - 1),
        }

    def _eval_every(self) -> int:
        return self.config.eval_every or len(self._loader)
