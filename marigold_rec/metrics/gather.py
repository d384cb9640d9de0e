"""Bringing the ranks' accumulators together."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch.distributed as dist

from marigold_rec.metrics.binary import BinaryScores
from marigold_rec.metrics.regression import RegressionScores

Scores = TypeVar("Scores", BinaryScores, RegressionScores)


def gather_to_rank0(state: Any, group: dist.ProcessGroup | None) -> list[Any] | None:
    """[each rank's picklable `state`] on the group's first rank, in rank order; None on the others.

    Collective: call on every rank of `group`, a gloo group: the states travel as CPU bytes, and
    with nccl they would be staged in accelerator memory. `group` None: a single process.
    """
    if group is None or group.size() == 1:
        return [state]
    is_first = group.rank() == 0
    states: list[Any] | None = [None] * group.size() if is_first else None
    dist.gather_object(state, states, group=group, group_dst=0)
    return states


def merge_on_first_rank(scores: Scores, group: dist.ProcessGroup | None) -> Scores | None:
    """All ranks' rows in one accumulator on the group's first rank; None on the others.

    The figures equal, bit for bit, those of one process that saw all rows. Collective: call on
    every rank of `group` (gloo), for the same task at the same time.
    """
    parts = gather_to_rank0(scores, group)
    return None if parts is None else cast("Scores", type(scores).merged(parts))
