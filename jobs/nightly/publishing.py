"""What is published: a history, a pointer that follows it, and the way back.

history.json decides; `current` follows it. A kill between the two is mended by `settle` when the
next command starts, so that a model is published or it is not. The history names each model by its
hashes: what can be rolled back to, and learned from, is what was published and nothing else.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from jobs.nightly.durable import point_durably, read_durable, write_durably
from jobs.nightly.folder import NightFolder, night_folders
from jobs.nightly.models import artefact_digest, require_same
from jobs.nightly.plan import Model
from marigold_rec.errors import CheckpointError, ConfigError

_RESTORE = (
    "put it back from a backup: without it nobody knows what may be learned from. Or begin anew "
    "under another run.name"
)


class Change(BaseModel):
    """One line of the history."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: Literal["published", "rolled back"]
    night: datetime.date
    """That of the model which is in use from then on."""
    at: str
    """UTC, ISO 8601."""
    model: Model
    """It; training goes on from here."""
    artefact_sha256: str | None
    """Of its artefact.json, for servers; None: it was published without an artefact."""


class Published:
    """The models below <root>/nights that were published. One process at a time changes them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / "published" / "history.json"
        self.pointer = root / "published" / "current"

    @property
    def history(self) -> tuple[Change, ...]:
        """Raises CheckpointError when it can't be read: what is in use must not be guessed."""
        return read_durable(self._file, tuple[Change, ...], _RESTORE) or ()

    def reachable(self) -> tuple[Change, ...]:
        """The publications that a rollback can reach, the current one last."""
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
        """The nights of `reachable`."""
        return tuple(change.night for change in self.reachable())

    @property
    def current(self) -> datetime.date | None:
        nights = self.in_use()
        return nights[-1] if nights else None

    def base(self) -> Model | None:
        """The model in use, to go on from; None before the first publication.

        Raises CheckpointError where servers or training would meet another model than was
        published.
        """
        if not (reachable := self.reachable()):
            return None
        self._require_as_published(reachable[-1])
        return reachable[-1].model

    def publish(self, model: Model, artefact_sha256: str | None) -> None:
        """Again for the current one: nothing."""
        reachable = self.reachable()
        if not reachable or reachable[-1].model != model:
            self._append("published", model, artefact_sha256)

    def roll_back(
        self, at: Callable[[str], None] = lambda point: None
    ) -> tuple[datetime.date, tuple[str, ...]]:
        """Goes back to the newest model before the current one that is still as it was published.

        Returns its night, and why others were passed over. Raises ConfigError where there is none.
        `at`: see Night.
        """
        *earlier, _ = self.reachable() or (None,)
        passed: list[str] = []
        for change in reversed(earlier):
            assert change is not None
            if not (self._root / change.model.checkpoint).is_dir():
                passed.append(
                    f"the model of {change.night} is not kept any more; raise "
                    "nightly.keep_published for the future"
                )
                continue
            try:
                self._require_as_published(change)
            except CheckpointError as error:
                passed.append(str(error))
                continue
            self._append("rolled back", change.model, change.artefact_sha256)
            at("rollback:history")
            self.settle()
            return change.night, tuple(passed)
        nights = ", ".join(map(str, self.in_use())) or "none"
        why = "; ".join(passed) or f"published, and not rolled back, is {nights}"
        raise ConfigError(f"--rollback: {self._file} has no earlier model to go back to: {why}")

    def check(self) -> None:
        """Raises CheckpointError where the history can't be all that was published.

        A lost, emptied or older history would make the next night a first night, which trains cold
        and is held against nothing; or would bring back what was rolled back.
        """
        known = {change.night for change in self.history}
        self.reachable()
        lost = {night for night, folder in night_folders(self._root) if folder.was_published}
        if self.pointer.is_symlink():
            try:
                lost.add(datetime.date.fromisoformat(self.pointer.readlink().name))
            except ValueError:
                raise CheckpointError(
                    f"{self.pointer}: points to {self.pointer.readlink()}, which is no night; "
                    "remove it: it is made anew from the history"
                ) from None
        elif self.pointer.exists():
            raise CheckpointError(
                f"{self.pointer}: is no symbolic link; move it away: it is made anew from the "
                "history"
            )
        if lost := sorted(lost - known):
            raise CheckpointError(
                f"{self._file}: {'names no' if known else 'is missing or empty, without any'} "
                f"publication of {', '.join(map(str, lost))}, whose model was published; {_RESTORE}"
            )

    def settle(self) -> None:
        """Makes the pointer follow the history, and the stages of the night that it names last.

        A kill behind the history's new line must not publish the same night twice: a rollback may
        come before it goes on.
        """
        if self.current is None:
            return
        last = self.history[-1]
        folder = NightFolder(self._root, last.night)
        if last.what == "published" and not folder.was_published:
            folder.mark("publish", 0.0)
        target = f"../nights/{self.current}"
        if not self.pointer.is_symlink() or str(self.pointer.readlink()) != target:
            point_durably(self.pointer, target)

    def _require_as_published(self, change: Change) -> None:
        which = f"was published on {change.at} for night {change.night}; put that one back"
        require_same(self._root, change.model, which)
        folder = NightFolder(self._root, change.night)
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
        write_durably(self._file, json.dumps(entries, indent=1) + "\n")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
