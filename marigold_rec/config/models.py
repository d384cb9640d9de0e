"""The dense part of a model, stage by stage: encoders, interactions, trunk, towers."""

from __future__ import annotations

from typing import Any, Literal, cast

from pydantic import Field

from marigold_rec.config.components import EncoderField, InteractionField, TrunkField
from marigold_rec.config.names import Name, Width
from marigold_rec.config.section import Section


class ModelConfig(Section):
    sequences: dict[Name, EncoderField] = Field(default_factory=dict)
    """Sequence -> its encoder. Its features are read unpooled."""
    interactions: tuple[InteractionField, ...] = ()
    """Between the joined input and the trunk, in this order."""
    trunk: TrunkField = cast(Any, {"name": "mmoe"})
    tower_layers: tuple[Width, ...] = (32,)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    head_bias_init: Literal["labels", "zero"] = "labels"
    """Where the heads' biases begin; labels: at the mean label of the first batch."""
