"""What the training machinery asks of a model's stages; `models/` holds the implementations.

    Inputs -> Encoder (per sequence) -> Interaction (in order) -> Trunk -> Head -> LossTerm

`marigold_rec.components` lists what a config can name for each stage.

Shapes: B rows, W width of a sequence's vectors, E width of an encoder's output, I and J widths of
the joined input before and after an interaction, O outputs (one per head), H width of a tower's
output, K raw numbers of a head, C columns of a prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from marigold_rec.inputs import Jagged, Slot


class Encoder(Protocol):
    """Turns each row's sequence into one vector. A torch.nn.Module built from
    (settings, SequenceSlot, query_width)."""

    out_width: int

    def __call__(self, sequence: Jagged, query_BQ: Tensor | None) -> Tensor:
        """e_BE. An empty sequence gives finite values, never NaN."""
        ...


class Interaction(Protocol):
    """Adds products of features before the trunk. A torch.nn.Module built from
    (settings, slots of its input)."""

    slots: tuple[Slot, ...]
    """The columns of its output, for the next interaction."""

    def __call__(self, x_BI: Tensor) -> Tensor:
        """x_BJ."""
        ...


class Trunk(Protocol):
    """Turns the joined input into what each output's tower reads. A torch.nn.Module built from
    (settings, in_width, num_outputs, dropout, reads_OJ): reads_OJ (bool) says which columns each
    output may depend on; None: on all."""

    out_width: int

    def __call__(self, x_BJ: Tensor) -> Tensor:
        """h_BH, which all outputs read, or h_OBH, one for each."""
        ...


@runtime_checkable
class Head(Protocol):
    """Turns a tower's output into one task's raw numbers, loss and prediction.
    A torch.nn.Module built from (settings, task, width of the tower)."""

    kinds: tuple[str, ...]
    """The kinds of label (tasks[].kind) that it predicts."""
    columns: tuple[str, ...]
    """Names of the prediction's columns: "" (the expected value) first; then others, such as p90,
    which reports and artefacts call <task>_p90."""

    def __call__(self, tower_BH: Tensor) -> Tensor:
        """Raw output_BK, float32 (also under autocast)."""
        ...

    def loss(self, output_BK: Tensor, label_B: Tensor) -> Tensor:
        """Loss of each row, [B], float32. Finite for any finite output and valid label."""
        ...

    def target(self, label_B: Tensor) -> Tensor:
        """The quantity whose mean over the rows initialises the bias, [B]."""
        ...

    def init_bias(self, mean_target: float, num_rows: float) -> None:
        """Sets the bias so that an untrained head predicts the mean target of `num_rows` rows."""
        ...

    def predict(self, output_BK: Tensor) -> Tensor:
        """prediction_BC in the label's own units (probability, seconds), float32."""
        ...


class Labels(Protocol):
    """The labels of a batch, by task."""

    @property
    def weights_B(self) -> Tensor:
        """Row weights, float32."""
        ...

    def value(self, task: str) -> Tensor:
        """[B]; 0 where not observed."""
        ...

    def observed(self, task: str) -> Tensor:
        """[B]; 1 where the label counts, else 0."""
        ...


StopGradient = Callable[[Tensor], Tensor]
"""Detaches a tensor whose first axis is the batch's rows. A probe of the step sees the value of the
training forward again, so that its derivative is that of what was back-propagated."""


class LossTerm(Protocol):
    """One task's loss: what the balancer weighs. Built from (settings, task, heads by output)."""

    @staticmethod
    def extra_heads(task: Any, width: int) -> Mapping[str, Head]:
        """Heads that it needs beside the tasks' own, an imputation tower's say: name -> head. Their
        outputs are called <task>/<name>, and are no predictions."""
        ...

    def rows(
        self, outputs: Mapping[str, Tensor], labels: Labels, stop_gradient: StopGradient
    ) -> tuple[Tensor, Tensor]:
        """(loss_B, weight_B): the task's loss is sum(weight * loss) / sum(weight) over the rows of
        all ranks. `outputs`: raw output_BK by name; weights carry no gradient. What is to be
        treated as a constant must go through `stop_gradient`, never through `detach`."""
        ...
