"""One night's folder: its plan, which stages are done, and how it ended."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from launch.nights.durable import write_durably
from launch.nights.plan import NightPlan
from marigold_rec.errors import ConfigError


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
        self.night_file = self.path / "night.json"
        self._plan_file = self.path / "plan.json"
        self._stages_file = self.path / "stages.json"

    @property
    def plan(self) -> NightPlan | None:
        if not self._plan_file.exists():
            return None
        try:
            return NightPlan.model_validate_json(self._plan_file.read_bytes())
        except ValidationError as error:
            raise ConfigError(
                f"{self._plan_file}: is not a plan of this version ({error}); move the night's "
                "folder away to begin it anew"
            ) from error

    def begin(self, plan: NightPlan) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_durably(self._plan_file, plan.model_dump_json(indent=1) + "\n")

    def forget_plan(self) -> None:
        """The night is planned anew, with what is published and complete by then."""
        self._plan_file.unlink(missing_ok=True)

    @property
    def seconds(self) -> dict[str, float]:
        """Of the stages that are done: how long each took the last time."""
        return dict(_read(self._stages_file) or {})

    def mark(self, stage: str, seconds: float) -> None:
        done = {**self.seconds, stage: round(seconds, 1)}
        write_durably(self._stages_file, json.dumps(done, indent=1) + "\n")

    def unmark(self, stages: Sequence[str]) -> None:
        """These are to be done again; the night is not finished any more."""
        self.night_file.unlink(missing_ok=True)
        done = {name: s for name, s in self.seconds.items() if name not in stages}
        if self._stages_file.exists():
            write_durably(self._stages_file, json.dumps(done, indent=1) + "\n")

    @property
    def ending(self) -> dict[str, Any] | None:
        """night.json; None while the night is not finished."""
        return _read(self.night_file)

    def end(self, content: Mapping[str, Any]) -> None:
        write_durably(self.night_file, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _read(file: Path) -> dict[str, Any] | None:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


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
