"""The rows of one task that an evaluation looks at, as columns.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.row_arrays import taken

Float64s = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """N observed rows of one task, each of positive weight. All arrays have N entries."""

    score_N: NDArray[np.float32]
    """Prediction in the label's units: a probability, or seconds."""
    label_N: NDArray[np.float32]
    """0 or 1, or seconds."""
    weight_N: NDArray[np.float32] | None = None
    """None: every row weighs 1."""
    user_N: NDArray[np.int32] | None = None
    """Cluster of each row, 0 .. number of users - 1 (some may have no row here). None: not known;
    every row is then a cluster of its own, and there are no figures by user."""
    group_N: NDArray[np.int32] | None = None
    """Slate of each row, numbered alike. None: there are none."""
    ndcg_at: tuple[int, ...] = ()
    """The depths of NDCG within slates."""
    columns: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """What the head predicts beside the expected value, by the column's name: p90, say."""

    def __len__(self) -> int:
        return len(self.score_N)

    @property
    def weights(self) -> Float64s:
        """float64 [N]."""
        if self.weight_N is None:
            return np.ones(len(self))
        return self.weight_N.astype(np.float64)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Rows:
        """These rows only."""
        row_n = np.flatnonzero(which) if which.dtype == np.bool_ else which.astype(np.intp)
        arrays = {
            name: taken(column, row_n)
            for name, column in vars(self).items()
            if isinstance(column, np.ndarray)
        }
        columns = {name: taken(column, row_n) for name, column in self.columns.items()}
        return replace(self, **arrays, columns=columns)

    def with_scores(
        self,
        score_N: NDArray[np.float32],
        columns: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> Rows:
        """The same rows, scored by another model."""
        return replace(self, score_N=score_N, columns=columns or {})

    def with_users(self, user_N: NDArray[np.int32]) -> Rows:
        return replace(self, user_N=user_N)
