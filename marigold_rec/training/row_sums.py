"""RowWiseAdagrad's sums, carried from one cut of a table's columns to another.

The optimizer keeps one number per row of a shard: the sum over the steps of its gradient's mean
square over the shard's columns. A table that is cut by columns so has several sums per row, which
lie in its state one column shard after the other (row r of column shard j at j x rows + r). The sum
of any columns is here the mean, over these columns, of the sums that they had. From column shards
to whole rows that is what the whole row would have summed up. From whole rows to column shards it
is an estimate, since single columns were never summed up: every shard begins with its row's sum.

Cuts by rows need none of this: torch.distributed.checkpoint moves those.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor
from torchrec.distributed.shards_wrapper import LocalShardsWrapper

from marigold_rec.checkpoint.dcp_metadata import read_dcp_metadata
from marigold_rec.checkpoint.finding import Found

_SUMS = "optimizer/sparse."
_WEIGHTS = "model/"


@dataclass(frozen=True)
class _Share:
    """A part of the columns of a live shard, all of which lay in one old column shard."""

    then: Tensor
    """Their row sums, once loaded."""
    num_columns: int


@dataclass(frozen=True)
class StagedSums:
    """Row sums of one table in their old cut: `tensor` is to be loaded, then `write` it."""

    tensor: DTensor
    _shares: tuple[tuple[Tensor, tuple[_Share, ...]], ...]
    """Per live shard of this rank."""

    def write(self) -> None:
        """Fills this rank's live shards."""
        for live, shares in self._shares:
            # In float64, so that equal sums give the same number again, whatever the columns.
            total = sum(share.num_columns for share in shares)
            weighted = [share.then.double() * share.num_columns for share in shares]
            live.copy_(torch.stack(weighted).sum(0) / total)


def column_edges(found: Found) -> dict[str, list[int]]:
    """Per matrix of a checkpoint, the columns where its shards begin, and their number.

    Raises CheckpointError when the checkpoint's metadata is refused.
    """
    edges: dict[str, list[int]] = {}
    metadata = read_dcp_metadata(found.folder, found.manifest)
    for name, stored in metadata.state_dict_metadata.items():
        if isinstance(stored, TensorStorageMetadata) and len(stored.size) == 2:
            begins = {chunk.offsets[1] for chunk in stored.chunks}
            edges[name] = [*sorted(begins), stored.size[1]]
    return edges


def stage(tensors: dict[str, Tensor], edges_then: dict[str, list[int]]) -> dict[str, StagedSums]:
    """Staging for those of the live row sums, by name, whose table was cut otherwise by columns.

    Each rank finds its own: the ranks of a table may come to different answers.
    """
    staged: dict[str, StagedSums] = {}
    for name, sums in tensors.items():
        weight_name = _WEIGHTS + name.removeprefix(_SUMS).rpartition("/")[0]
        if not name.startswith(_SUMS) or weight_name not in edges_then:
            continue
        edges, weight = edges_then[weight_name], tensors[weight_name]
        if not _is_cut_alike(cast(DTensor, weight), cast(DTensor, sums), edges):
            staged[name] = _staged(cast(DTensor, weight), cast(DTensor, sums), edges)
    return staged


def _is_cut_alike(weight: DTensor, sums: DTensor, edges: list[int]) -> bool:
    num_rows = weight.shape[0]
    if sums.shape[0] != num_rows * (len(edges) - 1):
        return False
    then = {(low, high): index for index, (low, high) in enumerate(pairwise(edges))}
    return all(
        then.get(columns) == sums_offset // num_rows
        for _, sums_offset, _, columns in sum_shards(weight, sums)
    )


def _staged(weight: DTensor, sums: DTensor, edges: list[int]) -> StagedSums:
    num_rows = weight.shape[0]
    # By place: what two live shards need is loaded once, for a load finds a shard by its place.
    pieces: dict[int, Tensor] = {}
    shares: list[tuple[Tensor, tuple[_Share, ...]]] = []
    for live, _, first_row, columns in sum_shards(weight, sums):
        mine: list[_Share] = []
        for index, (low, high) in enumerate(pairwise(edges)):
            common = min(high, columns[1]) - max(low, columns[0])
            if common > 0:
                piece = pieces.setdefault(index * num_rows + first_row, torch.empty_like(live))
                mine.append(_Share(piece, common))
        shares.append((live, tuple(mine)))
    local = LocalShardsWrapper(list(pieces.values()), [(place,) for place in pieces])
    tensor = DTensor.from_local(
        cast(Tensor, local),
        device_mesh=sums.device_mesh,
        placements=sums.placements,
        shape=torch.Size([num_rows * (len(edges) - 1)]),
        stride=(1,),
        run_check=False,
    )
    return StagedSums(tensor, tuple(shares))


def sum_shards(weight: DTensor, sums: DTensor) -> list[tuple[Tensor, int, int, tuple[int, int]]]:
    """This rank's shards: the sums, their place in the whole state, first row, and columns."""
    weights = cast(LocalShardsWrapper, weight.to_local())
    states = cast(LocalShardsWrapper, sums.to_local())
    # Both in the order of the columns: of weights and of sums the same.
    by_column = sorted(
        zip(weights.local_offsets(), weights.local_shards(), strict=True),
        key=lambda placed: tuple(placed[0]),
    )
    by_place = sorted(
        zip(states.local_offsets(), states.local_shards(), strict=True),
        key=lambda placed: tuple(placed[0]),
    )
    found: list[tuple[Tensor, int, int, tuple[int, int]]] = []
    for (offset, shard), (place, state) in zip(by_column, by_place, strict=True):
        columns = (offset[1], offset[1] + shard.shape[1])
        if state.numel():
            found.append((state, place[0], offset[0], columns))
    return found
