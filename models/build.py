"""From a config to its embeddings and its network."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, cast

import torch

from marigold_rec.config.components import (
    ENCODERS,
    HEADS,
    INTERACTIONS,
    LOSSES,
    TRUNKS,
    component_class,
    component_name,
)
from marigold_rec.config.schema import Config
from marigold_rec.config.section import Section
from marigold_rec.contracts import Encoder, Interaction
from marigold_rec.inputs import InputLayout, SequenceSlot, Slot, slots_of, width_of
from marigold_rec.network import Network, Stages, common_slots, joined_slots, trunk_slots
from models.embeddings import Embeddings
from models.stacked_mlp import StackedMLP


def build_embeddings(config: Config, device: torch.device | str = "meta") -> Embeddings:
    """The config's tables; on "meta" (no memory, no values) for DistributedModelParallel."""
    return Embeddings(config.tables, input_layout(config), device=device)


def input_layout(config: Config) -> InputLayout:
    """The names and widths of what the config's network reads."""
    dims = {feature: table.dim for table in config.tables for feature in table.features}
    unpooled = config.sequence_features
    sequences = tuple(
        SequenceSlot(name, feature, dims[feature], config.model.sequences[name].query)
        for name, feature in unpooled.items()
    )
    pooled = [f.name for f in config.sparse_features if f.name not in unpooled.values()]
    return InputLayout(
        pooled=slots_of([(name, dims[name]) for name in pooled]),
        dense=slots_of([(f.name, 1) for f in config.dense_features]),
        sequences=sequences,
    )


def build_network(config: Config) -> Network:
    """The config's network, float32, initialised from torch's CPU generator.

    Every rank that seeds torch alike before the call gets the same parameters.
    """
    layout, model = input_layout(config), config.model
    trunk_width = cast(Any, model.trunk).out_width
    head_width = model.tower_layers[-1] if model.tower_layers else trunk_width
    heads = {
        task.name: _class(HEADS, task.head)(task.head, task, head_width) for task in config.tasks
    }
    terms = {}
    for task in config.tasks:
        loss_class = _class(LOSSES, task.loss)
        for name, head in loss_class.extra_heads(task, head_width).items():
            heads[f"{task.name}/{name}"] = head
        terms[task.name] = loss_class(task.loss, task, heads)
    encoders = [_encoder(model.sequences[slot.name], slot, layout) for slot in layout.sequences]
    joined = joined_slots(layout, encoders)
    kept = frozenset(config.restricted_readers)
    slots = common_slots(joined, kept)
    interactions: list[Interaction] = []
    for settings in model.interactions:
        interactions.append(_class(INTERACTIONS, settings)(settings, slots))
        slots = interactions[-1].slots
    slots = trunk_slots(joined, interactions, kept)
    outputs, dropout = len(heads), model.dropout
    reads_OJ = _reads(config.restricted_readers, list(heads), slots)
    trunk = _class(TRUNKS, model.trunk)(model.trunk, width_of(slots), outputs, dropout, reads_OJ)
    towers = StackedMLP(outputs, trunk.out_width, model.tower_layers, dropout, stack="output")
    stages = Stages(encoders, interactions, trunk, towers, heads, kept)
    return Network(layout, config.task_names, terms, stages)


def _reads(
    readers: Mapping[str, Container[str]], outputs: Sequence[str], slots: Sequence[Slot]
) -> torch.Tensor | None:
    """reads_OJ (bool): the columns that each output reads; None: each reads all."""
    if not readers:
        return None
    reads_OJ = torch.ones(len(outputs), width_of(slots), dtype=torch.bool)
    for slot in slots:
        if (tasks := readers.get(slot.name)) is not None:
            for row, output in enumerate(outputs):
                reads_OJ[row, slot.start : slot.stop] = output.partition("/")[0] in tasks
    return reads_OJ


def _encoder(settings: Section, slot: SequenceSlot, layout: InputLayout) -> Encoder:
    query_width = sum(layout.pooled_slot(feature).width for feature in slot.query)
    return _class(ENCODERS, settings)(settings, slot, query_width)


def _class(table: dict[str, str], settings: Section) -> Any:
    return component_class(table, component_name(settings))


__all__: Sequence[str] = ["build_embeddings", "build_network", "input_layout"]
