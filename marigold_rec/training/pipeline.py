"""Runs TorchRec's sparse-dist pipeline with the step hooks in it.

TorchRec overlaps the next batch's transfer and id exchange with this batch's forward and backward.
The tables are written inside the backward, so what may stop a step must run before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from marigold_rec.batch import Batch
from marigold_rec.training.objective import StepOutput
from marigold_rec.training.step_hook import StepHook


class TrainPipeline(TrainPipelineSparseDist[Batch, StepOutput]):
    """`progress(iterator)` runs one step and returns its StepOutput.

    A hook's `before_backward` may raise, on all ranks alike, to leave every parameter and table as
    it was, or return False: the step ends there then, and the next batch's exchange of ids, which
    is under way, is not disturbed.
    """

    def __init__(
        self,
        model: DistributedModelParallel,
        optimizer: Any,
        device: torch.device,
        hooks: StepHook,
    ) -> None:
        self._hooks = hooks
        self._output: StepOutput | None = None
        """The step's, while it is under way; None once it is left out."""
        super().__init__(
            model, optimizer, device, execute_all_batches=True, custom_model_fwd=self._forward
        )

    def progress(self, dataloader_iter: Iterator[Batch]) -> StepOutput:
        output = super().progress(dataloader_iter)
        was_skipped, self._output = self._output is None, None
        # What only this step could use must not take memory beside the next one's.
        return replace(output, probe_context=None, snapshot=None, was_skipped=was_skipped)

    def _forward(self, batch: Batch | None) -> tuple[Tensor, StepOutput]:
        assert batch is not None
        self._hooks.before_forward(batch)
        scalar, self._output = self._model(batch)
        assert self._output is not None
        return scalar.unsqueeze(0), self._output

    def _backward(self, losses: Tensor) -> None:
        assert self._output is not None
        if self._hooks.before_backward(self._output):
            super()._backward(losses)
        else:
            self._output = None

    def _optimizer_step(self) -> None:
        if self._output is not None:
            self._hooks.before_optimizer(self._output)
            super()._optimizer_step()
            self._hooks.after_optimizer(self._output)
