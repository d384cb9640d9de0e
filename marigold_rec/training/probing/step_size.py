"""How far a finite difference moves: so near that no curvature shows, so far that no rounding does.

The self-check r = sum c h / ||d||^2 is 1 when the difference is exact, so |r - 1| is an error that
costs nothing to know. While it is too large the step is halved, or doubled once halving has made it
worse (then rounding, not curvature, is the error). Rounding errors are noisy, so the way back from
far below is a drunken one: from 1/65,000 of the default it takes some 20 probes.
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

    def mu(self, length: float | Tensor, norm2: Tensor) -> Tensor:
        """mu such that ||mu d|| is the factor times `length`."""
        return cast(Tensor, self.factor) * length / norm2.sqrt().clamp_min(_TINY)

    @torch.no_grad()
    def observe(self, self_check: Tensor, norm2: Tensor) -> None:
        """`norm2` is ||d||^2: a direction that is zero or not finite tells nothing of the step."""
        if not self._adapts:
            return
        factor, turn, last = (cast(Tensor, t) for t in (self.factor, self.turn, self.last_error))
        is_known = torch.isfinite(norm2) & (norm2 > _TINY)
        error = (self_check - 1.0).abs()
        is_finite = torch.isfinite(error)
        is_off = is_known & ~(error <= _TOLERANCE)
        way = torch.where(is_finite & (error > last), 1.0 / turn, turn)
        # Two that can be told apart at once: a loss that is not finite was too far away, and a move
        # without any effect was lost in rounding.
        way = torch.where(is_finite, torch.where(self_check == 0, 2.0, way), 0.5)
        wanted = factor * way
        at_end = (wanted < _LIMITS[0]) | (wanted > _LIMITS[1])
        turn.copy_(torch.where(is_off, torch.where(at_end, 1.0 / way, way), turn))
        factor.copy_(torch.where(is_off, wanted.clamp(*_LIMITS), factor))
        kept = torch.where(is_off & is_finite, error, torch.inf)
        last.copy_(torch.where(is_known, kept, last))
