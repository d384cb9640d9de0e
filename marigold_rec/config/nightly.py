"""The nightly job's settings; see docs/operations.md."""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import Field, model_validator

from marigold_rec.config.gate import GateConfig
from marigold_rec.config.section import Section


class RecalibrationConfig(Section):
    """Of the binary tasks with `matures_h`: what their served predictions were off, taken back."""

    nights: int = Field(default=3, ge=0)
    """The newest so many published models whose own days have final labels by now: what they were
    off moves tonight's predictions. 0: it is measured, and nothing is moved."""
    min_positives: int = Field(default=400, ge=1)
    """Of these days together; with fewer nothing is moved."""
    max_offset: float = Field(default=0.5, gt=0)
    """In logits, either way: more is an error, not a bias."""


class NightlyConfig(Section):
    """What launch/nightly.py does with a new day. Its nights lie below run.dir/run.name."""

    eval_days: int = Field(default=1, ge=1)
    """The newest days judge the model, and are learned the night after."""
    first_days: int = Field(default=7, ge=1)
    """Days that the first night learns, which has no model to go on from: as many as are there, at
    most so many."""
    train_from: datetime.date | None = None
    """Leaves out the days before that no model has learned yet (a bad partition); null: none."""
    holdout: tuple[datetime.date, datetime.date] | None = None
    """First and last of fixed days on which every night's model is judged too; they are never
    learned. null: none."""
    complete_marker: str | None = Field(default=None, min_length=1, pattern=r"^[^/]+$")
    """File that says that a day's folder is complete, _SUCCESS say; null: a day with a Parquet file
    is complete."""
    wait_s: float = Field(default=0.0, ge=0.0)
    """How long to wait for days that are not complete yet."""
    poll_s: float = Field(default=30.0, gt=0.0)
    """Between two looks while waiting."""
    ranks: int | None = Field(default=None, ge=1)
    """Processes per stage; null: one per GPU, without a GPU 1. Ignored with a launcher."""
    launcher: tuple[str, ...] = ()
    """Command that starts a Python script on all ranks, e.g. of Slurm; (): torchrun on this
    machine."""
    max_restarts: int = Field(default=2, ge=0)
    """Of a training whose ranks died: it goes on from its last checkpoint."""
    export: Literal["fp32", "fp16", "int8"] | None = "fp32"
    """Precision of the tables in the artefact of a published model; null: none is made."""
    keep_published: int = Field(default=3, ge=1)
    """Published models to keep for a rollback, the current one too."""
    keep_nights: int = Field(default=2, ge=1)
    """Newest nights whose model stays though it is not published."""
    recalibration: RecalibrationConfig = RecalibrationConfig()
    gate: GateConfig = GateConfig()

    @model_validator(mode="after")
    def _ordered(self) -> NightlyConfig:
        if self.holdout is not None and self.holdout[0] > self.holdout[1]:
            raise ValueError(
                f"holdout runs backwards: {self.holdout[0]} is after {self.holdout[1]}; swap them"
            )
        return self
