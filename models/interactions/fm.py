"""Factorization machine: the sum of all products of two features' vectors (Rendle 2010).

Shapes: B rows, I width of the input, S slots with vectors, F their common width.
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


class FMSettings(Section):
    name: Literal["fm"]
    width: Width = 16


class FM(nn.Module):
    """[x, ((sum v)^2 - sum v^2) / 2]: elementwise, so that the trunk weighs each of the F sums
    (the paper adds them up)."""

    Settings = FMSettings

    def __init__(self, settings: FMSettings, slots: Sequence[Slot]) -> None:
        super().__init__()
        self.fields = Fields(slots, settings.width)
        self.slots = (*slots, Slot("fm", width_of(slots), settings.width))

    def forward(self, x_BI: Tensor) -> Tensor:
        """x_B(I+F)."""
        fields_BSF = self.fields(x_BI)
        products_BF = (fields_BSF.sum(1).square() - fields_BSF.square().sum(1)) / 2
        return torch.cat([x_BI, products_BF], dim=1)
