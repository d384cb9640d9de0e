"""What becomes of a step whose losses or weights are not finite: the run stops, or leaves it out.

The tables are written inside the backward, so that both are decided before it.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from marigold_rec.config.schema import NumericsConfig
from marigold_rec.distributed import Ranks
from marigold_rec.errors import NumericsError
from marigold_rec.training.monitoring.large_inputs import large_inputs, say_large_inputs
from marigold_rec.training.monitoring.run_log import LOGGER
from marigold_rec.training.objective import StepOutput

_LOOK_AT = "Lower optimizer.*.lr, set optimizer.dense.clip_norm, or look at these rows"


class NumericsGuard:
    """Looks at every step between its forward and its backward."""

    def __init__(
        self,
        config: NumericsConfig,
        task_names: tuple[str, ...],
        dense_names: tuple[str, ...],
        ranks: Ranks,
    ) -> None:
        self._most = config.max_skipped_batches
        self._task_names = task_names
        self._dense_names = dense_names
        self._ranks = ranks
        self.may_skip = config.on_non_finite == "skip_batch"
        self.skipped = 0
        """Batches left out since this start; a resume counts anew."""

    def passes(self, step: int, output: StepOutput, last_gradient_norm: Tensor) -> bool:
        """Whether step `step` (from 0) may have its backward; if not, its batch is to be left out.

        Raises NumericsError where it may not be. Losses, weights and the norm of the last dense
        gradient are equal on all ranks, so that all ranks decide alike. This is the step's one
        host sync; it costs nothing on CPU. Collective.
        """
        values_2T = torch.stack([output.losses.global_T, output.coefficients_T])
        if bool(torch.isfinite(values_2T).all()):
            return True
        found = f"step {step}: not finite ({self._by_task(values_2T)}); {self._sources(output)}"
        found += f"; {self._inputs(output)}"
        refusal = self._refusal(last_gradient_norm)
        if refusal is not None:
            raise NumericsError(
                f"{found}. The step was stopped before its backward: tables and parameters are "
                f"those of the step before. {refusal}"
            )
        self.skipped += 1
        LOGGER.error(
            "%s. THE BATCH IS LEFT OUT (skipped since this start: %d, "
            "numerics.max_skipped_batches: %d): tables, parameters and task weights are those of "
            "the step before",
            found,
            self.skipped,
            self._most,
        )
        return False

    def scalars(self) -> dict[str, float]:
        """For the log and the summary; none where nothing may be left out."""
        return {"numerics/skipped_batches": float(self.skipped)} if self.may_skip else {}

    def _refusal(self, last_gradient_norm: Tensor) -> str | None:
        """Why the batch can't be left out, and what to do; None: it can."""
        if not self.may_skip:
            return _LOOK_AT
        if not bool(torch.isfinite(last_gradient_norm)):
            return (
                "It can't be left out: the last gradient of the dense part was not finite, so that "
                "the model is to blame, not this batch. Go on from the last checkpoint with a "
                "lower optimizer.*.lr or with optimizer.dense.clip_norm"
            )
        if self.skipped >= self._most:
            return (
                f"{self.skipped} batches were left out since this start, no more may be "
                f"(numerics.max_skipped_batches). {_LOOK_AT}"
            )
        return None

    def _by_task(self, values_2T: Tensor) -> str:
        losses, weights = values_2T.tolist()
        return ", ".join(
            f"{name}: loss {loss}, weight {weight}"
            for name, loss, weight in zip(self._task_names, losses, weights, strict=True)
        )

    def _inputs(self, output: StepOutput) -> str:
        """The dense inputs of all ranks that are too large: more often to blame than any rate."""
        found: list[dict[str, float]] = [{}] * self._ranks.world_size
        mine = large_inputs(output.batch.dense_BD, self._dense_names)
        dist.all_gather_object(found, mine, group=self._ranks.control)
        names = dict.fromkeys(name for of_rank in found for name in of_rank)
        return say_large_inputs({n: max(f.get(n, 0.0) for f in found) for n in names})

    def _sources(self, output: StepOutput) -> str:
        """The files and row groups of those ranks whose own rows are to blame. Collective."""
        is_mine = not bool(torch.isfinite(output.losses.local_T.detach()).all())
        mine = output.batch.sources if is_mine else ()
        sources: list[tuple[str, ...]] = [()] * self._ranks.world_size
        dist.all_gather_object(sources, mine, group=self._ranks.control)
        where = "; ".join(
            f"rank {rank} read {', '.join(files)}" for rank, files in enumerate(sources) if files
        )
        return where or "no row stands out"
