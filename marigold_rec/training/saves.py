"""A training's checkpoints: beside the steps or at once, and what became of them told."""

from __future__ import annotations

from collections.abc import Callable

from marigold_rec.checkpoint import CheckpointStore, Found, Missed, Saved, Snapshot
from marigold_rec.errors import MarigoldError
from marigold_rec.training.monitoring.run_log import LOGGER, RunLog
from marigold_rec.training.objective import StepOutput
from marigold_rec.training.step_hook import Scalars, StepHook


class Saves(StepHook):
    """Every method is collective, but for `has_news`."""

    def __init__(self, store: CheckpointStore, max_misses: int) -> None:
        self._store = store
        self._max_misses = max_misses
        self._last_step: int | None = None
        """The step of the newest checkpoint that is safe."""

    def on_log(self, step: int, output: StepOutput) -> Scalars:
        return self._store.mirror_scalars()

    def continue_from(self, found: Found) -> None:
        """Makes `found` the newest checkpoint: later ones of this run are put out of the way."""
        self._last_step = found.manifest.step
        self._store.go_on_from(found)

    @property
    def has_news(self) -> bool:
        """All ranks should `settle` once they agree to."""
        return self._store.has_news

    def tidy(self) -> None:
        """Deletes what killed starts of this run have left."""
        tidied = self._store.tidy()
        if tidied.stale or tidied.abandoned:
            LOGGER.warning(
                "deleted what earlier starts of this run have left: %d unfinished checkpoints, "
                "%d abandoned ones",
                tidied.stale,
                tidied.abandoned,
            )
        if tidied.problem is not None:
            LOGGER.warning("%s", tidied.problem)

    def begin(self, snapshot: Snapshot, log: RunLog) -> None:
        """Saved while the training goes on; a later `settle` tells how."""
        self._note(self._store.begin_save(snapshot), log, snapshot.step)

    def settle(self, log: RunLog | None, step: int) -> None:
        """Waits for the save under way, if there is one; `step`: that of now."""
        self._note(self._store.settle(), log, step)

    def save(self, snapshot: Snapshot) -> None:
        """Saves at once. Where nothing follows that could save again, no failure is passed over."""
        self._note(self._store.save(snapshot), None, snapshot.step)

    def save_at_end(self, log: RunLog, step: int, snapshot: Callable[[], Snapshot]) -> None:
        """Saves the end of a training, unless step `step` is saved already."""
        self.settle(log, step)
        if self._last_step != step:
            self.save(snapshot())
        self._store.finish_mirror()

    def save_before_failing(self, step: int, snapshot: Callable[[], Snapshot]) -> None:
        """A reader has failed, but the state is whole: what was trained must not be lost with it.

        That failure is the one to report: another one, of this save, is only logged.
        """
        try:
            self.settle(None, step)
            if step not in (0, self._last_step):
                self.save(snapshot())
            self._store.finish_mirror()
        except MarigoldError as error:
            LOGGER.error("step %d can't be saved: %s", step, error)

    def _note(self, outcome: Saved | Missed | None, log: RunLog | None, step: int) -> None:
        if isinstance(outcome, Saved):
            self._last_step = outcome.step
            LOGGER.info("saved %s", outcome.folder)
            for note in outcome.notes:
                LOGGER.warning("%s", note)
        if isinstance(outcome, Missed):
            LOGGER.error(
                "step %d IS NOT SAVED (misses in a row: %d, checkpoint.max_misses: %d), the "
                "training goes on: %s",
                outcome.step,
                outcome.in_a_row,
                self._max_misses,
                outcome.error,
            )
            if log is not None:
                log.scalars(step, {"checkpoint/misses": float(outcome.in_a_row)})
