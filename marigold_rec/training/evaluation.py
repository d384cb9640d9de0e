"""The metrics of a model on a split at the end of its training, equal at any number of ranks."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torchrec.distributed import DistributedModelParallel

from marigold_rec.analysis.evaluation import (
    Settings,
    num_positives,
    num_saturated,
    observed_rows,
)
from marigold_rec.analysis.figures import estimates
from marigold_rec.analysis.score_files import ScoreFiles
from marigold_rec.analysis.targets import targets_of
from marigold_rec.config.tasks import Task
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.distributed.together import on_first_rank
from marigold_rec.metrics import in_order, metric_of
from marigold_rec.network import Network
from marigold_rec.training.batches import Reader
from marigold_rec.training.monitoring.sanity import TaskMetrics
from marigold_rec.training.scoring import ScoreFolder, write_scores
from marigold_rec.training.stop import StopRequest


@dataclass(frozen=True)
class Evaluation:
    """Exact figures of a split.

    `scalars`: eval/<metric>/<task> -> figure, or None where there is none and `reasons` (by the
    same names) says why.
    """

    scalars: dict[str, float | None]
    reasons: dict[str, str] = field(default_factory=dict)
    figures: list[TaskMetrics] = field(default_factory=list)
    """For the sanity guard."""


def evaluate(
    model: DistributedModelParallel,
    network: Network,
    reader: Reader,
    tasks: Sequence[Task],
    ranks: Ranks,
    stop: StopRequest,
    *,
    run_folder: Path,
) -> Evaluation:
    """One pass over the reader's rows. Collective; every rank gets the figures of all rows.

    The ranks score into files of the run's folder, which the first rank reads, then removes.
    Raises what `write_scores` raises.
    """
    folder = ScoreFolder(run_folder / "scores", "run.dir")
    try:
        write_scores(model, network, reader, ranks, stop, folder)
        return on_first_rank(lambda: _evaluation(tasks, ScoreFiles(folder.path)), ranks.control)
    finally:
        if ranks.is_first:
            shutil.rmtree(folder.path, ignore_errors=True)


def _evaluation(tasks: Sequence[Task], files: ScoreFiles) -> Evaluation:
    scalars: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    figures: list[TaskMetrics] = []
    weight_N = files.weight()
    targets = {target.name: target for target in targets_of(tasks)}
    for task in tasks:
        target = targets[task.name]
        rows, _ = observed_rows(files, target, weight_N, Settings())
        found = estimates(task.kind, rows)
        for name in in_order(name for name in found if metric_of(name).is_summarized):
            scalar = f"eval/{name}/{task.name}"
            scalars[scalar] = found[name].value
            if (reason := found[name].reason) is not None:
                reasons[scalar] = reason
        scalars[f"eval/rows/{task.name}"] = float(len(rows))
        values = {name: estimate.value for name, estimate in found.items()}
        positives = num_positives(target, rows)
        saturated = num_saturated(target, rows)
        figures.append(TaskMetrics.of(task.name, len(rows), positives, values, saturated=saturated))
    return Evaluation(scalars, reasons, figures)
