"""Embedding tables: sparse features -> pooled embeddings in the config's order, and sequences.

Shapes: B rows, R width of the pooled embeddings (sum of the features' dims), N rows of a table,
W width of one table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchrec.distributed.types import Awaitable
from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection
from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedJaggedTensor, KeyedTensor

from marigold_rec.config.tables import Table
from marigold_rec.inputs import InputLayout, Inputs, Jagged

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


class Embeddings(nn.Module):
    """The tables, and their lookups put together as the network's inputs.

    Tables that a sequence reads are looked up unpooled (EmbeddingCollection), all others pooled
    (EmbeddingBagCollection). A pooled feature of an unpooled table is summed here: a table in both
    collections would be two tables. With device "meta" no memory is taken: DistributedModelParallel
    allocates and initialises the shards.

    `forward` is calls of leaf modules and nothing else: TrainPipelineSparseDist traces it with
    torch.fx.
    """

    def __init__(
        self, tables: Sequence[Table], layout: InputLayout, device: torch.device | str = "meta"
    ) -> None:
        """`tables` as from `Config.tables`. Raises ValueError: TorchRec can't hold a table's name,
        or the layout's features are not those that the tables read."""
        super().__init__()
        wanted = [s.name for s in layout.pooled] + [s.feature for s in layout.sequences]
        read = [f for table in tables for f in table.features]
        if sorted(set(wanted)) != sorted(read):
            raise ValueError(
                f"features {sorted(wanted)} are not those that the tables read: {sorted(read)}"
            )
        taken = [table.name for table in tables if table.name in _TAKEN or "." in table.name]
        if taken:
            raise ValueError(
                f"tables {taken}: TorchRec cannot hold a table of this name (it is an attribute of "
                "torch.nn.ModuleDict); give the feature another table name, e.g. "
                f"table: {taken[0]}_table"
            )
        bags = [
            EmbeddingBagConfig(
                **_table_config(table),
                pooling=PoolingType.SUM,  # means are made in CanonicalOrder, which says why
            )
            for table in tables
            if not table.is_unpooled
        ]
        unpooled = [EmbeddingConfig(**_table_config(t)) for t in tables if t.is_unpooled]
        place = torch.device(device)
        self.ebc = EmbeddingBagCollection(tables=bags, device=place) if bags else None
        self.ec = EmbeddingCollection(tables=unpooled, device=place) if unpooled else None
        self.assemble = AssembleInputs(tables, layout)
        self.width = layout.pooled_width

    def forward(
        self, sparse: KeyedJaggedTensor, unpooled: KeyedJaggedTensor | None, dense_BD: Tensor
    ) -> Inputs:
        """`sparse` and `unpooled` must hold every feature of their tables, in any order."""
        pooled = None if self.ebc is None else self.ebc(sparse)
        vectors = None if self.ec is None else self.ec(unpooled)
        return self.assemble(pooled, sparse, vectors, dense_BD)


def _table_config(table: Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "num_embeddings": table.rows,
        "embedding_dim": table.dim,
        "feature_names": list(table.features),
        "init_fn": partial(init_table_, dim=table.dim),
    }


class AssembleInputs(nn.Module):
    """Lookups -> Inputs, in the layout's order whatever the sharding plan.

    It is a module and not a function so that torch.fx leaves it whole.
    """

    def __init__(self, tables: Sequence[Table], layout: InputLayout) -> None:
        super().__init__()
        self._sequences = tuple((slot.name, slot.feature) for slot in layout.sequences)
        self._unpooled = frozenset(f for t in tables if t.is_unpooled for f in t.features)
        means = [f for table in tables if table.pooling == "mean" for f in table.features]
        self._means = frozenset(means)
        features = [slot.name for slot in layout.pooled]
        bags = [f for f in features if f not in self._unpooled]
        self._slots = None if len(bags) == len(features) else layout.pooled
        self.regroup = CanonicalOrder(bags, [f for f in means if f in bags])

    def forward(
        self,
        pooled: KeyedTensor | None,
        sparse: KeyedJaggedTensor,
        vectors: Mapping[str, JaggedTensor] | None,
        dense_BD: Tensor,
    ) -> Inputs:
        found = _waited(vectors) if vectors is not None else {}
        jagged = {
            name: Jagged(tensor.values(), tensor.offsets().long()) for name, tensor in found.items()
        }
        sequences = {name: jagged[feature] for name, feature in self._sequences}
        if self._slots is None:
            assert pooled is not None
            return Inputs(self.regroup(pooled, sparse), dense_BD, sequences)
        pieces = {}
        if pooled is not None:
            z_BR, start = self.regroup(pooled, sparse), 0
            for slot in self._slots:
                if slot.name not in self._unpooled:
                    pieces[slot.name] = z_BR[:, start : start + slot.width]
                    start += slot.width
        for slot in self._slots:
            if slot.name in self._unpooled:
                bag = jagged[slot.name]
                sums_BW = bag.sum()
                is_mean = slot.name in self._means
                pieces[slot.name] = (
                    sums_BW / bag.lengths_B.clamp(min=1)[:, None] if is_mean else sums_BW
                )
        ordered = [pieces[slot.name] for slot in self._slots]
        pooled_BR = torch.cat(ordered, 1) if ordered else dense_BD.new_zeros(len(dense_BD), 0)
        return Inputs(pooled_BR, dense_BD, sequences)


def _waited(vectors: Any) -> Mapping[str, JaggedTensor]:
    """A sharded collection answers with a promise."""
    return vectors.wait() if isinstance(vectors, Awaitable) else vectors


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
