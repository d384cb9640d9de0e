"""Task heads: a tower's output -> raw output, loss per row, prediction in the label's own units.

Shapes: B rows, H width of a tower, K outputs of a head (1 here).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from marigold_rec.config.tasks import BinaryTask, WatchTimeTask

_MAX_ERROR = 1e15
"""Errors on log(1+s) count as at most this: a square of 1e30 stays finite in float32, also summed
over a batch. Valid labels are below 12, so only a diverged model comes near."""


class _LinearHead(nn.Module):
    """H -> 1 in the parameters' precision: losses and probabilities are wrong in bfloat16."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, tower_BH: Tensor) -> Tensor:
        """output_BK, K = 1, in the parameters' dtype (float32), also under autocast."""
        with torch.autocast(device_type=tower_BH.device.type, enabled=False):
            return self.linear(tower_BH.to(self.linear.weight.dtype))


class BinaryHead(_LinearHead):
    """A yes/no label (0 or 1): one logit, binary cross-entropy in nats.

    `task.logit_offset` moves predictions and not the loss: training would learn it away.
    """

    def __init__(self, task: BinaryTask, width: int) -> None:
        super().__init__(width)
        self.task = task

    def loss(self, output_BK: Tensor, label_B: Tensor) -> Tensor:
        """Cross-entropy of each row, [B], float32. Finite for every finite logit."""
        logit_B = output_BK.squeeze(1).float()
        return F.binary_cross_entropy_with_logits(logit_B, label_B.float(), reduction="none")

    def target(self, label_B: Tensor) -> Tensor:
        """The label itself."""
        return label_B

    def start_at(self, mean_target: float, num_rows: float) -> None:
        """Bias = logit of the share of positives, taken as at least half a row from both ends."""
        end = 0.5 / max(num_rows, 1.0)
        share = min(max(mean_target, end), 1.0 - end)
        nn.init.constant_(self.linear.bias, math.log(share / (1.0 - share)))

    def predict(self, output_BK: Tensor) -> Tensor:
        """Probability of each row, [B], float32, in [0, 1] (both ends are reached in float32)."""
        return (output_BK.squeeze(1).float() + self.task.logit_offset).sigmoid()


class WatchTimeHead(_LinearHead):
    """Watch time in seconds (0 <= s <= max_s), learned on log(1+s).

    With e = output - log(1+s) the loss is, by `task.method`:
      log_mse    e^2, without a factor 1/2, so that the task's loss is its mean squared log error
                 and 1 - loss / var(log(1+s)) its R2;
      log_huber  e^2 / 2 for |e| <= delta, else delta * (|e| - delta / 2); delta = huber_delta.

    The prediction expm1(output) is the median, not the mean, of a log-normal watch time.
    """

    def __init__(self, task: WatchTimeTask, width: int) -> None:
        super().__init__(width)
        self.task = task

    def loss(self, output_BK: Tensor, label_B: Tensor) -> Tensor:
        """Loss of each row, [B], float32; `label_B` in seconds. Finite for every finite output."""
        error_B = output_BK.squeeze(1).float() - self.target(label_B)
        error_B = error_B.clamp(-_MAX_ERROR, _MAX_ERROR)
        if self.task.method == "log_mse":
            return error_B.square()
        delta = self.task.huber_delta
        return F.huber_loss(error_B, torch.zeros_like(error_B), reduction="none", delta=delta)

    def target(self, label_B: Tensor) -> Tensor:
        """log(1+s)."""
        return label_B.float().log1p()

    def start_at(self, mean_target: float, num_rows: float) -> None:
        """Bias = mean of log(1+s)."""
        nn.init.constant_(self.linear.bias, mean_target)

    def predict(self, output_BK: Tensor) -> Tensor:
        """Seconds of each row, [B], float32, in [0, max_s]."""
        max_s = self.task.max_s
        seconds_B = output_BK.squeeze(1).float().clamp(0.0, math.log1p(max_s)).expm1()
        return seconds_B.clamp(max=max_s)  # expm1(log1p(max_s)) may round above max_s
