"""One night's folder: its plan, which stages are done, and how it ended."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from jobs.nightly.durable import read_durable, write_durably
from jobs.nightly.plan import Model, NightPlan
from marigold_rec.errors import CheckpointError


class Ending(BaseModel):
    """night.json: how a night ended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    night: datetime.date
    status: Literal["published", "refused"]
    exit_code: int
    sentence: str
    """For people, in one line; verdict.json holds every reason whole."""
    seconds: dict[str, float]
    """By stage."""
    rows: dict[str, dict[str, int]]
    """By table with a life cycle."""


class NightFolder:
    """<root>/nights/<date>."""

    def __init__(self, root: Path, night: datetime.date) -> None:
        self.root = root
        self.path = root / "nights" / str(night)
        self.rows = self.path / "rows"
        self.train = self.path / "train"
        self.evaluation = self.path / "evaluation"
        self.holdout = self.path / "holdout"
        self.yesterday = self.path / "yesterday"
        self.served = self.path / "served"
        self.artefact = self.path / "artefact"
        self.data_verdict_file = self.path / "data.json"
        self.recalibration_file = self.path / "recalibration.json"
        self.verdict_file = self.path / "verdict.json"
        self.model_file = self.path / "model.json"
        self.night_file = self.path / "night.json"
        self._plan_file = self.path / "plan.json"
        self._stages_file = self.path / "stages.json"
        self._redo_file = self.path / "redo.json"

    @property
    def plan(self) -> NightPlan | None:
        return read_durable(
            self._plan_file,
            NightPlan,
            "put it back from a backup, or begin the night anew with --from data",
        )

    def begin(self, plan: NightPlan) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_durably(self._plan_file, plan.model_dump_json(indent=1) + "\n")

    @property
    def model(self) -> Model | None:
        """model.json: what the night has trained, and all that is judged, exported or published."""
        return read_durable(self.model_file, Model, "train the night again with --from train")

    def note_model(self, model: Model) -> None:
        write_durably(self.model_file, model.model_dump_json(indent=1) + "\n")

    @property
    def seconds(self) -> dict[str, float]:
        """Of the stages that are done: how long each took the last time."""
        remedy = "remove it and run the night again: its stages are then done again"
        return read_durable(self._stages_file, dict[str, float], remedy) or {}

    @property
    def was_published(self) -> bool:
        """Whether its stage `publish` is done, so that the history must name the night."""
        try:
            return "publish" in self.seconds
        except CheckpointError:  # the history is judged by all that can be read
            return False

    def mark(self, stage: str, seconds: float) -> None:
        done = {**self.seconds, stage: round(seconds, 1)}
        write_durably(self._stages_file, json.dumps(done, indent=1) + "\n")

    @property
    def redo(self) -> str | None:
        """The stage from which somebody wanted the night again, if a kill met the clearing up."""
        remedy = "remove it and ask again with --from"
        return read_durable(self._redo_file, str, remedy)

    def begin_redo(self, stage: str, again: Sequence[str]) -> None:
        """The stages `again` are to be done again, and the night is not finished any more.

        Until `end_redo`, whoever starts next has to clear what they have left.
        """
        write_durably(self._redo_file, json.dumps(stage) + "\n")
        self.night_file.unlink(missing_ok=True)
        done = {name: s for name, s in self.seconds.items() if name not in again}
        if self._stages_file.exists():
            write_durably(self._stages_file, json.dumps(done, indent=1) + "\n")

    def end_redo(self) -> None:
        self._redo_file.unlink(missing_ok=True)

    def put_training_aside(self) -> None:
        self.model_file.unlink(missing_ok=True)
        if self.train.exists():
            number = 1
            while (target := self.path / f"train.previous-{number}").exists():
                number += 1
            self.train.rename(target)

    def clear(self, *paths: Path) -> None:
        """Removes what a stage has left, files and folders."""
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    @property
    def ending(self) -> Ending | None:
        """night.json; None while the night is not finished."""
        remedy = "remove it and run the night again: what its stages have done stays"
        return read_durable(self.night_file, Ending, remedy)

    def end(self, ending: Ending) -> None:
        write_durably(self.night_file, ending.model_dump_json(indent=1) + "\n")


def night_folders(root: Path) -> list[tuple[datetime.date, NightFolder]]:
    """Oldest first."""
    found: list[tuple[datetime.date, NightFolder]] = []
    for path in (root / "nights").glob("????-??-??"):
        try:
            night = datetime.date.fromisoformat(path.name)
        except ValueError:
            continue
        found.append((night, NightFolder(root, night)))
    return sorted(found, key=lambda each: each[0])
