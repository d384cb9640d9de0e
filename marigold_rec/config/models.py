"""The networks between the pooled embeddings and the tasks' heads."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from marigold_rec.config.names import Width
from marigold_rec.config.section import Section


class _Model(Section):
    tower_layers: tuple[Width, ...] = (32,)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    head_start: Literal["labels", "zero"] = Field(
        default="labels",
        description="Where the heads' biases begin; labels: at the mean label of the first batch.",
    )


class SharedBottomModel(_Model):
    name: Literal["shared_bottom"]
    bottom_layers: tuple[Width, ...] = Field(default=(128, 64), min_length=1)


class MMoEModel(_Model):
    name: Literal["mmoe"]
    experts: int = Field(default=4, ge=1)
    expert_layers: tuple[Width, ...] = Field(default=(64, 32), min_length=1)


class PLEModel(_Model):
    name: Literal["ple"]
    levels: int = Field(default=2, ge=1)
    shared_experts: int = Field(default=2, ge=1)
    task_experts: int = Field(default=1, ge=1, description="Experts of each task, per level.")
    expert_layers: tuple[Width, ...] = Field(default=(64, 32), min_length=1)


Model = Annotated[SharedBottomModel | MMoEModel | PLEModel, Field(discriminator="name")]
