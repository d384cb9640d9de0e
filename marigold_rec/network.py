"""The dense part of a model: encoders, interactions, trunk, towers and heads, wired once.

Shapes: B rows, I width of the joined input, J width of the trunk's input, O outputs, H width of a
tower's output, K raw numbers of a head, P prediction columns.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from marigold_rec.axes import Axes, Axis, ExpertsOf, axes_of, members_of, state_members
from marigold_rec.contracts import Encoder, Head, Interaction, LossTerm, Trunk
from marigold_rec.inputs import InputLayout, Inputs, Slot, slots_of

Entries = tuple[tuple[str, int], ...]
"""What lies along an axis, in order: (name, number of entries)."""


@dataclass(frozen=True)
class NetworkLayout:
    """What the parameters of a network mean, for a warm start of another network by it."""

    axes: Mapping[str, tuple[Entries | None, ...]]
    """Parameter -> for each axis what lies along it; None: its entries have no names."""
    parts: Mapping[str, tuple[str, ...]]
    """A list of modules ("heads" of heads.0, heads.1, ...) -> its members' names in order."""


@dataclass(frozen=True)
class Stages:
    """What a network is wired from."""

    encoders: Sequence[Encoder]
    interactions: Sequence[Interaction]
    """Of the columns that every output may read; `kept` ones pass them by."""
    trunk: Trunk
    towers: nn.Module
    """From the trunk's h_BH or h_OBH to one tower_BH for each output, stacked."""
    heads: Mapping[str, Head]
    """By output; the tasks' come first, in the config's order."""
    kept: frozenset[str] = frozenset()
    """Features and sequences that are kept from some output."""


class Network(nn.Module):
    """Inputs -> encoders -> [pooled, encoded, dense] -> interactions -> trunk -> towers -> heads.

    Every task has an output of its own name; a loss may have asked for more (an imputation tower,
    say), which come after them and are not predictions.
    """

    def __init__(
        self,
        layout: InputLayout,
        tasks: Sequence[str],
        terms: Mapping[str, LossTerm],
        stages: Stages,
    ) -> None:
        super().__init__()
        self.input_layout = layout
        self.tasks = tuple(tasks)
        self.output_names = tuple(stages.heads)
        self.terms = dict(terms)
        """A task's loss, by task in the config's order: what the balancer weighs."""
        self.encoders = _modules(stages.encoders, [slot.name for slot in layout.sequences])
        kinds = [type(interaction).__name__ for interaction in stages.interactions]
        places = [f"{kind}-{kinds[:i].count(kind)}" for i, kind in enumerate(kinds)]
        self.interactions = _modules(stages.interactions, places)
        self.trunk = cast(nn.Module, stages.trunk)
        self.towers = stages.towers
        self.heads = _modules(list(stages.heads.values()), self.output_names)
        joined = joined_slots(layout, stages.encoders)
        self._common = common_slots(joined, stages.kept)
        self._trunk_slots = trunk_slots(joined, stages.interactions, stages.kept)
        self._pass_by = [slot for slot in joined if slot.name in stages.kept]
        self._joined = joined

    @property
    def task_heads(self) -> tuple[Head, ...]:
        """One head per task, in the config's order."""
        return cast("tuple[Head, ...]", tuple(self.heads[: len(self.tasks)]))

    @property
    def prediction_columns(self) -> tuple[str, ...]:
        """Names of the columns of `predict`: the tasks' expected values in the config's order,
        then the other columns of their heads as <task>_<column>."""
        return prediction_columns(dict(zip(self.tasks, self.task_heads, strict=True)))

    @property
    def extra_columns(self) -> tuple[tuple[str, str], ...]:
        """(task, column) of the predictions behind the tasks' expected values, in their order."""
        heads = zip(self.tasks, self.task_heads, strict=True)
        return tuple((task, column) for task, head in heads for column in head.columns[1:])

    @property
    def shared_parameters(self) -> Mapping[str, nn.Parameter]:
        """The parameters through which more than one task's gradient flows, by name."""
        axes = self._axes()
        return {n: p for n, p in self.named_parameters() if axes[n].is_shared}

    @property
    def layout(self) -> NetworkLayout:
        sizes = {name: tuple(p.shape) for name, p in self.named_parameters()}
        return NetworkLayout(
            {
                name: tuple(
                    self._entries(name, axis, size)
                    for axis, size in zip(axes.names, sizes[name], strict=True)
                )
                for name, axes in self._axes().items()
            },
            members_of(self),
        )

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Each head's raw output_BK, in the order of `output_names`."""
        x = self._join(inputs)
        if self.interactions:
            x = self._interact(x)
        towers_OBH = self.towers(self.trunk(x))
        return tuple(
            head(tower_BH) for head, tower_BH in zip(self.heads, towers_OBH.unbind(), strict=True)
        )

    def predict(self, outputs: Sequence[Tensor]) -> Tensor:
        """predictions_BP, float32, in the labels' units; columns as `prediction_columns`."""
        found = [head.predict(y) for head, y in zip(self.task_heads, outputs, strict=False)]
        if all(prediction_BC.shape[1] == 1 for prediction_BC in found):
            return torch.cat(found, dim=1)
        means = [prediction_BC[:, :1] for prediction_BC in found]
        return torch.cat(means + [prediction_BC[:, 1:] for prediction_BC in found], dim=1)

    def _interact(self, x_BI: Tensor) -> Tensor:
        passing = [x_BI[:, slot.start : slot.stop] for slot in self._pass_by]
        if passing:
            kept = {slot.name for slot in self._pass_by}
            common = [x_BI[:, s.start : s.stop] for s in self._joined if s.name not in kept]
            x_BI = torch.cat(common, dim=1)
        for interaction in self.interactions:
            x_BI = interaction(x_BI)
        return torch.cat([x_BI, *passing], dim=1) if passing else x_BI

    def _join(self, inputs: Inputs) -> Tensor:
        """x_BI; the pooled embeddings themselves where there is nothing else."""
        pieces = [inputs.pooled_BR, *self._encoded(inputs)]
        if inputs.dense_BD.shape[1]:
            pieces.append(inputs.dense_BD.to(inputs.pooled_BR.dtype))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

    def _encoded(self, inputs: Inputs) -> Iterator[Tensor]:
        for slot, encoder in zip(self.input_layout.sequences, self.encoders, strict=True):
            query = [self.input_layout.pooled_slot(feature) for feature in slot.query]
            columns = [inputs.pooled_BR[:, s.start : s.stop] for s in query]
            yield encoder(inputs.sequences[slot.name], torch.cat(columns, 1) if columns else None)

    def _axes(self) -> Mapping[str, Axes]:
        """As stated, but that a head is of one output, so never shared."""
        return {
            name: Axes(axes.names, axes.is_shared and not name.startswith("heads."))
            for name, axes in axes_of(self).items()
        }

    def _entries(self, parameter: str, axis: Axis, size: int) -> Entries | None:
        if axis is None:
            return None
        if isinstance(axis, ExpertsOf):
            return (*((name, axis.each) for name in self.output_names), ("", axis.shared))
        if axis == "output":
            each = size // len(self.output_names)
            return tuple((name, each) for name in self.output_names)
        slots = self._trunk_slots
        if parameter.startswith("interactions."):
            before = int(parameter.split(".")[1]) - 1
            first = self._common
            slots = cast(Any, self.interactions[before]).slots if before >= 0 else first
        return tuple((slot.name, slot.width) for slot in slots)


def joined_slots(layout: InputLayout, encoders: Sequence[Encoder]) -> tuple[Slot, ...]:
    """The columns of x_BI."""
    pooled = [(slot.name, slot.width) for slot in layout.pooled]
    encoded = [
        (slot.name, encoder.out_width)
        for slot, encoder in zip(layout.sequences, encoders, strict=True)
    ]
    dense = [(slot.name, slot.width) for slot in layout.dense]
    return slots_of([*pooled, *encoded, *dense])


def common_slots(joined: Sequence[Slot], kept: Container[str]) -> tuple[Slot, ...]:
    """The columns that interactions read."""
    return slots_of([(slot.name, slot.width) for slot in joined if slot.name not in kept])


def trunk_slots(
    joined: Sequence[Slot], interactions: Sequence[Interaction], kept: Container[str]
) -> tuple[Slot, ...]:
    """The columns of the trunk's input."""
    if not interactions:
        return tuple(joined)
    passing = [(slot.name, slot.width) for slot in joined if slot.name in kept]
    return slots_of([*((slot.name, slot.width) for slot in interactions[-1].slots), *passing])


def prediction_columns(heads: Mapping[str, Head]) -> tuple[str, ...]:
    """Names of the prediction columns of `heads` (task -> head)."""
    others = [f"{task}_{c}" for task, head in heads.items() for c in head.columns[1:]]
    return (*heads, *others)


def _modules(stages: Sequence[Any], names: Sequence[str]) -> nn.ModuleList:
    return state_members(nn.ModuleList(cast("Sequence[nn.Module]", stages)), names)
