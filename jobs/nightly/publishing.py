"""Publishes models and rolls back: a history, and a pointer that follows it.

history.json decides; `current` follows it. After a kill between the two, `sync_pointer` repairs the
pointer when the next command starts, so that publishing is atomic. The history names each model by
its hashes: only a model exactly as it was published can be rolled back to, or trained from.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from jobs.nightly.folder import NightlyFolder, nightly_folders
from jobs.nightly.models import artefact_digest, require_same
from jobs.nightly.plan import Model
from marigold_rec.atomic_io import link_atomically, read_json, write_atomically
from marigold_rec.errors import CheckpointError, ConfigError
from marigold_rec.record import Record

_RESTORE = (
    "restore it from a backup: without it the published models are unknown. Or start a new chain "
    "under another run.name"
)


class Change(Record):
    """One entry of the history."""

    what: Literal["published", "rolled back"]
    night: datetime.date
    """The nightly run whose model is in use from then on."""
    at: str
    """UTC, ISO 8601."""
    model: Model
    """The model in use from then on; training continues from it."""
    artefact_sha256: str | None
    """Hash of its artefact.json, for servers; None: it was published without an artefact."""


class Published:
    """The published models below <root>/nights. Only one process at a time may change them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / "published" / "history.json"
        self.pointer = root / "published" / "current"

    @property
    def history(self) -> tuple[Change, ...]:
        """Reads history.json. Raises CheckpointError if it can't: the model in use is unknown."""
        return read_json(self._file, tuple[Change, ...], _RESTORE) or ()

    def reachable(self) -> tuple[Change, ...]:
        """Returns the publications that a rollback can reach, the current one last."""
        stack: list[Change] = []
        for change in self.history:
            if change.what == "published":
                stack.append(change)
                continue
            while stack and stack.pop() is not None:
                if stack and stack[-1].model == change.model:
                    break
            if not stack:
                raise CheckpointError(
                    f"{self._file}: is damaged: it rolls back to the model of {change.night}, "
                    f"which was not in use before; {_RESTORE}"
                )
        return tuple(stack)

    def in_use(self) -> tuple[datetime.date, ...]:
        """Returns the nights of `reachable`."""
        return tuple(change.night for change in self.reachable())

    @property
    def current(self) -> datetime.date | None:
        nights = self.in_use()
        return nights[-1] if nights else None

    def base(self) -> Model | None:
        """Returns the model in use, to train from; None before the first publication.

        Raises CheckpointError if servers or training would load another model than was published.
        """
        if not (reachable := self.reachable()):
            return None
        self._require_as_published(reachable[-1])
        return reachable[-1].model

    def publish(self, model: Model, artefact_sha256: str | None) -> None:
        """Appends the model to the history; does nothing if it is the current one."""
        reachable = self.reachable()
        if not reachable or reachable[-1].model != model:
            self._append("published", model, artefact_sha256)

    def roll_back(
        self, fault_hook: Callable[[str], None] = lambda point: None
    ) -> tuple[datetime.date, tuple[str, ...]]:
        """Rolls back to the newest model before the current one that is still as it was published.

        Returns its night, and why others were skipped. Raises ConfigError if there is none.
        `fault_hook`: see NightlyRun.
        """
        *earlier, _ = self.reachable() or (None,)
        skipped: list[str] = []
        for change in reversed(earlier):
            assert change is not None
            if not (self._root / change.model.checkpoint).is_dir():
                skipped.append(
                    f"the model of {change.night} was deleted; raise nightly.keep_published to "
                    "keep more"
                )
                continue
            try:
                self._require_as_published(change)
            except CheckpointError as error:
                skipped.append(str(error))
                continue
            self._append("rolled back", change.model, change.artefact_sha256)
            fault_hook("rollback:history")
            self.sync_pointer()
            return change.night, tuple(skipped)
        nights = ", ".join(map(str, self.in_use())) or "none"
        why = "; ".join(skipped) or f"published and not rolled back: {nights}"
        raise ConfigError(f"--rollback: {self._file} has no earlier model to roll back to: {why}")

    def check(self) -> None:
        """Raises CheckpointError if the history does not hold all that was published.

        With a lost, emptied or older history the next run would be a first run, which trains from
        scratch and is compared with nothing; or a model that was rolled back would return.
        """
        known = {change.night for change in self.history}
        self.reachable()
        lost = {night for night, folder in nightly_folders(self._root) if folder.was_published}
        if self.pointer.is_symlink():
            try:
                lost.add(datetime.date.fromisoformat(self.pointer.readlink().name))
            except ValueError:
                raise CheckpointError(
                    f"{self.pointer}: points to {self.pointer.readlink()}, which is not a nightly "
                    "run; remove it: it is rebuilt from the history"
                ) from None
        elif self.pointer.exists():
            raise CheckpointError(
                f"{self.pointer}: is not a symbolic link; move it away: it is rebuilt from the "
                "history"
            )
        if lost := sorted(lost - known):
            raise CheckpointError(
                f"{self._file}: {'is incomplete' if known else 'is missing or empty'}: it has no "
                f"entry for {', '.join(map(str, lost))}, whose model was published; {_RESTORE}"
            )

    def sync_pointer(self) -> None:
        """Makes the pointer follow the history, and marks the newest entry's stage as done.

        After a kill behind the history's new entry the same run must not be published twice: a
        rollback may come before it resumes.
        """
        if self.current is None:
            return
        last = self.history[-1]
        folder = NightlyFolder(self._root, last.night)
        if last.what == "published" and not folder.was_published:
            folder.mark_done("publish", 0.0)
        target = f"../nights/{self.current}"
        if not self.pointer.is_symlink() or str(self.pointer.readlink()) != target:
            link_atomically(self.pointer, target)

    def _require_as_published(self, change: Change) -> None:
        which = f"was published on {change.at} for {change.night}; restore that one"
        require_same(self._root, change.model, which)
        folder = NightlyFolder(self._root, change.night)
        if artefact_digest(folder) != change.artefact_sha256:
            raise CheckpointError(f"{folder.artefact}: is not the artefact that {which}")

    def _append(
        self, what: Literal["published", "rolled back"], model: Model, artefact: str | None
    ) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        change = Change(
            what=what, night=model.night, at=_now(), model=model, artefact_sha256=artefact
        )
        entries = [each.model_dump(mode="json") for each in (*self.history, change)]
        write_atomically(self._file, json.dumps(entries, indent=1) + "\n")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
