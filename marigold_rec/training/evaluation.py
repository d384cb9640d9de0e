"""Exact metrics of a model on a split, equal at any number of ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torchrec.distributed import DistributedModelParallel

from marigold_rec.batch import Batch, Cursor
from marigold_rec.config.tasks import Task
from marigold_rec.distributed import Agreement, Ranks, on_first_rank, raise_together
from marigold_rec.errors import StoppedError
from marigold_rec.metrics import (
    BinaryMetrics,
    BinaryScores,
    RegressionScores,
    merge_on_first_rank,
)
from marigold_rec.training.batches import FetchedBatches
from marigold_rec.training.sanity import TaskFigures
from marigold_rec.training.stop import StopRequest
from marigold_rec.training.trainer import Reader

# Figures in the summary, by kind of task; the others are counts and stay out of the scalars.
_FIGURES = {
    "binary": ("auc", "log_loss", "ne", "calibration"),
    "watch_time": ("mae_s", "rmse_s", "r2_log", "spearman", "xauc"),
}

Scores = BinaryScores | RegressionScores


@dataclass(frozen=True)
class Evaluation:
    """Exact figures of a split.

    `scalars`: eval/<metric>/<task> -> figure, or None where there is none and `reasons` (by the
    same names) says why.
    """

    scalars: dict[str, float | None]
    reasons: dict[str, str] = field(default_factory=dict)
    figures: list[TaskFigures] = field(default_factory=list)
    """For the sanity guard."""


def evaluate(
    model: DistributedModelParallel,
    reader: Reader,
    tasks: tuple[Task, ...],
    ranks: Ranks,
    stop: StopRequest,
) -> Evaluation:
    """One pass over the reader's rows. Collective; every rank gets the figures of all rows.

    Detach the training pipeline first: it replaces the tables' forward. Raises StoppedError on all
    ranks when one of them was asked to stop, or what a rank's reader raised.
    """
    scores = [_scores_of(task) for task in tasks]
    was_training = model.training
    model.eval()
    try:
        for batch, predictions_BT in predictions(model, reader, ranks, stop):
            for i, score in enumerate(scores):
                # Filling rows are never observed.
                seen_B = batch.observed_BT[:, i] > 0
                score.add(
                    predictions_BT[seen_B, i],
                    batch.labels_BT[seen_B, i],
                    batch.weights_B[seen_B],
                )
    finally:
        model.train(was_training)
    merged = [_merged(score, ranks) for score in scores]
    return on_first_rank(lambda: _figures(tasks, merged), ranks.control)


def _merged(score: Scores, ranks: Ranks) -> Scores | None:
    """The scores of all ranks, on the first rank only."""
    return merge_on_first_rank(cast(Any, score), ranks.control)


def predictions(
    model: DistributedModelParallel, reader: Reader, ranks: Ranks, stop: StopRequest
) -> Iterator[tuple[Batch, Tensor]]:
    """The reader's batches (on CPU) with their predictions_BT, float32, in the labels' units.

    Collective, in the mode that the model is in. Raises StoppedError on all ranks when one of them
    was asked to stop, or what a rank's reader raised.
    """
    batches = FetchedBatches(
        reader.batches(Cursor(0, 0)), lambda batch: batch, limit=reader.steps_per_epoch
    )
    agreement = Agreement(ranks.control)
    try:
        for _ in range(reader.steps_per_epoch):
            batches.fetch()
            failed = batches.error is not None
            decision = agreement.reach(failed=failed, stop=stop.is_set, save=False)
            if decision.failed:
                raise_together(batches.error, ranks.control)
            if decision.stop:
                raise StoppedError("stopped by a signal while evaluating; run again to evaluate")
            batch = next(batches)
            batches.consumed()
            with torch.no_grad():
                predictions_BT = model(batch.to(ranks.device))
            yield batch, predictions_BT.float().cpu()
    finally:
        batches.close()


def _scores_of(task: Task) -> Scores:
    return BinaryScores() if task.kind == "binary" else RegressionScores()


def _figures(tasks: tuple[Task, ...], merged: list[Scores | None]) -> Evaluation:
    scalars: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    figures: list[TaskFigures] = []
    for task, scores in zip(tasks, merged, strict=True):
        assert scores is not None, "only the first rank holds the merged scores"
        metrics = scores.compute()
        for figure in _FIGURES[task.kind]:
            name = f"eval/{figure}/{task.name}"
            scalars[name] = getattr(metrics, figure)
            if figure in metrics.reasons:
                reasons[name] = metrics.reasons[figure]
        scalars[f"eval/rows/{task.name}"] = float(metrics.rows)
        if isinstance(metrics, BinaryMetrics):
            figures.append(
                TaskFigures(
                    task.name,
                    metrics.rows,
                    metrics.positives,
                    auc=metrics.auc,
                    ne=metrics.ne,
                    calibration=metrics.calibration,
                    saturated=metrics.saturated_scores,
                )
            )
        else:
            figures.append(TaskFigures(task.name, metrics.rows, r2=metrics.r2_log))
    return Evaluation(scalars, reasons, figures)
