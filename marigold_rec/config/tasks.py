"""The kinds of task: what is learned, and of which rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from marigold_rec.config.names import Name
from marigold_rec.config.section import Section


class _Task(Section):
    name: Name
    label: str = Field(description="Parquet column; null means unobserved.")
    observed_if: str | None = Field(
        default=None, description="0/1 column; the label counts only where it is 1."
    )
    matures_h: float = Field(
        default=0.0,
        ge=0,
        le=87_600,
        description="Hours after the row's event time at which the label is final, and due: its "
        "attribution window.",
    )


class BinaryTask(_Task):
    kind: Literal["binary"]
    event_time: str | None = Field(
        default=None,
        description="Column of when a label of 1 came true (conversion_time_ms, say): later than "
        "matures_h after the row's event time it is 0.",
    )
    logit_offset: float = Field(
        default=0.0,
        ge=-20.0,
        le=20.0,
        description="Added to the logit of every prediction, never in the loss: for a base rate "
        "that the training's rows don't show (log(r) where a share r of the negatives is kept).",
    )


class WatchTimeTask(_Task):
    """Watch time in seconds, learned on log(1+s); predictions are in seconds."""

    kind: Literal["watch_time"]
    method: Literal["log_mse", "log_huber"] = "log_mse"
    huber_delta: float = Field(default=1.0, gt=0, description="In units of log(1+s).")
    max_s: float = Field(
        default=86_400.0, gt=0, description="Longer labels are invalid, in seconds."
    )


Task = Annotated[BinaryTask | WatchTimeTask, Field(discriminator="kind")]
