"""Reads and writes the folder of one nightly run: its plan, its finished stages, its ending."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jobs.nightly.plan import Model, NightlyPlan
from marigold_rec.atomic_io import read_json, write_atomically
from marigold_rec.errors import CheckpointError
from marigold_rec.gating.verdict import Verdict
from marigold_rec.record import Record


class Ending(Record):
    """The content of night.json: how the run ended."""

    night: datetime.date
    status: Literal["published", "refused"]
    exit_code: int
    sentence: str
    """A summary in one line; verdict.json holds every reason in full."""
    seconds: dict[str, float]
    """Stage -> how long it took."""
    rows: dict[str, dict[str, int]]
    """Table with a life cycle -> counts of its rows."""


class NightlyFolder:
    """The folder <root>/nights/<date>, with the paths and small files in it."""

    def __init__(self, root: Path, night: datetime.date) -> None:
        self.root = root
        self.path = root / "nights" / str(night)
        self.rows = self.path / "rows"
        self.train = self.path / "train"
        self.evaluation = self.path / "evaluation"
        self.holdout = self.path / "holdout"
        self.previous_candidate = self.path / "previous_candidate"
        self.matured_evaluation = self.path / "matured_evaluation"
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
    def plan(self) -> NightlyPlan | None:
        return read_json(
            self._plan_file,
            NightlyPlan,
            "restore it from a backup, or start the run again with --from data",
        )

    def begin(self, plan: NightlyPlan) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self._plan_file, plan.json_text())

    @property
    def model(self) -> Model | None:
        """Reads model.json: the run's trained model, which is evaluated, exported and published."""
        return read_json(self.model_file, Model, "train again with --from train")

    def record_model(self, model: Model) -> None:
        write_atomically(self.model_file, model.json_text())

    @property
    def verdict(self) -> Verdict | None:
        """Reads verdict.json; None while there is none."""
        return read_json(self.verdict_file, Verdict, "run the gate again with --from gate")

    @property
    def seconds(self) -> dict[str, float]:
        """Maps each finished stage to how long it took the last time."""
        remedy = "remove it and run the same command again: its stages are then repeated"
        return read_json(self._stages_file, dict[str, float], remedy) or {}

    @property
    def was_published(self) -> bool:
        """Returns True if its stage `publish` is done, so that the history must name the run."""
        try:
            return "publish" in self.seconds
        except CheckpointError:  # the history is checked against all files that can be read
            return False

    def mark_done(self, stage: str, seconds: float) -> None:
        done = {**self.seconds, stage: round(seconds, 1)}
        write_atomically(self._stages_file, json.dumps(done, indent=1) + "\n")

    @property
    def redo(self) -> str | None:
        """Reads the stage of an earlier --from, if a kill interrupted the clearing up."""
        remedy = "remove it and repeat the command with --from"
        return read_json(self._redo_file, str, remedy)

    def begin_redo(self, stage: str, again: Sequence[str]) -> None:
        """Marks the stages `again` as not done, and the run as unfinished.

        Until `end_redo`, the next start has to clear their outputs.
        """
        write_atomically(self._redo_file, json.dumps(stage) + "\n")
        self.night_file.unlink(missing_ok=True)
        done = {name: s for name, s in self.seconds.items() if name not in again}
        if self._stages_file.exists():
            write_atomically(self._stages_file, json.dumps(done, indent=1) + "\n")

    def end_redo(self) -> None:
        self._redo_file.unlink(missing_ok=True)

    def move_training_aside(self) -> None:
        self.model_file.unlink(missing_ok=True)
        if self.train.exists():
            number = 1
            while (target := self.path / f"train.previous-{number}").exists():
                number += 1
            self.train.rename(target)

    def clear(self, *paths: Path) -> None:
        """Removes a stage's outputs, files and folders."""
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    @property
    def ending(self) -> Ending | None:
        """Reads night.json; None while the run is not finished."""
        remedy = "remove it and run the same command again: its finished stages stay"
        return read_json(self.night_file, Ending, remedy)

    def end(self, ending: Ending) -> None:
        write_atomically(self.night_file, ending.json_text())


def nightly_folders(root: Path) -> list[tuple[datetime.date, NightlyFolder]]:
    """Lists (night, folder), oldest first."""
    found: list[tuple[datetime.date, NightlyFolder]] = []
    for path in (root / "nights").glob("????-??-??"):
        try:
            night = datetime.date.fromisoformat(path.name)
        except ValueError:
            continue
        found.append((night, NightlyFolder(root, night)))
    return sorted(found, key=lambda each: each[0])
