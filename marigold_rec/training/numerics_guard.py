"""Stops a step whose losses or task weights are not finite: the run ends, or leaves the batch out.

The tables are written inside the backward, so that both are decided before it.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from marigold_rec.config.schema import Config
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.errors import NumericsError
from marigold_rec.training.clipping import GradientClipping
from marigold_rec.training.monitoring.large_inputs import describe_large_inputs, large_inputs
from marigold_rec.training.monitoring.run_log import LOGGER
from marigold_rec.training.objective import StepOutput
from marigold_rec.training.step_hook import Scalars, StepHook

_LOOK_AT = "Lower optimizer.*.lr, set optimizer.dense.clip_norm, or look at these rows"


class NumericsGuard(StepHook):
    """Looks at every step between its forward and its backward.

    With numerics.on_non_finite=skip_batch the objective has to take snapshots.
    """

    def __init__(self, config: Config, ranks: Ranks, clipping: GradientClipping) -> None:
        self._max_skipped = config.numerics.max_skipped_batches
        self._may_skip = config.numerics.on_non_finite == "skip_batch"
        self._task_names = config.task_names
        self._dense_names = tuple(feature.name for feature in config.dense_features)
        self._ranks = ranks
        self._clipping = clipping
        self._num_skipped = 0

    def before_backward(self, output: StepOutput) -> bool:
        """Raises NumericsError if the run has to end.

        Losses, weights and the norm of the last dense gradient are equal on all ranks, so that all
        ranks decide alike. This is the step's one host sync; it costs nothing on CPU. Collective.
        """
        values_2T = torch.stack([output.losses.global_T, output.coefficients_T])
        if bool(torch.isfinite(values_2T).all()):
            return True
        found = f"step {output.batch.step}: not finite ({self._by_task(values_2T)}); "
        found += f"{self._sources(output)}; {self._inputs(output)}"
        refusal = self._refusal()
        if refusal is not None:
            raise NumericsError(
                f"{found}. The step was stopped before its backward: tables and parameters are "
                f"those of the step before. {refusal}"
            )
        assert output.snapshot is not None, "the objective takes no snapshots"
        output.snapshot.rollback()
        self._num_skipped += 1
        LOGGER.error(
            "%s. THE BATCH IS LEFT OUT (skipped since this start: %d, "
            "numerics.max_skipped_batches: %d): tables, parameters and task weights are those of "
            "the step before",
            found,
            self._num_skipped,
            self._max_skipped,
        )
        return False

    def on_log(self, step: int, output: StepOutput) -> Scalars:
        return {**self.summary()}

    def summary(self) -> dict[str, float]:
        """Returns the number of skipped batches since this start, if any may be skipped."""
        return {"numerics/skipped_batches": float(self._num_skipped)} if self._may_skip else {}

    def _refusal(self) -> str | None:
        """Returns why the batch can't be left out, and what to do; None if it can."""
        if not self._may_skip:
            return _LOOK_AT
        if not bool(torch.isfinite(self._clipping.norm)):
            return (
                "It can't be left out: the last gradient of the dense part was not finite, so that "
                "the model is to blame, not this batch. Go on from the last checkpoint with a "
                "lower optimizer.*.lr or with optimizer.dense.clip_norm"
            )
        if self._num_skipped >= self._max_skipped:
            return (
                f"{self._num_skipped} batches were left out since this start, no more may be "
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
        """Names the dense inputs of all ranks that are too large: they are more often to blame than
        any rate. Collective."""
        found: list[dict[str, float]] = [{}] * self._ranks.world_size
        mine = large_inputs(output.batch.dense_BD, self._dense_names)
        dist.all_gather_object(found, mine, group=self._ranks.control)
        names = dict.fromkeys(name for of_rank in found for name in of_rank)
        return describe_large_inputs({n: max(f.get(n, 0.0) for f in found) for n in names})

    def _sources(self, output: StepOutput) -> str:
        """Names files and row groups of those ranks whose own rows are to blame. Collective."""
        is_mine = not bool(torch.isfinite(output.losses.local_T.detach()).all())
        mine = output.batch.sources if is_mine else ()
        sources: list[tuple[str, ...]] = [()] * self._ranks.world_size
        dist.all_gather_object(sources, mine, group=self._ranks.control)
        where = "; ".join(
            f"rank {rank} read {', '.join(files)}" for rank, files in enumerate(sources) if files
        )
        return where or "no row stands out"
