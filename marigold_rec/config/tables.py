"""Embedding tables, as the features define them together.

Features that name the same table share its rows. One of them (or several, alike) gives `rows` and
`dim`; the others may leave them out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from marigold_rec.config.features import SparseFeature

Pooling = Literal["sum", "mean"]

_DEFAULT_DIM = 16


@dataclass(frozen=True)
class Table:
    """One embedding table: `rows` x `dim`, read by `features` (names, in config order)."""

    name: str
    rows: int
    dim: int
    pooling: Pooling
    features: tuple[str, ...]
    ids_per_row: tuple[float, ...]
    """Of each feature, on average."""
    is_unpooled: bool = False
    """A sequence reads it: all its features are looked up unpooled, so that it is one module."""

    @property
    def state_key(self) -> str:
        """The name of its weight in the sharded model's state_dict (models.embeddings)."""
        parent = "ec.embeddings" if self.is_unpooled else "ebc.embedding_bags"
        return f"embeddings.{parent}.{self.name}.weight"


def table_of_key(key: str) -> str | None:
    """The table whose `state_key` is `key`; None where it is no table's."""
    found = _STATE_KEY.fullmatch(key)
    return found[1] if found else None


_STATE_KEY = re.compile(r"embeddings\.(?:ebc\.embedding_bags|ec\.embeddings)\.(.+)\.weight")


def resolve_tables(
    features: tuple[SparseFeature, ...], sequences: Iterable[str] = ()
) -> tuple[Table, ...]:
    """The tables of `features`, in order of first mention; `sequences`: the features that are read
    unpooled.

    Raises ValueError with one line per problem: no `rows` given for a table, or features of one
    table that contradict each other in `rows`, `dim` or `pooling`.
    """
    unpooled = frozenset(sequences)
    members: dict[str, list[SparseFeature]] = {}
    for feature in features:
        members.setdefault(feature.table_name, []).append(feature)
    problems: list[str] = []
    tables: list[Table] = []
    for name, group in members.items():
        given: dict[str, set[object]] = {
            "rows": {f.table_rows for f in group if f.table_rows is not None},
            "dim": {f.dim for f in group if f.dim is not None},
            "pooling": {f.pooling for f in group if f.pooling is not None},
        }
        kinds = {f.kind for f in group}
        users = ", ".join(f.name for f in group)
        if len(kinds) > 1:
            problems.append(
                f"table {name!r}: features {users} share it but are of kinds {sorted(kinds)}; "
                "features that share a table must be of one kind"
            )
        elif len({f.row_meaning for f in group}) > 1:
            problems.append(
                f"table {name!r}: features {users} share it with different settings (boundaries, "
                "values): one row would mean several things; give them the same, or tables of "
                "their own"
            )
            continue
        problems += [
            f"table {name!r}: features {users} give different values of {key}: "
            f"{sorted(values, key=str)}; give it once, or alike"
            for key, values in given.items()
            if len(values) > 1
        ]
        if not given["rows"]:
            problems.append(
                f"table {name!r}: no feature gives its number of rows ({users}); add rows: N to one"
            )
        if problems:
            continue
        pooling: Pooling = "sum"
        for feature in group:
            pooling = feature.pooling or pooling
        tables.append(
            Table(
                name=name,
                rows=next(f.table_rows for f in group if f.table_rows is not None),
                dim=next((f.dim for f in group if f.dim is not None), _DEFAULT_DIM),
                pooling=pooling,
                features=tuple(f.name for f in group),
                ids_per_row=tuple(f.ids_per_row for f in group),
                is_unpooled=any(f.name in unpooled for f in group),
            )
        )
    if problems:
        raise ValueError("\n".join(problems))
    return tuple(tables)
