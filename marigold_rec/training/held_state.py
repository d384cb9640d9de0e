"""What a training forward changes, as it was before: for a batch that is left out after all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from marigold_rec.training.probing import random_state


@dataclass(frozen=True)
class HeldState:
    """Copies of buffers (a balancer's running means, a network's own statistics) and of the
    device's random stream, from which dropout draws.

    No parameter: a forward moves none. No tables: they may be larger than what memory is left.
    """

    buffers: tuple[tuple[Tensor, Tensor], ...]
    """(live, copy)."""
    random: Tensor
    device: torch.device

    @classmethod
    def of(cls, buffers: Iterable[Tensor], device: torch.device) -> HeldState:
        copies = tuple((live, live.detach().clone()) for live in buffers)
        return cls(copies, random_state(device), device)

    @torch.no_grad()
    def restore(self) -> None:
        for live, copy in self.buffers:
            live.copy_(copy)
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(self.random, self.device)
        else:
            torch.set_rng_state(self.random)
