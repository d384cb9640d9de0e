"""Runs the training loop: next batch, forward, losses, balance, one backward, step, log, save.

What else happens around a step is a hook: see `hooks.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch.distributed as dist
from torchrec.distributed import DistributedModelParallel

from marigold_rec.batch import Batch, Cursor
from marigold_rec.checkpoint.finding import Found
from marigold_rec.checkpoint.snapshot import Snapshot
from marigold_rec.checkpoint.store import CheckpointStore
from marigold_rec.config.schema import Config
from marigold_rec.distributed.agreement import Agreement, Decision
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.distributed.together import raise_together
from marigold_rec.network import NetworkLayout
from marigold_rec.training.batches import FetchedBatches, Reader
from marigold_rec.training.checkpoint_manager import CheckpointManager
from marigold_rec.training.hooks import Parts, build_hooks
from marigold_rec.training.monitoring.progress import ProgressLine
from marigold_rec.training.monitoring.run_log import RunLog
from marigold_rec.training.monitoring.sanity import SanityGuard
from marigold_rec.training.objective import Objective, StepOutput
from marigold_rec.training.optimizer import Optimizers
from marigold_rec.training.pipeline import TrainPipeline
from marigold_rec.training.resuming import require_same_files, resumed_cursor
from marigold_rec.training.state import TrainState
from marigold_rec.training.stop import StopRequest
from marigold_rec.training.stopwatch import Stopwatch
from marigold_rec.training.warm_start import Models, WarmStart, warm_start


@dataclass(frozen=True)
class Outcome:
    """Says how a training ended."""

    step: int
    """Steps taken, of `total_steps`."""
    total_steps: int
    was_stopped: bool
    """A signal asked for the end; a checkpoint was saved."""
    perf: dict[str, float]
    """The hooks' part of the summary: speed, number of skipped batches."""


class Trainer:
    """Trains a sharded model on a reader's batches. Every method is collective."""

    def __init__(
        self,
        config: Config,
        ranks: Ranks,
        model: DistributedModelParallel,
        objective: Objective,
        reader: Reader,
        store: CheckpointStore,
    ) -> None:
        self._config = config
        self._ranks = ranks
        self._objective = objective
        self._reader = reader
        self._store = store
        self._checkpoints = CheckpointManager(store, config.checkpoint.max_failed_saves)
        self._agreement = Agreement(ranks.control)
        self._data_wait = Stopwatch()
        self._steps_of_epochs = config.run.epochs * reader.steps_per_epoch
        self.sanity = SanityGuard(self.total_steps)
        """Warns of values that no sound training shows."""
        optimizers = Optimizers(model, config.optimizer.dense)
        parts = Parts(
            config, ranks, model, objective, reader, optimizers, self._checkpoints, self.sanity,
            self._data_wait,
        )  # fmt: skip
        self.hooks = build_hooks(parts)
        self.pipeline = TrainPipeline(model, optimizers.combined, ranks.device, self.hooks)
        self._state = TrainState(model, optimizers, self.hooks, ranks)
        self.step = 0
        """Steps taken."""
        self._cursor = Cursor(epoch=0, rows=0)
        self._has_begun = False
        """The model has been trained before the first step of this start."""

    @property
    def total_steps(self) -> int:
        steps = self._steps_of_epochs
        return min(steps, self._config.run.steps or steps)

    def resume(self, found: Found) -> None:
        """Continues where the checkpoint's run stood, to the bit at the same number of ranks.

        At another number they share out what is left of the epoch: no row is lost or repeated.
        """
        require_same_files(found, self._reader)
        self._state.load(self._store, found, seed=self._config.run.seed)
        self._has_begun = found.manifest.has_begun
        self.step = found.manifest.step
        self._cursor = resumed_cursor(found.manifest, self._reader, self._ranks)
        # Not epochs x steps per epoch: an epoch that several numbers of ranks took has its own.
        epochs_to_come = self._config.run.epochs - self._cursor.epoch - 1
        self._steps_of_epochs = (
            self.step
            + self._reader.steps_left(self._cursor)
            + epochs_to_come * self._reader.steps_per_epoch
        )
        # Last, when nothing can refuse this start any more.
        self._checkpoints.continue_from(found)

    def warm_start(self, found: Found, then: Config, layout_then: NetworkLayout) -> WarmStart:
        """Begins with the model of another run's checkpoint, saved under the config `then`, whose
        network has the layout `layout_then`.

        The step, the place in the data, the learning rates' schedule and the metrics begin anew.
        """
        tensors = self._state.tensors(with_random=False)
        models = Models(then, self._config, layout_then, self._objective.network.layout)
        plan = warm_start(tensors, self._store, found, models, self._ranks)
        self._has_begun = found.manifest.has_begun
        return plan

    def train(self, log: RunLog, stop: StopRequest) -> Outcome:
        """Trains to `total_steps`, or until some rank is asked to stop; saves at the end.

        Raises on all ranks alike: NumericsError before the backward that would have written the
        tables, or whatever a rank's reader raised. A step that numerics.on_non_finite leaves out is
        a step all the same: its rows are consumed, and its number and learning rate are used up.
        """
        total, first, was_stopped = self.total_steps, self.step, False
        batches = self._next_batches(total - first)
        progress = ProgressLine(total, first, is_first=self._ranks.is_first)
        self._checkpoints.cleanup_stale()
        if self._config.checkpoint.every_n_steps is not None:
            self._store.expect_saves(self._state.tensors(with_random=False))
        try:
            while self.step < total:
                batches.fetch()
                if was_stopped := self._agree(batches, stop, first, log).stop:
                    break
                output = self.pipeline.progress(batches)
                batches.consumed()
                self._cursor = output.batch.cursor
                self.step += 1
                progress.advance(self.step)
                if self._is_logging_step(first, total):
                    values = self.hooks.on_log(self.step, output)
                    log.scalars(self.step, values)
                    progress.show(self.step, self._config.task_names, values)
        finally:
            self._ranks.set_timeout(self._config.distributed.timeout_s)
            progress.close()
            batches.close()
            self._store.close()
        self._checkpoints.save_at_end(log, self.step, self._snapshot)
        self.pipeline.detach()
        return Outcome(self.step, total, was_stopped, self.hooks.summary())

    def try_one_step(self) -> StepOutput:
        """Takes one step on the first batch, for a dry run: nothing is logged, counted or saved."""
        batches = self._next_batches(1)
        try:
            batches.fetch()
            raise_together(batches.error, self._ranks.control)
            return self.pipeline.progress(batches)
        finally:
            batches.close()

    def _agree(
        self, batches: FetchedBatches, stop: StopRequest, first: int, log: RunLog
    ) -> Decision:
        """Agrees with the other ranks on what comes before the next step, and does it.

        Raises on all ranks what a rank's reader raised.
        """
        every = self._config.checkpoint.every_n_steps
        is_due = every is not None and self.step % every == 0 and self.step > first
        decision = self._agreement.reach(
            failed=batches.error is not None,
            stop=stop.is_set,
            save=is_due or self._checkpoints.save_finished,
        )
        if self.step == first + 1:
            # All have met with the slow first step behind them: whoever is late from here on is
            # dead or hangs.
            patience = self._config.distributed
            self._ranks.set_timeout(min(patience.step_timeout_s, patience.timeout_s))
        if decision.failed:
            self._checkpoints.save_before_failing(self.step, self._snapshot)
            raise_together(batches.error, self._ranks.control)
        if decision.save:
            self._checkpoints.finalize_save(log, self.step)
        if is_due:
            self._checkpoints.begin(self._snapshot(), log)
        return decision

    def _next_batches(self, limit: int) -> FetchedBatches:
        """Returns the next `limit` batches: no more, so that the pipeline is empty at the end."""
        return FetchedBatches(self._all_batches(), self._pinned, max(0, limit), self._data_wait)

    def _all_batches(self) -> Iterator[Batch]:
        """Yields the rest of this epoch, then the following epochs, without a seam."""
        start, is_first = self._cursor, not self._has_begun
        steps = itertools.count(self.step)
        while True:
            for batch in self._reader.batches(start):
                yield replace(batch, step=next(steps), is_first=is_first)
                is_first = False
            if start.epoch + 1 >= self._config.run.epochs:
                return
            start = Cursor(start.epoch + 1, 0)

    def _pinned(self, batch: Batch) -> Batch:
        return batch.pin_memory() if self._ranks.device.type == "cuda" else batch

    def _snapshot(self) -> Snapshot:
        """Returns the state of now, for a checkpoint. Collective.

        Raises NumericsError if a hook says that it must not be saved.
        """
        metrics = self.hooks.on_save(self.step)
        cursors = [self._cursor] * self._ranks.world_size
        dist.all_gather_object(cursors, self._cursor, group=self._ranks.control)
        return Snapshot(
            tensors=self._state.tensors(),
            step=self.step,
            cursors=tuple(cursors),
            has_begun=self._has_begun or self.step > 0,
            data=self._reader.fingerprint,
            exempt=self._state.without_figure(),
            figures=metrics,
        )

    def _is_logging_step(self, first: int, total: int) -> bool:
        # The run's first step too: it starts the clock after the warm-up.
        every = self._config.logging.every_n_steps
        return self.step % every == 0 or self.step in (first + 1, total)
