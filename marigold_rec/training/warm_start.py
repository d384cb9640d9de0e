"""Begins a new run with the model of an older checkpoint, perhaps under a changed config."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from marigold_rec.checkpoint.dcp_metadata import read_dcp_metadata
from marigold_rec.checkpoint.finding import Found
from marigold_rec.checkpoint.spans import Placed, Spans
from marigold_rec.checkpoint.store import CheckpointStore
from marigold_rec.checkpoint.warm_start import Models, Move, WarmStart, plan_warm_start
from marigold_rec.config.schema import Config
from marigold_rec.config.tables import Table
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.distributed.together import on_every_rank, on_first_rank
from marigold_rec.errors import CheckpointError
from marigold_rec.training.row_resets import reset_rows
from marigold_rec.transforms.row_bits import EVICTED_NAME, RowBits, read_night_bits

_OPTIMIZERS = ("optimizer/dense.", "optimizer/sparse.")


def warm_start(
    tensors: Mapping[str, Tensor],
    store: CheckpointStore,
    found: Found,
    models: Models,
    ranks: Ranks,
) -> WarmStart:
    """Loads into `tensors` (the live ones of model and optimizers, by their names in a checkpoint)
    what the plan says; then the rows that the night's `life_cycle.rows` evicts begin anew. The
    step, the place in the data and the metrics begin at zero.

    Collective. Raises CheckpointError on all ranks when something is missing that
    `warm_start.new` does not name; nothing is loaded then.
    """
    saved = on_first_rank(lambda: _saved_shapes(found), ranks.control)
    now = models.now
    plan = plan_warm_start(models, saved, _live_shapes(tensors, now))
    if plan.problems:
        raise CheckpointError(
            f"warm_start.path: {found.folder} does not fit this config:\n"
            + "\n".join(plan.problems)
        )
    placed = {load.source: _placed(tensors[name], load.spans) for name, load in plan.loads.items()}
    if now.warm_start.optimizer:
        placed |= dict(_optimizer_loads(plan, tensors, saved))
    evicted = on_every_rank(lambda: _evicted(now), ranks.control)
    store.load(found, placed)
    for table, bits in evicted.items():
        reset_rows(tensors, table, now.run.seed, bits)
    return dataclasses.replace(plan, reset={t.name: bits.count for t, bits in evicted.items()})


def _evicted(config: Config) -> dict[Table, RowBits]:
    life_cycle = config.life_cycle
    if life_cycle.rows is None or not life_cycle.evicting:
        return {}
    tables = config.tables
    folder = Path(life_cycle.rows)
    found = read_night_bits(folder, EVICTED_NAME, tables, needed=life_cycle.evicting)
    return {table: found[table.name] for table in tables if table.name in found}


def _saved_shapes(found: Found) -> dict[str, tuple[int, ...]]:
    entries = read_dcp_metadata(found.folder, found.manifest).state_dict_metadata
    return {
        name: tuple(entry.size)
        for name, entry in entries.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def plan_lines(plan: WarmStart) -> Iterator[str]:
    """The table that is printed: what is as it was in one line, all else one by one."""
    loaded = [move for move in plan.moves if move.what == "loaded"]
    tables = sum(move.unit.startswith("tables.") for move in loaded)
    yield f"warm start: {tables} tables and {len(loaded) - tables} other tensors as they were"
    others = [move for move in plan.moves if move.what != "loaded"]
    width = max((len(move.unit) for move in others), default=0)
    for move in others:
        yield f"  {move.what:<8} {move.unit:<{width}}  {_shapes_of(move)}  {move.note}".rstrip()
    for table, num_rows in plan.reset.items():
        yield f"  evicted  tables.{table}: {num_rows:,} rows begin anew"


def _shapes_of(move: Move) -> str:
    then, now = (
        "-" if shape is None else "x".join(map(str, shape)) or "1"
        for shape in (move.then, move.now)
    )
    return f"{then} -> {now}"


def _live_shapes(tensors: Mapping[str, Tensor], config: Config) -> dict[str, tuple[int, ...]]:
    """Tables by the config: a rank without a shard of one does not know its rows."""
    shapes = {name: tuple(t.shape) for name, t in tensors.items() if name.startswith("model/")}
    for table in config.tables:
        shapes[f"model/{table.state_key}"] = (table.rows, table.dim)
    return shapes


def _placed(tensor: Tensor, spans: Spans) -> Any:
    return Placed(tensor, spans) if spans else tensor


def _optimizer_loads(
    plan: WarmStart, tensors: Mapping[str, Tensor], saved: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, Any]]:
    """State goes where its parameter's values went; a state that was not saved begins anew."""
    for name, tensor in tensors.items():
        kind = next((kind for kind in _OPTIMIZERS if name.startswith(kind)), None)
        if kind is None:
            continue
        parameter, _, key = name.removeprefix(kind).rpartition("/")
        load = plan.loads.get(f"model/{parameter}")
        if load is None:
            continue
        source = f"{kind}{load.source.removeprefix('model/')}/{key}"
        if source in saved:
            # A sum per row, a number: their axes are the first of the parameter's.
            axes = {axis: spans for axis, spans in load.spans.items() if axis < tensor.dim()}
            yield source, _placed(tensor, axes)
