"""Remembers and replays a device's random stream, so that two forwards see one dropout mask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def random_state(device: torch.device) -> Tensor:
    """Returns the state of the device's random stream."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(state: Tensor, device: torch.device) -> None:
    """Sets the device's random stream to `state`."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


@contextmanager
def replayed(state: Tensor, device: torch.device) -> Iterator[None]:
    """Sets the stream to `state`; afterwards it goes on as if nothing had been drawn."""
    after = random_state(device)
    set_random_state(state, device)
    try:
        yield
    finally:
        set_random_state(after, device)
