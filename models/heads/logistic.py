"""The head of a yes/no label: one logit.

Shapes: B rows, H width of a tower, K = 1 raw number, C = 1 prediction column.
"""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from marigold_rec.config.section import Section
from marigold_rec.config.tasks import BinaryTask
from models.heads.linear import LinearHead


class LogisticSettings(Section):
    name: Literal["logistic"]


class LogisticHead(LinearHead):
    """Binary cross-entropy in nats on a label of 0 or 1.

    `task.logit_offset` moves predictions and not the loss: training would learn it away.
    """

    Settings = LogisticSettings
    kinds: tuple[str, ...] = ("binary",)

    def __init__(self, settings: LogisticSettings, task: BinaryTask, width: int) -> None:
        super().__init__(width)
        self._offset = task.logit_offset

    def loss(self, output_BK: Tensor, label_B: Tensor) -> Tensor:
        """Cross-entropy of each row, [B], float32. Finite for every finite logit."""
        logit_B = output_BK.squeeze(1).float()
        return F.binary_cross_entropy_with_logits(logit_B, label_B.float(), reduction="none")

    def target(self, label_B: Tensor) -> Tensor:
        """The label itself."""
        return label_B

    def init_bias(self, mean_target: float, num_rows: float) -> None:
        """Bias = logit of the share of positives, taken as at least half a row from both ends."""
        end = 0.5 / max(num_rows, 1.0)
        share = min(max(mean_target, end), 1.0 - end)
        nn.init.constant_(self.linear.bias, math.log(share / (1.0 - share)))

    def predict(self, output_BK: Tensor) -> Tensor:
        """Probability of each row, [B, 1], float32, in [0, 1] (both ends are reached)."""
        return (output_BK.float() + self._offset).sigmoid()
