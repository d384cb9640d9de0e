"""The tasks: what a label is and of which rows it is known, how it is predicted and learned."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import Field

from marigold_rec.config.components import HeadField, LossField
from marigold_rec.config.label_kinds import LABEL_KINDS
from marigold_rec.config.names import Name
from marigold_rec.config.section import Section


class _Task(Section):
    name: Name
    label: str
    """Parquet column; null means unobserved."""
    given: Name | None = None
    """The task of the step before in a funnel (the click of a conversion): the label counts only
    where that task's label is 1, and the product of both predictions is also evaluated over all
    rows."""
    observed_if: str | None = None
    """0/1 column; the label counts only where it is 1."""
    loss: LossField = cast(Any, {"name": "observed"})
    matures_h: float = Field(default=0.0, ge=0, le=87_600)
    """Hours after the row's event time at which the label is final, and due: its attribution
    window."""


class BinaryTask(_Task):
    """A label of 0 or 1; predictions are probabilities."""

    kind: Literal["binary"]
    head: HeadField = cast(Any, {"name": LABEL_KINDS["binary"].head})
    event_time: str | None = None
    """Column of when a label of 1 came true (conversion_time_ms, say): later than matures_h after
    the row's event time it is 0."""
    logit_offset: float = Field(default=0.0, ge=-20.0, le=20.0)
    """Added to the logit of every prediction, never in the loss: for a base rate that the
    training's rows don't show (log(r) where a share r of the negatives is kept)."""


class DurationTask(_Task):
    """A duration in seconds, such as watch time; predictions are in seconds."""

    kind: Literal["duration"]
    head: HeadField = cast(Any, {"name": LABEL_KINDS["duration"].head})
    max_s: float = Field(default=86_400.0, gt=0)
    """Longer labels are invalid, in seconds."""


Task = Annotated[BinaryTask | DurationTask, Field(discriminator="kind")]


def logit_offset_of(task: Task) -> float | None:
    """None: predictions of its kind have no logit."""
    return getattr(task, "logit_offset", None)
