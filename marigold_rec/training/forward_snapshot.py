"""Undoes a training forward, for a batch that is left out after all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from marigold_rec.training.probing.random_stream import random_state, set_random_state


@dataclass(frozen=True)
class ForwardSnapshot:
    """Copies of what a training forward changes, taken before it: buffers (a balancer's running
    means, a network's own statistics) and the device's random stream, from which dropout draws.

    It holds no parameter: a forward moves none. It holds no tables: they may be larger than what
    memory is left.
    """

    buffers: tuple[tuple[Tensor, Tensor], ...]
    """(live, copy)."""
    random: Tensor
    device: torch.device

    @classmethod
    def take(cls, buffers: Iterable[Tensor], device: torch.device) -> ForwardSnapshot:
        copies = tuple((live, live.detach().clone()) for live in buffers)
        return cls(copies, random_state(device), device)

    @torch.no_grad()
    def rollback(self) -> None:
        """Makes balancer, network and random stream what they were before the forward.

        Call it instead of the backward, on every rank. Two traces stay: biases of heads that were
        initialised from this batch's labels, and, if a probe would have left a direction for the
        next batch, that batch is probed along the direction before.
        """
        for live, copy in self.buffers:
            live.copy_(copy)
        set_random_state(self.random, self.device)
