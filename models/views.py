"""Says which columns of the joined input each output may read, and so which experts it may use.

A feature can be kept from a task (features[].tasks): its values don't reach the task's prediction,
and the task's gradient doesn't reach its table. Outputs that read the same columns share a view.

Shapes: O outputs, V views, J width of the joined input, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Views:
    """Numbers the distinct sets of columns among the outputs', by the first output of each."""

    def __init__(self, reads_OJ: Tensor | None, num_outputs: int) -> None:
        """`reads_OJ` (bool): what each output reads; None: each reads all."""
        rows = [()] * num_outputs if reads_OJ is None else [tuple(r) for r in reads_OJ.tolist()]
        distinct = list(dict.fromkeys(rows))
        self.of_output: Sequence[int] = [distinct.index(row) for row in rows]
        self._columns_VJ = None if reads_OJ is None else torch.tensor(distinct, dtype=torch.bool)

    def __len__(self) -> int:
        return max(self.of_output) + 1

    def columns(self, views: Sequence[int]) -> Tensor | None:
        """bool [len(views), J]; None: all columns."""
        return None if self._columns_VJ is None else self._columns_VJ[list(views)]

    @property
    def common(self) -> Tensor | None:
        """bool [1, J]: the columns that all outputs read; None: all columns."""
        return None if self._columns_VJ is None else self._columns_VJ.all(0, keepdim=True)

    def reads_only_common(self, experts: Sequence[int]) -> Tensor | None:
        """bool_E for experts of these views; None: each does."""
        if self._columns_VJ is None:
            return None
        kept_J = ~self._columns_VJ.all(0)
        return ~(self._columns_VJ[list(experts)] & kept_J).any(-1)

    def may_use(self, experts: Sequence[int]) -> Tensor | None:
        """bool_OE for experts of these views: those that read nothing that the output may not.
        None: each output may use all."""
        if self._columns_VJ is None:
            return None
        own_OJ, theirs_EJ = self._columns_VJ[list(self.of_output)], self._columns_VJ[list(experts)]
        return ~(theirs_EJ[None] & ~own_OJ[:, None]).any(-1)
