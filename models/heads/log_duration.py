"""Heads of a duration in seconds that regress on log(1+s).

Shapes: B rows, H width of a tower, K = 1 raw number, C = 1 prediction column.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from marigold_rec.config.section import Section
from marigold_rec.config.tasks import DurationTask
from models.heads.linear import LinearHead

_MAX_ERROR = 1e15
"""Errors on log(1+s) count as at most this: a square of 1e30 stays finite in float32, also summed
over a batch. Valid labels are below 12, so only a diverged model comes near."""


class LogMSESettings(Section):
    name: Literal["log_mse"]


class LogHuberSettings(Section):
    name: Literal["log_huber"]
    delta: float = Field(default=1.0, gt=0)
    """In units of log(1+s)."""


class LogMSEHead(LinearHead):
    """Squared error on log(1+s), 0 <= s <= max_s.

    The loss has no factor 1/2, so that it is the mean squared log error and
    1 - loss / var(log(1+s)) is its R2. The prediction expm1(output) is the median, not the mean, of
    a log-normal duration.
    """

    Settings: type[Section] = LogMSESettings
    kinds: tuple[str, ...] = ("duration",)

    def __init__(self, settings: Section, task: DurationTask, width: int) -> None:
        super().__init__(width)
        self._max_s = task.max_s

    def loss(self, output_BK: Tensor, label_B: Tensor) -> Tensor:
        """Loss of each row, [B], float32; `label_B` in seconds. Finite for every finite output."""
        return self.error(output_BK, label_B).square()

    def error(self, output_BK: Tensor, label_B: Tensor) -> Tensor:
        """output - log(1+s) of each row, [B], float32."""
        error_B = output_BK.squeeze(1).float() - self.target(label_B)
        return error_B.clamp(-_MAX_ERROR, _MAX_ERROR)

    def target(self, label_B: Tensor) -> Tensor:
        """log(1+s)."""
        return label_B.float().log1p()

    def init_bias(self, mean_target: float, num_rows: float) -> None:
        """Bias = mean of log(1+s)."""
        nn.init.constant_(self.linear.bias, mean_target)

    def predict(self, output_BK: Tensor) -> Tensor:
        """Seconds of each row, [B, 1], float32, in [0, max_s]."""
        seconds_BC = output_BK.float().clamp(0.0, math.log1p(self._max_s)).expm1()
        return seconds_BC.clamp(max=self._max_s)  # expm1(log1p(max_s)) may round above max_s


class LogHuberHead(LogMSEHead):
    """Huber loss of e = output - log(1+s): e^2 / 2 up to |e| = delta, then
    delta (|e| - delta / 2)."""

    Settings = LogHuberSettings

    def __init__(self, settings: LogHuberSettings, task: DurationTask, width: int) -> None:
        super().__init__(settings, task, width)
        self._delta = settings.delta

    def loss(self, output_BK: Tensor, label_B: Tensor) -> Tensor:
        """Loss of each row, [B], float32; `label_B` in seconds. Finite for every finite output."""
        error_B = self.error(output_BK, label_B)
        zeros_B = torch.zeros_like(error_B)
        return F.huber_loss(error_B, zeros_B, reduction="none", delta=self._delta)
