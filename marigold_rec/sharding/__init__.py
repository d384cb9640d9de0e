"""Sharding plans, sharded models and their plan-independent initial values."""

from marigold_rec.sharding.initialize import table_rows
from marigold_rec.sharding.model import shard_model, table_weights
from marigold_rec.sharding.planner import TablePlacement, placements, plan_sharding

__all__ = [
    "TablePlacement",
    "placements",
    "plan_sharding",
    "shard_model",
    "table_rows",
    "table_weights",
]
