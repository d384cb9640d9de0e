"""Exact metrics of a model on a split, equal at any number of ranks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torchrec.distributed import DistributedModelParallel

from marigold_rec.batch import Batch, Cursor
from marigold_rec.config.schema import BinaryTask, Task
from marigold_rec.distributed import Ranks, on_every_rank
from marigold_rec.metrics import BinaryScores, RegressionScores, merge_on_first_rank
from marigold_rec.training.batches import FetchedBatches
from marigold_rec.training.trainer import Reader


@dataclass(frozen=True)
class Evaluation:
    """`scalars`: eval/<metric>/<task> -> figure, or None where there is none; `reasons` says why."""

    scalars: dict[str, float | None]
    reasons: dict[str, str] = field(default_factory=dict)


def evaluate(
    model: DistributedModelParallel, reader: Reader, tasks: tuple[Task, ...], ranks: Ranks
) -> Evaluation:
    """One pass over the reader's rows. Collective; every rank gets the figures of all rows.

    Detach the training pipeline first: it replaces the tables' forward.
    """
    scores = [_Scores(i, task) for i, task in enumerate(tasks)]
    was_training = model.training
    model.eval()
    try:
        batches = FetchedBatches(reader.batches(Cursor(0, 0)), lambda batch: batch)
        for _ in range(reader.steps_per_epoch):
            batches.fetch()
            batch = next(batches, None)
            on_every_rank(batches.raise_error, ranks.control)
            assert batch is not None
            batches.consumed()
            with torch.no_grad():
                predictions_BT = model(batch.to(ranks.device)).float().cpu().numpy()
            for score in scores:
                score.add(predictions_BT, batch)
        batches.close()
    finally:
        model.train(was_training)
    scalars: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for score in scores:
        found = score.merged(ranks)
        scalars |= found.scalars
        reasons |= found.reasons
    return Evaluation(scalars, reasons)
