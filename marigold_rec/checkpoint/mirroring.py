"""Copies checkpoints to the mirror beside the training: one at a time, and the newest first."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from marigold_rec.checkpoint.locks import shared_lock
from marigold_rec.checkpoint.mirror import Mirror
from marigold_rec.config.schema import CheckpointConfig
from marigold_rec.errors import CheckpointError

_LOGGER = logging.getLogger(__name__)


class Mirroring:
    """What is offered is copied in a thread of its own. First rank only; nothing here raises.

    While one is on its way one more may wait; a newer one takes its place.
    """

    def __init__(self, mirror: Mirror, keep: CheckpointConfig) -> None:
        self.mirror = mirror
        self.failed_copies = 0
        """Copies that have failed since the start."""
        self._keep = keep
        self._changed = threading.Condition()
        self._waiting: Path | None = None
        self._under_way: Path | None = None
        self._problem: str | None = None
        self._is_tidy = False

    def offer(self, folder: Path) -> None:
        """Returns at once."""
        with self._changed:
            if self._waiting is not None:
                _LOGGER.info("%s is not mirrored: a newer one has come", self._waiting.name)
            self._waiting = folder
            if self._under_way is None:
                self._under_way = folder
                # A daemon: a rank that must end at once doesn't wait for the network.
                threading.Thread(target=self._run, name="mirror", daemon=True).start()

    def finish(self, patience_s: float) -> None:
        """Waits until the newest is copied, or its copy has failed, or `patience_s` are over."""
        deadline = time.monotonic() + patience_s
        with self._changed:
            is_over = self._changed.wait_for(
                lambda: self._under_way is None, deadline - time.monotonic()
            )
            if not is_over and self._under_way is not None:
                name = (self._waiting or self._under_way).name
                self.failed_copies += 1
                self._problem = (
                    f"{name} is not mirrored: after {patience_s:g} s "
                    "(checkpoint.mirror_patience_s) its copy was still under way"
                )
                _LOGGER.error("%s", self._problem)

    def warnings(self) -> list[str]:
        """For the summary: what the mirror lacks now, and how often it has."""
        found = [] if self._problem is None else [f"checkpoint.mirror: {self._problem}"]
        if self.failed_copies:
            found.append(
                f"checkpoint.mirror: {self.failed_copies} copies to {self.mirror.url} have failed"
            )
        return found

    def abandon_after(self, folder: Path, step: int) -> None:
        """Hides copies of steps after `step`; and offers `folder`, where the mirror lacks it."""
        try:
            if later := self.mirror.abandon_after(step):
                _LOGGER.warning(
                    "mirror: the copies of steps %s count no more: they are refused, or will be "
                    "taken anew",
                    ", ".join(map(str, later)),
                )
            if step not in self.mirror.steps():
                self.offer(folder)
        except CheckpointError as error:
            _LOGGER.error(
                "the mirror's copies of steps after %d, if any, are still there, and the next "
                "--resume auto may choose them: %s",
                step,
                error,
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._under_way, self._waiting = self._waiting, None
                folder = self._under_way
                if folder is None:
                    self._changed.notify_all()
                    return
            self._copy(folder)

    def _copy(self, folder: Path) -> None:
        started = time.monotonic()
        try:
            if not self._is_tidy:
                if gone := self.mirror.cleanup_stale(self._keep.keep):
                    _LOGGER.warning("mirror: deleted %d unfinished or abandoned copies", gone)
                self._is_tidy = True
            # No prune of the run deletes it meanwhile.
            with shared_lock(folder):
                self.mirror.upload(folder)
        except Exception as error:  # nobody else would see it
            if not folder.exists():
                return  # it waited too long, was pruned, and a newer one is on its way
            self.failed_copies += 1
            self._problem = f"{folder.name} is not mirrored: {error}"
            _LOGGER.error(
                "copy of %s to the mirror FAILED (failed copies: %d); training continues: %s",
                folder.name,
                self.failed_copies,
                error,
            )
            return
        self._problem = None
        _LOGGER.info("mirrored %s in %.1f s", folder.name, time.monotonic() - started)
        try:
            self.mirror.prune(int(folder.name.removeprefix("step-")), self._keep)
        except CheckpointError as error:
            _LOGGER.warning("mirror: old copies can't be deleted: %s", error)
