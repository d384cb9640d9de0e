"""Saves a training's checkpoints, beside the steps or at once, and logs what became of them."""

from __future__ import annotations

from collections.abc import Callable

from marigold_rec.checkpoint.finding import Found
from marigold_rec.checkpoint.snapshot import Snapshot
from marigold_rec.checkpoint.store import CheckpointStore, Saved, SaveFailed
from marigold_rec.errors import MarigoldError
from marigold_rec.training.monitoring.run_log import LOGGER, RunLog
from marigold_rec.training.objective import StepOutput
from marigold_rec.training.step_hook import Scalars, StepHook


class CheckpointManager(StepHook):
    """Drives the store of a training; as a hook it logs the mirror's count of failed copies.

    Every method is collective, but for `save_finished`.
    """

    def __init__(self, store: CheckpointStore, max_failed_saves: int) -> None:
        self._store = store
        self._max_failed_saves = max_failed_saves
        self._last_step: int | None = None
        """The step of the newest checkpoint that is safe."""

    def on_log(self, step: int, output: StepOutput) -> Scalars:
        return self._store.mirror_scalars()

    def continue_from(self, found: Found) -> None:
        """Makes `found` the newest checkpoint: later ones of this run are put out of the way."""
        self._last_step = found.manifest.step
        self._store.go_on_from(found)

    @property
    def save_finished(self) -> bool:
        """This rank's part of a save is over: call `finalize_save` once all ranks agree to."""
        return self._store.save_finished

    def cleanup_stale(self) -> None:
        """Deletes what killed starts of this run have left."""
        cleanup = self._store.cleanup_stale()
        if cleanup.stale or cleanup.abandoned:
            LOGGER.warning(
                "deleted what earlier starts of this run have left: %d unfinished checkpoints, "
                "%d abandoned ones",
                cleanup.stale,
                cleanup.abandoned,
            )
        if cleanup.problem is not None:
            LOGGER.warning("%s", cleanup.problem)

    def begin(self, snapshot: Snapshot, log: RunLog) -> None:
        """Begins a save that goes on beside the training; a later `finalize_save` ends it."""
        self._note(self._store.begin_save(snapshot), log, snapshot.step)

    def finalize_save(self, log: RunLog | None, step: int) -> None:
        """Waits for the save under way, if there is one; `step` is the present one, for the log."""
        self._note(self._store.finalize_save(), log, step)

    def save(self, snapshot: Snapshot) -> None:
        """Saves at once. Nothing follows that could save again, so that a failure is raised."""
        self._note(self._store.save(snapshot), None, snapshot.step)

    def save_at_end(self, log: RunLog, step: int, snapshot: Callable[[], Snapshot]) -> None:
        """Saves the end of a training, unless step `step` is saved already."""
        self.finalize_save(log, step)
        if self._last_step != step:
            self.save(snapshot())
        self._store.finish_mirror()

    def save_before_failing(self, step: int, snapshot: Callable[[], Snapshot]) -> None:
        """Saves what was trained before a reader failed: the state itself is whole.

        The reader's failure is the one to report: another one, of this save, is only logged.
        """
        try:
            self.finalize_save(None, step)
            if step not in (0, self._last_step):
                self.save(snapshot())
            self._store.finish_mirror()
        except MarigoldError as error:
            LOGGER.error("step %d can't be saved: %s", step, error)

    def _note(self, outcome: Saved | SaveFailed | None, log: RunLog | None, step: int) -> None:
        if isinstance(outcome, Saved):
            self._last_step = outcome.step
            LOGGER.info("saved %s", outcome.folder)
            for note in outcome.notes:
                LOGGER.warning("%s", note)
        if isinstance(outcome, SaveFailed):
            LOGGER.error(
                "checkpoint of step %d FAILED (%d in a row, checkpoint.max_failed_saves: %d); "
                "training continues: %s",
                outcome.step,
                outcome.in_a_row,
                self._max_failed_saves,
                outcome.error,
            )
            if log is not None:
                log.scalars(step, {"checkpoint/failed_saves": float(outcome.in_a_row)})
