"""The mean of a sequence's vectors: what pooling does, as an encoder.

Shapes: B rows, W width of a sequence's vectors, Q width of the query.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from marigold_rec.config.sequences import EncoderSettings
from marigold_rec.inputs import Jagged, SequenceSlot


class MeanSettings(EncoderSettings):
    name: Literal["mean"]


class MeanEncoder(nn.Module):
    """Zeros for an empty sequence."""

    Settings = MeanSettings

    def __init__(self, settings: MeanSettings, slot: SequenceSlot, query_width: int) -> None:
        super().__init__()
        self.out_width = slot.width

    def forward(self, sequence: Jagged, query_BQ: Tensor | None) -> Tensor:
        """e_BW."""
        return sequence.sum() / sequence.lengths_B.clamp(min=1)[:, None]
