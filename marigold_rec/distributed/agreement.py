"""One tiny agreement per step, so that all ranks do the same thing next.

Nobody stops, saves or raises alone: whatever a rank has met since the last step (no batch, a
signal, a broken file) is told to all before any of them enters the step's collectives.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Decision:
    """What all ranks do next; each is true if it was true on any rank."""

    failed: bool
    """Some rank's reader raised, or ended too early."""
    stop: bool
    """Some rank was asked to stop (SIGTERM, SIGINT)."""
    save: bool


class Agreement:
    def __init__(self, control: dist.ProcessGroup) -> None:
        self._control = control
        self._flags = torch.zeros(3, dtype=torch.uint8)

    def reach(self, *, failed: bool, stop: bool, save: bool) -> Decision:
        """Collective: call on every rank, once per step."""
        mine = (failed, stop, save)
        if self._control.size() == 1:
            return Decision(*mine)
        self._flags.copy_(torch.tensor(mine, dtype=torch.uint8))
        dist.all_reduce(self._flags, op=dist.ReduceOp.MAX, group=self._control)
        return Decision(*(bool(flag) for flag in self._flags.tolist()))
