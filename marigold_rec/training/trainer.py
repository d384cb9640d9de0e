"""The training loop: next batch, forward, losses, balance, one backward, step, log, save."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import torch
import torch.distributed as dist
from torch import nn
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.model_parallel import get_unwrapped_module

from marigold_rec.batch import Batch, Cursor, carried_on
from marigold_rec.checkpoint import CheckpointStore, Found, Manifest, Snapshot
from marigold_rec.config import Config
from marigold_rec.distributed import Agreement, Ranks, raise_together
from marigold_rec.errors import CheckpointError, NumericsError
from marigold_rec.inputs import Inputs
from marigold_rec.network import NetworkLayout
from marigold_rec.training.batches import FetchedBatches
from marigold_rec.training.monitoring.large_inputs import large_inputs, say_large_inputs
from marigold_rec.training.monitoring.progress import ProgressLine
from marigold_rec.training.monitoring.rank_totals import peak_memory, total_counts
from marigold_rec.training.monitoring.run_log import LOGGER, RunLog
from marigold_rec.training.monitoring.sanity import SanityGuard
from marigold_rec.training.monitoring.table_check import TableCheck
from marigold_rec.training.monitoring.throughput import Throughput
from marigold_rec.training.monitoring.window_metrics import WindowMetrics
from marigold_rec.training.numerics import NumericsGuard
from marigold_rec.training.objective import Objective, StepOutput
from marigold_rec.training.optimizer import Optimizers
from marigold_rec.training.pipeline import TrainPipeline
from marigold_rec.training.saves import Saves
from marigold_rec.training.state import TrainState
from marigold_rec.training.stop import StopRequest
from marigold_rec.training.warm_start import Models, WarmStart, warm_start


class Reader(Protocol):
    """What the trainer asks of a source of batches (ParquetReader of data_pipelines.reading)."""

    @property
    def steps_per_epoch(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def counts(self) -> Mapping[str, int]: ...

    def steps_left(self, start: Cursor) -> int: ...

    def batches(self, start: Cursor) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    step: int
    """Steps taken, of `total_steps`."""
    total_steps: int
    was_stopped: bool
    """By a signal, after a checkpoint."""
    perf: dict[str, float]
    """For the summary; where batches may be skipped, their number too."""


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
        self._embeddings = cast(nn.Module, get_unwrapped_module(model).embeddings)
        self._reader = reader
        self._store = store
        self._saves = Saves(store, config.checkpoint.max_misses)
        self._steps_of_epochs = config.run.epochs * reader.steps_per_epoch
        self._optimizers = Optimizers(model, config.optimizer.dense)
        self._state = TrainState(model, self._optimizers, ranks)
        self._agreement = Agreement(ranks.control)
        self._numerics = NumericsGuard(
            config.numerics,
            config.task_names,
            tuple(feature.name for feature in config.dense_features),
            ranks,
        )
        objective.can_forget = self._numerics.may_skip
        self._table_check = TableCheck(model, ranks, config.numerics.check_tables_every_n_steps)
        self._window = WindowMetrics(
            config.tasks,
            objective.network.task_heads,
            ranks,
            batch_size=reader.batch_size,
            window_rows=config.logging.window_rows,
        )
        self.guard = SanityGuard(self.total_steps)
        """Looks at the windows' figures; for others to show what it finds in theirs."""
        self._gradient_norm = torch.zeros(())
        self._probe_s = 0.0
        self._refused_probes = 0
        self.pipeline = TrainPipeline(
            model,
            self._optimizers.combined,
            ranks.device,
            before_backward=self._look_before_backward,
            before_optimizer=self._probe_and_clip,
            after_optimizer=self._probe_update,
        )
        self.step = 0
        """Steps taken."""
        self._cursor = Cursor(epoch=0, rows=0)
        self._newest_figures: dict[str, float] = {}

    @property
    def total_steps(self) -> int:
        steps = self._steps_of_epochs
        return min(steps, self._config.run.steps or steps)

    def resume(self, found: Found) -> None:
        """Continues where the checkpoint's run stood, to the bit at the same number of ranks.

        At another number they share out what is left of the epoch: no row is lost or repeated.
        """
        manifest = found.manifest
        if manifest.data != self._reader.fingerprint:
            raise CheckpointError(
                f"{found.folder}: the training files are not those of its run (other names, sizes "
                "or row groups), so that its place in them means nothing: put the old files back, "
                "or use another run.name or --resume never"
            )
        self._state.load(self._store, found, seed=self._config.run.seed)
        if found.manifest.has_begun:
            self._objective.starts_heads = False
        self.step = manifest.step
        if manifest.world_size == self._ranks.world_size:
            self._cursor = manifest.cursors[self._ranks.rank]
        else:
            self._cursor = carried_on(manifest.cursors)
            self._say_other_world(manifest)
        # Not epochs x steps per epoch: an epoch that several numbers of ranks took has its own.
        epochs_to_come = self._config.run.epochs - self._cursor.epoch - 1
        self._steps_of_epochs = (
            self.step
            + self._reader.steps_left(self._cursor)
            + epochs_to_come * self._reader.steps_per_epoch
        )
        self._saves.last_step = self.step
        # Last, when nothing can refuse this start any more.
        self._store.go_on_from(found)

    def warm_start(self, found: Found, then: Config, layout_then: NetworkLayout) -> WarmStart:
        """Begins with the model of another run's checkpoint, saved under the config `then`, whose
        network has the layout `layout_then`.

        The step, the place in the data, the learning rates' schedule and the metrics begin anew.
        """
        tensors = self._state.tensors(with_random=False)
        layout = self._objective.network.layout
        models = Models(then, self._config, layout_then, layout)
        return warm_start(self._objective, tensors, self._store, found, models, self._ranks)

    def train(self, log: RunLog, stop: StopRequest) -> Outcome:
        """Trains to `total_steps`, or until some rank is asked to stop; saves at the end.

        Raises on all ranks alike: NumericsError before the backward that would have written the
        tables, or whatever a rank's reader raised. A step that numerics.on_non_finite leaves out is
        a step all the same: its rows are consumed, and its number and learning rate are used up.
        """
        config, total, first = self._config, self.total_steps, self.step
        # No more than the steps to come, so that the pipeline is empty at the end.
        batches = FetchedBatches(self._all_batches(), self._pinned, limit=max(0, total - first))
        speed = Throughput(self._reader.batch_size * self._ranks.world_size)
        progress = ProgressLine(total, first, is_first=self._ranks.is_first)
        was_stopped, patience = False, config.distributed
        self._saves.tidy()
        if config.checkpoint.every_n_steps is not None:
            self._store.expect_saves(self._state.tensors(with_random=False))
        try:
            while self.step < total:
                batches.fetch()
                is_due = _is_due(config.checkpoint.every_n_steps, self.step, first)
                decision = self._agreement.reach(
                    failed=batches.error is not None,
                    stop=stop.is_set,
                    save=is_due or self._saves.has_news,
                )
                if self.step == first + 1:
                    # All have met with the slow first step behind them: whoever is late from here
                    # on is dead or hangs.
                    self._ranks.set_timeout(min(patience.step_timeout_s, patience.timeout_s))
                if decision.failed:
                    self._saves.save_before_failing(self.step, self._snapshot)
                    raise_together(batches.error, self._ranks.control)
                if decision.save:
                    self._saves.settle(log, self.step)
                if is_due:
                    self._saves.begin(self._snapshot(), log)
                if decision.stop:
                    was_stopped = True
                    break
                learning_rate = self._optimizers.begin_step(self.step)
                self._objective.step = self.step
                output = self.pipeline.progress(batches)
                batches.consumed()
                if not self.pipeline.was_skipped:
                    self._window.add(output)
                self._cursor = output.batch.cursor
                self.step += 1
                progress.advance(self.step)
                if self._is_logging_step(first, total):
                    self._table_check.look(self.step)
                    window = self._window.compute()
                    self._newest_figures = window.to_note
                    values = self._figures(output, learning_rate) | window.scalars
                    values |= self._store.mirror_scalars()
                    self._say_refused_probes(values)
                    self._look_at_losses(output)
                    self.guard.look(self.step, window.figures)
                    rate = speed.measure(self.step, batches.wait_s, self._probe_s)
                    log.scalars(self.step, values if rate is None else values | rate.scalars())
                    progress.show(self.step, config.task_names, values, rate)
        finally:
            self._ranks.set_timeout(patience.timeout_s)
            progress.close()
            batches.close()
            self._store.close()
        self._saves.settle(log, self.step)
        if self._saves.last_step != self.step:
            self._saves.save(self._snapshot())
        self._store.finish_mirror()
        self.pipeline.detach()
        return Outcome(self.step, total, was_stopped, speed.summary() | self._numerics.scalars())

    def try_one_step(self) -> StepOutput:
        """One step on the first batch, for a dry run: nothing is logged, counted or saved."""
        batches = FetchedBatches(self._all_batches(), self._pinned, limit=1)
        try:
            batches.fetch()
            raise_together(batches.error, self._ranks.control)
            self._optimizers.begin_step(self.step)
            self._numerics.may_skip = False  # it is to tell of what a run would skip
            return self.pipeline.progress(batches)
        finally:
            batches.close()

    def _all_batches(self) -> Iterator[Batch]:
        """The rest of this epoch, then the following epochs, without a seam."""
        for epoch in itertools.count(self._cursor.epoch):
            start = self._cursor if epoch == self._cursor.epoch else Cursor(epoch, 0)
            yield from self._reader.batches(start)
            if epoch + 1 >= self._config.run.epochs:
                return

    def _pinned(self, batch: Batch) -> Batch:
        return batch.pin_memory() if self._ranks.device.type == "cuda" else batch

    def _look_before_backward(self, output: StepOutput) -> bool:
        if self._numerics.passes(self.step, output, self._gradient_norm):
            return True
        self._objective.forget()
        return False

    def _probe_and_clip(self) -> None:
        self._timed(self._objective.before_optimizer)
        self._gradient_norm = self._optimizers.clip_dense()

    def _probe_update(self) -> None:
        self._timed(lambda: self._objective.after_optimizer(self._lookup))

    def _timed(self, probe: Callable[[], None]) -> None:
        started = time.perf_counter()
        probe()
        self._probe_s += time.perf_counter() - started

    def _lookup(self, batch: Batch) -> Inputs:
        with self.pipeline.direct_lookups():
            return self._embeddings(batch.sparse, batch.unpooled, batch.dense_BD)

    def _snapshot(self) -> Snapshot:
        """Of now, for a checkpoint. Collective. Raises NumericsError where it is no good."""
        self._refuse_bad_gradient()
        cursors = [self._cursor] * self._ranks.world_size
        dist.all_gather_object(cursors, self._cursor, group=self._ranks.control)
        return Snapshot(
            tensors=self._state.tensors(),
            step=self.step,
            cursors=tuple(cursors),
            has_begun=not self._objective.starts_heads,
            data=self._reader.fingerprint,
            exempt=self._state.without_figure(),
            figures=self._newest_figures,
        )

    def _refuse_bad_gradient(self) -> None:
        # The state itself is looked at before anything is written. This says more of the cause:
        # the loss can be finite while a gradient is not; the norm is equal on all ranks.
        if not bool(torch.isfinite(self._gradient_norm)):
            raise NumericsError(
                f"step {self.step}: the last gradient of the dense part is not finite, so that the "
                "tables may hold such values too: no checkpoint is made of them. Go on from an "
                "earlier one with a lower optimizer.*.lr or with optimizer.dense.clip_norm"
            )

    def _say_other_world(self, then: Manifest) -> None:
        ranks, rows = self._ranks.world_size, self._reader.batch_size * self._ranks.world_size
        LOGGER.info(
            "step %d: saved by %d ranks, goes on with %d: they share out the rest of epoch %d",
            then.step,
            then.world_size,
            ranks,
            self._cursor.epoch,
        )
        if rows != then.rows_per_step:
            LOGGER.warning(
                "a step has %s rows from here on (%d ranks x data.batch_size), not %s as before: "
                "the learning rates were chosen for those; set data.batch_size to keep them, or "
                "look at optimizer.*.lr",
                f"{rows:,}",
                ranks,
                f"{then.rows_per_step:,}",
            )

    def _say_refused_probes(self, values: Mapping[str, float | None]) -> None:
        refused = int(values.get("train/refused_probes") or 0)
        if refused > self._refused_probes:
            LOGGER.warning(
                "step %d: %d more of the balancer's probes were not finite; the task weights stay "
                "as they are (docs/marigold.md says what to do)",
                self.step,
                refused - self._refused_probes,
            )
        self._refused_probes = refused

    def _look_at_losses(self, output: StepOutput) -> None:
        tasks, losses = self._config.tasks, output.losses.global_T.tolist()
        names = [feature.name for feature in self._config.dense_features]
        self.guard.look_at_losses(
            self.step,
            {task.name: (task.kind, loss) for task, loss in zip(tasks, losses, strict=True)},
            lambda: say_large_inputs(large_inputs(output.batch.dense_BD, names)),
        )

    def _is_logging_step(self, first: int, total: int) -> bool:
        # The run's first step too: it starts the clock after the warm-up.
        every = self._config.logging.every_n_steps
        return self.step % every == 0 or self.step in (first + 1, total)

    def _figures(self, output: StepOutput, learning_rate: float) -> dict[str, float | None]:
        """The scalars of a logging step. Collective: counts are summed over ranks."""
        names = self._config.task_names
        counts = total_counts(self._reader.counts, self._ranks)
        values: dict[str, float | None] = {
            "train/epoch": float(self._cursor.epoch),
            "optim/lr/dense": learning_rate,
            "optim/lr/sparse": self._config.optimizer.sparse.lr,
            "optim/dense_gradient_norm": self._gradient_norm.item(),
        }
        by_task = {"loss": output.losses.global_T, "weight": output.coefficients_T}
        for key, tensor in (by_task | self._objective.balancer.diagnostics()).items():
            if tensor.ndim == 0:
                values[f"train/{key}"] = tensor.item()
            else:
                pairs = zip(names, tensor.tolist(), strict=True)
                values |= {f"train/{key}/{task}": value for task, value in pairs}
        values |= {
            f"data/invalid/{task}": float(counts.get(f"invalid/{task}", 0)) for task in names
        }
        return values | self._numerics.scalars() | peak_memory(self._ranks)


def _is_due(every: int | None, step: int, first: int) -> bool:
    return every is not None and step % every == 0 and step > first
