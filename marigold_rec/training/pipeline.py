"""TorchRec's sparse-dist pipeline with our two stops in a step: before the backward, and before
the optimizer.

TorchRec overlaps the next batch's transfer and id exchange with this batch's forward and backward.
The tables are written inside the backward, so what may stop a step must run before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from marigold_rec.batch import Batch
from marigold_rec.training.objective import StepOutput


class TrainPipeline(TrainPipelineSparseDist[Batch, StepOutput]):
    """`progress(iterator)` runs one step and returns its StepOutput.

    `before_backward(output)` may raise, on all ranks alike, to leave every parameter and table as
    it was, or answer False: the step ends there then, and the next batch's exchange of ids, which
    is under way, is not disturbed. `before_optimizer()` runs when all gradients are there and the
    tables are updated, `after_optimizer()` when the dense parameters are, too.
    """

    def __init__(
        self,
        model: DistributedModelParallel,
        optimizer: Any,
        device: torch.device,
        *,
        before_backward: Callable[[StepOutput], bool],
        before_optimizer: Callable[[], None],
        after_optimizer: Callable[[], None],
    ) -> None:
        self._before_backward = before_backward
        self._before_optimizer = before_optimizer
        self._after_optimizer = after_optimizer
        self._output: StepOutput | None = None
        self.was_skipped = False
        """The last step ended before its backward."""
        super().__init__(
            model, optimizer, device, execute_all_batches=True, custom_model_fwd=self._forward
        )

    def _forward(self, batch: Batch | None) -> tuple[Tensor, StepOutput]:
        scalar, output = self._model(batch)
        self._output = output
        return scalar.unsqueeze(0), output

    def _backward(self, losses: Tensor) -> None:
        assert self._output is not None
        self.was_skipped = not self._before_backward(self._output)
        if not self.was_skipped:
            super()._backward(losses)

    def _optimizer_step(self) -> None:
        if not self.was_skipped:
            self._before_optimizer()
            super()._optimizer_step()
            self._after_optimizer()
        self._output = None

    @contextmanager
    def direct_lookups(self) -> Iterator[None]:
        """The embeddings' own forward, as outside of a pipeline: for one more lookup.

        A pipelined module only takes ids that were exchanged in advance, each batch's once.
        """
        replaced = [m for m in self._rewritten_modules() if "forward" in vars(m)]
        forwards = [vars(m).pop("forward") for m in replaced]
        try:
            yield
        finally:
            for module, forward in zip(replaced, forwards, strict=True):
                vars(module)["forward"] = forward

    def _rewritten_modules(self) -> Iterator[nn.Module]:
        """What TorchRec's rewriting gives a forward of its own: sharded modules, id exchanges."""
        for pipelined in self._pipelined_modules:
            for module in cast(nn.Module, pipelined).modules():
                yield module
                for input_dist in getattr(module, "_input_dists", []):
                    if isinstance(exchange := getattr(input_dist, "_dist", None), nn.Module):
                        yield exchange
