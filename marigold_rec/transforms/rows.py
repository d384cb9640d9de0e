"""What every kind of sparse feature makes of values: table rows, and what happened to them.

Shapes: N rows of the log, V values (the concatenated bags of all rows).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Rows:
    """Table rows of V flat values."""

    rows_V: np.ndarray
    """int64 [V], each in [0, rows of the table) where kept."""
    keep_V: np.ndarray | None = None
    """bool [V]; None keeps all. What is not kept is left out of its bag."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What was dropped or replaced, by name ('missing', 'out_of_range', 'out_of_vocab')."""


RowLookup = Callable[[pa.Array], Rows]
"""Flat values without nulls -> Rows."""


@dataclass(frozen=True)
class Bags:
    """Table rows of N rows of the log."""

    rows: Rows
    lengths: np.ndarray | None
    """int32 [N], how many of the V values each row holds; None: each holds exactly one."""
    counts: Mapping[str, int]
    """What was left out before, by name ('missing', 'cut')."""


BagTransform = Callable[[pa.Table], Bags]
