"""DLRM's dot products of every two features' vectors (Naumov et al. 2019, arXiv:1906.00091).

Shapes: B rows, I width of the input, S slots with vectors, F their common width, P = S (S - 1) / 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from marigold_rec.config.names import Width
from marigold_rec.config.section import Section
from marigold_rec.inputs import Slot, width_of
from models.interactions.fields import Fields


class DotSettings(Section):
    name: Literal["dot"]
    width: Width = 16


class Dot(nn.Module):
    """[x, lower triangle of Z Z^T], Z the features' vectors; dense features take no part in it."""

    Settings = DotSettings

    def __init__(self, settings: DotSettings, slots: Sequence[Slot]) -> None:
        super().__init__()
        self.fields = Fields(slots, settings.width)
        names = self.fields.names
        # Named by their pair, so that a warm start finds them when the features' order changes.
        pairs = [
            " x ".join(sorted((names[i], names[j]))) for i in range(len(names)) for j in range(i)
        ]
        start = width_of(slots)
        self.slots = (*slots, *(Slot(pair, start + i, 1) for i, pair in enumerate(pairs)))

    def forward(self, x_BI: Tensor) -> Tensor:
        """x_B(I+P)."""
        fields_BSF = self.fields(x_BI)
        products_BSS = fields_BSF @ fields_BSF.transpose(1, 2)
        # Row by row: an index would be a constant of the exported program, which holds none.
        lower = [products_BSS[:, i, :i] for i in range(1, products_BSS.shape[1])]
        return torch.cat([x_BI, *lower], dim=1)
