"""Lists the step hooks of a training. A new hook is one file, and one line here."""

from __future__ import annotations

from dataclasses import dataclass

from torchrec.distributed import DistributedModelParallel

from marigold_rec.config.schema import Config
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.training.balancer_probe import BalancerProbe
from marigold_rec.training.batches import Reader
from marigold_rec.training.checkpoint_manager import CheckpointManager
from marigold_rec.training.clipping import GradientClipping
from marigold_rec.training.direct_lookup import DirectLookup
from marigold_rec.training.head_bias_init import HeadBiasInit
from marigold_rec.training.learning_rate import LearningRate
from marigold_rec.training.monitoring.rank_totals import RankTotals
from marigold_rec.training.monitoring.sanity import SanityGuard
from marigold_rec.training.monitoring.sanity_hook import SanityHook
from marigold_rec.training.monitoring.table_check import TableCheck
from marigold_rec.training.monitoring.task_scalars import TaskScalars
from marigold_rec.training.monitoring.throughput import Throughput
from marigold_rec.training.monitoring.window_metrics import WindowMetrics
from marigold_rec.training.numerics_guard import NumericsGuard
from marigold_rec.training.objective import Objective
from marigold_rec.training.optimizer import Optimizers
from marigold_rec.training.step_hook import StepHooks
from marigold_rec.training.stopwatch import Stopwatch


@dataclass(frozen=True)
class Parts:
    """Holds the pieces of a training that hooks are made of."""

    config: Config
    ranks: Ranks
    model: DistributedModelParallel
    objective: Objective
    reader: Reader
    optimizers: Optimizers
    checkpoints: CheckpointManager
    sanity: SanityGuard
    data_wait: Stopwatch


def build_hooks(parts: Parts) -> StepHooks:
    """Returns the hooks in the order of their calls, which is the same for every method."""
    config, ranks, network = parts.config, parts.ranks, parts.objective.network
    clipping = GradientClipping(parts.optimizers)
    probe = BalancerProbe(parts.objective.prober, DirectLookup(parts.model))
    window = WindowMetrics(
        config.tasks,
        network.task_heads,
        ranks,
        batch_size=parts.reader.batch_size,
        window_rows=config.logging.window_rows,
    )
    begins_at_labels = config.model.head_bias_init == "labels"
    return StepHooks(
        *([HeadBiasInit(network.task_heads, ranks.group)] if begins_at_labels else []),
        LearningRate(parts.optimizers, config.optimizer),
        # The first to see a forward's output: no other hook sees that of a step it leaves out.
        NumericsGuard(config, ranks, clipping),
        # Before the clipping: a probe moves along the gradient, not along a shortened one.
        probe,
        clipping,
        # Before whatever is computed for the log: with a bad table the run ends unlogged.
        TableCheck(parts.model, ranks, config.numerics.check_tables_every_n_steps),
        window,
        TaskScalars(parts.objective.balancer, config.task_names),
        RankTotals(lambda: parts.reader.counts, config.task_names, ranks),
        parts.checkpoints,
        # After the window, whose newest values it looks at.
        SanityHook(parts.sanity, window, config),
        # Last: the time that the others take at a logging step belongs to the interval.
        Throughput(parts.reader.batch_size * ranks.world_size, parts.data_wait, probe.stopwatch),
    )
