"""Loss terms in the dtype of their input, one of which treats a factor as a constant.

Shapes: B rows, K raw numbers of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from marigold_rec.config.components import LOSSES
from marigold_rec.config.section import Section
from marigold_rec.contracts import Head, Labels, StopGradient


class PlainSettings(Section):
    name: Literal["plain"]


class Plain:
    """Cross-entropy where the label is observed, float64 in float64."""

    Settings: type[Section] = PlainSettings

    def __init__(self, settings: Section, task: Any, heads: Mapping[str, Head]) -> None:
        self._task = task.name

    @staticmethod
    def extra_heads(task: Any, width: int) -> Mapping[str, Head]:
        return {}

    def rows(
        self, outputs: Mapping[str, Tensor], labels: Labels, stop_gradient: StopGradient
    ) -> tuple[Tensor, Tensor]:
        label_B = labels.value(self._task)
        loss_B = F.binary_cross_entropy_with_logits(
            outputs[self._task].squeeze(1), label_B, reduction="none"
        )
        return loss_B, labels.weights_B * labels.observed(self._task)


class InverseSettings(Section):
    name: Literal["inverse"]


class Inverse(Plain):
    """The same, divided by the model's own probability of task `ctr`, as by a constant."""

    Settings = InverseSettings

    def rows(
        self, outputs: Mapping[str, Tensor], labels: Labels, stop_gradient: StopGradient
    ) -> tuple[Tensor, Tensor]:
        loss_B, weight_B = super().rows(outputs, labels, stop_gradient)
        return loss_B / stop_gradient(outputs["ctr"].squeeze(1).sigmoid()), weight_B


TERMS = {
    "plain": f"{__name__}:Plain",
    "inverse": f"{__name__}:Inverse",
}


def register() -> None:
    """For the rest of this process: call it on a rank of its own."""
    LOSSES.update(TERMS)
