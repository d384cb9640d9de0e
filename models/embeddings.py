"""Pooled embeddings: sparse features -> one wide vector per row, in the config's feature order.

Shapes: B rows, R width of the pooled embeddings (sum of the features' dims), N rows of a table,
W width of one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from marigold_rec.config.tables import Table

_TAKEN = frozenset(dir(nn.ModuleDict()))
"""EmbeddingBagCollection keeps its tables in a ModuleDict, which refuses its own attributes."""


def init_table_(weight_NW: Tensor, dim: int) -> Tensor:
    """Fills a table in place, uniform in +-1/sqrt(dim) / 4, from torch's generator.

    Sharded runs overwrite it with values of the same distribution that do not depend on the plan
    (marigold_rec.sharding.initialize says why this scale). TorchRec's own default, +-1/sqrt(N),
    would give a table of three rows values of 0.58 and one of 10M rows values of 0.0003. It is a
    module-level function because sharding deep-copies and pickles the table configs, and is told
    `dim` because a rank that holds nothing of the table passes an empty tensor of another shape.
    """
    bound = 0.25 / dim**0.5
    return nn.init.uniform_(weight_NW, -bound, bound)


class PooledEmbeddings(nn.Module):
    """EmbeddingBagCollection, then the features' vectors side by side in one canonical order.

    `tables` as from `resolve_tables`; `features` in the order wanted in the output (the config's),
    each read by exactly one table. With device "meta" no memory is taken: DistributedModelParallel
    allocates and initialises the shards.

    `forward` is two calls of leaf modules and nothing else: TrainPipelineSparseDist traces it with
    torch.fx.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        features: Sequence[str],
        device: torch.device | str = "meta",
    ) -> None:
        super().__init__()
        dims = {feature: table.dim for table in tables for feature in table.features}
        if sorted(features) != sorted(f for table in tables for f in table.features):
            raise ValueError(
                f"features {sorted(features)} are not those that the tables read: {sorted(dims)}"
            )
        taken = [table.name for table in tables if table.name in _TAKEN or "." in table.name]
        if taken:
            raise ValueError(
                f"tables {taken}: TorchRec cannot hold a table of this name (it is an attribute of "
                "torch.nn.ModuleDict); give the feature another table name, e.g. "
                f"table: {taken[0]}_table"
            )
        self.ebc = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=table.name,
                    num_embeddings=table.rows,
                    embedding_dim=table.dim,
                    feature_names=list(table.features),
                    pooling=PoolingType.SUM,  # means are made in `regroup`, which says why
                    init_fn=partial(init_table_, dim=table.dim),
                )
                for table in tables
            ],
            device=torch.device(device),
        )
        means = [f for table in tables if table.pooling == "mean" for f in table.features]
        self.regroup = CanonicalOrder(features, means)
        self.width = sum(dims.values())

    @property
    def feature_names(self) -> list[str]:
        """Features in the order of their vectors in the output."""
        return list(self.regroup.features)

    def forward(self, sparse: KeyedJaggedTensor) -> Tensor:
        """z_BR; R = `width`. `sparse` must hold every feature, in any order."""
        pooled = self.ebc(sparse)
        return self.regroup(pooled, sparse)


class CanonicalOrder(nn.Module):
    """Sum-pooled KeyedTensor -> one tensor, the keys in the order of `features`, means divided.

    A sharded EmbeddingBagCollection emits its keys in an order that depends on the sharding plan;
    reading `.values()` would feed permuted features to the dense part after a reshard. torchrec's
    KTRegroupAsDict does the same but remembers the first KeyedTensor's layout for good; this module
    has no state, so the layout may change at any call. It is a module and not a function so that
    torch.fx leaves it whole.

    The features in `means` are divided by their numbers of ids here and not by TorchRec: where a
    mean-pooled table is row-wise, it divides the whole output, sum-pooled features included, by
    (number of ids + 1e-6), so that the representation would depend on the plan (seen in 1.8.0).
    """

    def __init__(self, features: Sequence[str], means: Sequence[str] = ()) -> None:
        super().__init__()
        if len(set(features)) != len(features):
            raise ValueError(f"features must be unique: {list(features)}")
        self.features = tuple(features)
        self.means = frozenset(means)

    def forward(self, pooled: KeyedTensor, sparse: KeyedJaggedTensor) -> Tensor:
        """z_BR. `sparse`: what was pooled; its lengths are read where there are `means`.

        An empty bag gives zeros. Raises KeyError when the keys are not exactly `features`.
        """
        keys = pooled.keys()
        if len(keys) != len(self.features) or set(keys) != set(self.features):
            raise KeyError(f"pooled keys {sorted(keys)} are not the features {list(self.features)}")
        values_BR, offsets, runs = pooled.values(), pooled.offset_per_key(), self._runs(keys)
        pieces = [values_BR[:, offsets[first] : offsets[last + 1]] for first, last in runs]
        if self.means:
            pieces = self._divide(pieces, runs, keys, sparse)
        # One piece: the order is already canonical, and nothing is copied.
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

    def _runs(self, keys: list[str]) -> list[tuple[int, int]]:
        """First and last key of each piece; neighbours that stay neighbours are one piece.

        A mean-pooled feature is a piece by itself.
        """
        place = {key: i for i, key in enumerate(keys)}
        runs: list[tuple[int, int]] = []
        for feature in self.features:
            here = place[feature]
            joins = (
                runs
                and runs[-1][1] == here - 1
                and self.means.isdisjoint((feature, keys[here - 1]))
            )
            runs.append((runs.pop()[0], here) if joins else (here, here))
        return runs

    def _divide(
        self,
        pieces: list[Tensor],
        runs: list[tuple[int, int]],
        keys: list[str],
        sparse: KeyedJaggedTensor,
    ) -> list[Tensor]:
        counts_FB = sparse.lengths().view(len(sparse.keys()), -1).clamp(min=1)
        row = {key: i for i, key in enumerate(sparse.keys())}
        return [
            piece / counts_FB[row[keys[first]], :, None] if keys[first] in self.means else piece
            for piece, (first, _) in zip(pieces, runs, strict=True)
        ]
