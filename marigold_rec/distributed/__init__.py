"""Ranks, their per-step agreement, and errors that all of them raise."""

from marigold_rec.distributed.agreement import Agreement, Decision
from marigold_rec.distributed.ranks import Ranks, start_ranks
from marigold_rec.distributed.together import on_every_rank, on_first_rank, raise_together

__all__ = [
    "Agreement",
    "Decision",
    "Ranks",
    "on_every_rank",
    "on_first_rank",
    "raise_together",
    "start_ranks",
]
