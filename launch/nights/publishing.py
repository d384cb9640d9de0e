"""What is published: a history, a pointer that follows it, and the way back.

history.json decides; `current` follows it. A kill between the two is mended by `settle` when the
next command starts, so that a model is published or it is not.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from launch.nights.durable import point_durably, write_durably
from marigold_rec.errors import CheckpointError, ConfigError


class Change(BaseModel):
    """One line of the history."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: Literal["published", "rolled back"]
    night: datetime.date
    """That of the model which is in use from then on."""
    at: str
    """UTC, ISO 8601."""


class Published:
    """The models below <root>/nights that were published. One process at a time changes them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / "published" / "history.json"
        self.pointer = root / "published" / "current"

    @property
    def history(self) -> tuple[Change, ...]:
        """Raises CheckpointError when it can't be read: what is in use must not be guessed."""
        try:
            text = self._file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise CheckpointError(f"{self._file}: can't be read ({error.strerror})") from error
        try:
            return tuple(Change.model_validate(entry) for entry in json.loads(text))
        except (ValueError, TypeError, ValidationError) as error:
            raise CheckpointError(
                f"{self._file}: is damaged ({error}); `current` shows what is in use"
            ) from error

    def in_use(self) -> tuple[datetime.date, ...]:
        """The published nights that a rollback can reach, the current one last."""
        nights: list[datetime.date] = []
        for change in self.history:
            if change.what == "published":
                nights.append(change.night)
            else:
                nights.pop()
        return tuple(nights)

    @property
    def current(self) -> datetime.date | None:
        nights = self.in_use()
        return nights[-1] if nights else None

    def publish(self, night: datetime.date) -> None:
        """Again for the current one: nothing."""
        if self.current != night:
            self._append(Change(what="published", night=night, at=_now()))

    def roll_back(self) -> datetime.date:
        """Back to the model that was published before; returns its night. Raises ConfigError."""
        nights = self.in_use()
        if len(nights) < 2:
            there = f"only that of {nights[0]}" if nights else "none"
            raise ConfigError(
                f"--rollback: {self._file} has no earlier model to go back to ({there} was "
                "published)"
            )
        before = nights[-2]
        if not (self._root / "nights" / str(before) / "train" / "checkpoints").is_dir():
            raise ConfigError(
                f"--rollback: the model of {before} is not kept any more; raise "
                "nightly.keep_published for the future"
            )
        self._append(Change(what="rolled back", night=before, at=_now()))
        self.settle()
        return before

    def settle(self) -> None:
        """Makes the pointer follow the history."""
        if self.current is None:
            return
        target = f"../nights/{self.current}"
        if not self.pointer.is_symlink() or str(self.pointer.readlink()) != target:
            point_durably(self.pointer, target)

    def _append(self, change: Change) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        entries = [each.model_dump(mode="json") for each in (*self.history, change)]
        write_durably(self._file, json.dumps(entries, indent=1) + "\n")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
