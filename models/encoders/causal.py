"""What the transformer and HSTU share: tokens oldest first, the query last, one vector out.

Shapes: B rows, N tokens of all rows, W width of a token, Q width of the query.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor, nn

from marigold_rec.config.sequences import EncoderSettings
from marigold_rec.inputs import Jagged, SequenceSlot
from models.encoders.segments import CausalPairs, append_token, causal_pairs, oldest_first


class CausalSettings(EncoderSettings):
    """Settings that both encoders have."""

    newest_first: bool = False
    """The log lists the newest id first."""
    blocks: int = Field(default=2, ge=1, le=64)
    heads: int = Field(default=2, ge=1)
    """Must divide the features' dim."""
    max_age: int = Field(default=64, ge=1)
    """Older positions share the embedding of this age."""


class CausalEncoder(nn.Module):
    """Each token attends to those that are not newer; the output is that of the last token: of the
    query, which is appended to the sequence, or of the newest id where there is no query (zeros for
    an empty sequence then)."""

    def __init__(self, settings: CausalSettings, slot: SequenceSlot, query_width: int) -> None:
        super().__init__()
        width = self.out_width = slot.width
        if width % settings.heads:
            raise ValueError(
                f"model.sequences.{slot.name}.heads: {settings.heads} does not divide the width "
                f"{width} of its vectors"
            )
        self.project = nn.Linear(query_width, width) if query_width else None
        self.ages = nn.Parameter(torch.zeros(settings.max_age + 1, width))
        nn.init.normal_(self.ages, std=0.02)
        self._newest_first = settings.newest_first

    @abstractmethod
    def attend(self, x_NW: Tensor, pairs: CausalPairs) -> Tensor:
        """x_NW after all blocks."""

    def forward(self, sequence: Jagged, query_BQ: Tensor | None) -> Tensor:
        """e_BW."""
        if self._newest_first:
            sequence = oldest_first(sequence)
        if self.project is not None:
            assert query_BQ is not None
            sequence = append_token(sequence, self.project(query_BQ))
        offsets, num_tokens = sequence.offsets, sequence.values_NW.shape[0]
        token_N = torch.arange(num_tokens, device=offsets.device)
        end_N = offsets.index_select(0, sequence.row_of_value() + 1)
        age_N = (end_N - 1 - token_N).clamp(max=len(self.ages) - 1)
        x_NW = sequence.values_NW + self.ages.index_select(0, age_N)
        x_NW = self.attend(x_NW, causal_pairs(offsets, num_tokens))
        if self.project is not None:
            return x_NW.index_select(0, offsets[1:] - 1)
        is_there_B = sequence.lengths_B > 0
        # A row of zeros in front is the last token of an empty row.
        padded = torch.cat([x_NW.new_zeros(1, x_NW.shape[1]), x_NW])
        return padded.index_select(0, torch.where(is_there_B, offsets[1:], 0))
