"""Features as vectors of one width: what FM and DLRM's dot products are made of.

Shapes: B rows, I width of the input, S slots with vectors, F their common width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from marigold_rec.axes import state_members
from marigold_rec.inputs import Slot


class Fields(nn.Module):
    """x_BI -> fields_BSF. A slot of another width is projected; one of width 1 (a dense feature) is
    no vector and is left out."""

    def __init__(self, slots: Sequence[Slot], width: int) -> None:
        super().__init__()
        self._slots = [slot for slot in slots if slot.width > 1]
        project = nn.ModuleList(
            nn.Identity() if slot.width == width else nn.Linear(slot.width, width, bias=False)
            for slot in self._slots
        )
        self.project = state_members(project, [slot.name for slot in self._slots])

    @property
    def names(self) -> tuple[str, ...]:
        """The features, in the order of their vectors."""
        return tuple(slot.name for slot in self._slots)

    def forward(self, x_BI: Tensor) -> Tensor:
        parts = [
            project(x_BI[:, slot.start : slot.stop])
            for slot, project in zip(self._slots, self.project, strict=True)
        ]
        return torch.stack(parts, dim=1)
