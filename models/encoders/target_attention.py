"""DIN's attention with the item shown (Zhou et al., KDD 2018, "Deep Interest Network", eq. 3).

Shapes: B rows, N ids of all rows, W width of a sequence's vectors, Q width of the query.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from marigold_rec.config.names import Name, Width
from marigold_rec.config.sequences import EncoderSettings
from marigold_rec.inputs import Jagged, SequenceSlot
from models.encoders.segments import segment_softmax, segment_sum


class TargetAttentionSettings(EncoderSettings):
    name: Literal["target_attention"]
    query: tuple[Name, ...] = Field(min_length=1)
    """Features that are no lists: the item shown, say."""
    layers: tuple[Width, ...] = (32,)
    """Of the attention's network."""
    normalise: bool = False
    """Softmax over the sequence; the paper does not, so that the strength of an interest counts."""


class TargetAttention(nn.Module):
    """e = sum_i a(v_i, q) v_i with a = MLP([v, q, v - q, v * q]); zeros for an empty sequence.

    Differences from the paper: ReLU in place of Dice (whose batch statistics a probe would move),
    and a query of another width than the sequence is first projected to it.
    """

    Settings = TargetAttentionSettings

    def __init__(
        self, settings: TargetAttentionSettings, slot: SequenceSlot, query_width: int
    ) -> None:
        super().__init__()
        width = self.out_width = slot.width
        self.project = nn.Identity() if query_width == width else nn.Linear(query_width, width)
        layers: list[nn.Module] = []
        for i, o in zip([4 * width, *settings.layers], settings.layers, strict=False):
            layers += [nn.Linear(i, o), nn.ReLU()]
        last = settings.layers[-1] if settings.layers else 4 * width
        self.score = nn.Sequential(*layers, nn.Linear(last, 1))
        self._normalises = settings.normalise

    def forward(self, sequence: Jagged, query_BQ: Tensor | None) -> Tensor:
        """e_BW."""
        assert query_BQ is not None, "the settings ask for a query"
        row_N, value_NW = sequence.row_of_value(), sequence.values_NW
        query_NW = self.project(query_BQ).index_select(0, row_N)
        parts = [value_NW, query_NW, value_NW - query_NW, value_NW * query_NW]
        attention_N1 = self.score(torch.cat(parts, dim=1))
        if self._normalises:
            attention_N1 = segment_softmax(attention_N1, row_N, sequence.num_rows)
        return segment_sum(attention_N1 * value_NW, row_N, sequence.num_rows)
