"""The models: pooled embeddings, multi-task networks and task heads.

A new network is one file with a class like MMoE, a section in the config tree and a line in
NETWORKS; a new head likewise, in HEADS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from marigold_rec.config.schema import Config
from marigold_rec.config.tables import resolve_tables
from marigold_rec.contracts import Network, TaskHead
from models.embeddings import PooledEmbeddings
from models.heads import BinaryHead, WatchTimeHead
from models.mmoe import MMoE
from models.ple import PLE
from models.shared_bottom import SharedBottom

__all__ = [
    "HEADS",
    "NETWORKS",
    "PLE",
    "MMoE",
    "PooledEmbeddings",
    "SharedBottom",
    "build_embeddings",
    "build_network",
]


class _NetworkClass(Protocol):
    def __call__(
        self, section: Any, *, embedding_width: int, num_dense: int, heads: Sequence[TaskHead]
    ) -> Network: ...

    def head_width(self, section: Any) -> int: ...


class _HeadClass(Protocol):
    def __call__(self, task: Any, width: int) -> TaskHead: ...


NETWORKS: dict[str, _NetworkClass] = {"shared_bottom": SharedBottom, "mmoe": MMoE, "ple": PLE}
"""Name in the config (`model.name`) -> class."""

HEADS: dict[str, _HeadClass] = {"binary": BinaryHead, "watch_time": WatchTimeHead}
"""Kind in the config (`tasks[].kind`) -> class."""


def build_embeddings(config: Config, device: torch.device | str = "meta") -> PooledEmbeddings:
    """The config's tables; on "meta" (no memory, no values) for DistributedModelParallel."""
    return PooledEmbeddings(
        resolve_tables(config.sparse_features),
        [feature.name for feature in config.sparse_features],
        device=device,
    )


def build_network(config: Config) -> Network:
    """The config's network with its heads, on CPU, float32, initialised from torch's CPU generator.

    Every rank that seeds torch alike before the call gets the same parameters.
    """
    network_class = NETWORKS[config.model.name]
    width = network_class.head_width(config.model)
    tables = resolve_tables(config.sparse_features)
    return network_class(
        config.model,
        embedding_width=sum(table.dim * len(table.features) for table in tables),
        num_dense=len(config.dense_features),
        heads=[HEADS[task.kind](task, width) for task in config.tasks],
    )
