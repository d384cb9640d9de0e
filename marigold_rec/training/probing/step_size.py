"""How far a finite difference moves: so near that no curvature shows, so far that no rounding does.

The self-check r = sum c h / ||d||^2 is 1 when the difference is exact, so |r - 1| is an error that
costs nothing to know. While it is too large the step is halved, or doubled once halving has made it
worse (then rounding, not curvature, is the error).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

_TOLERANCE = 0.02
_LIMITS = (2.0**-12, 2.0**12)
_TINY = 1e-30


class StepSize(nn.Module):
    """State lies in buffers: it is equal on all ranks, and checkpoints carry it."""

    def __init__(self, *, adapts: bool) -> None:
        super().__init__()
        self._adapts = adapts
        self.register_buffer("factor", torch.ones(()))
        self.register_buffer("turn", torch.full((), 0.5))
        """What the factor is multiplied by while the error is too large: 0.5 or 2."""
        self.register_buffer("last_error", torch.full((), torch.inf))

    def mu(self, length: float, norm2: Tensor) -> Tensor:
        """mu such that ||mu d|| is the factor times `length`."""
        return cast(Tensor, self.factor) * length / norm2.sqrt().clamp_min(_TINY)

    @torch.no_grad()
    def observe(self, self_check: Tensor) -> None:
        if not self._adapts:
            return
        factor, turn, last = (cast(Tensor, t) for t in (self.factor, self.turn, self.last_error))
        error = (self_check - 1.0).abs().nan_to_num(torch.inf, torch.inf)
        is_off = error > _TOLERANCE
        got_worse = is_off & (error > last)
        turn.copy_(torch.where(got_worse, 1.0 / turn, turn))
        factor.copy_(torch.where(is_off, (factor * turn).clamp(*_LIMITS), factor))
        last.copy_(torch.where(is_off, error, torch.inf))
