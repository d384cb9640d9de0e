"""A model's predictions for the rows of a split, as score files: what every evaluation starts from.

Shapes: B rows of a batch, P predictions.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torchrec.distributed import DistributedModelParallel

from marigold_rec.analysis.score_files import ScoreWriter
from marigold_rec.batch import Batch, Cursor
from marigold_rec.distributed.agreement import Agreement
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.distributed.together import on_every_rank, on_first_rank, raise_together
from marigold_rec.errors import ConfigError, StoppedError
from marigold_rec.network import Network
from marigold_rec.training.batches import FetchedBatches, Reader
from marigold_rec.training.stop import StopRequest

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ScoreFolder:
    """Where score files go; all ranks must share it."""

    path: Path
    setting: str
    """What chose it, for the message where it can't be written to."""
    columns: Mapping[str, pa.DataType] = field(default_factory=dict)
    """Of the log, that travel along."""

    def write(self, work: Callable[[], _Result]) -> _Result:
        """What `work` returns; raises ConfigError for its OSError."""
        try:
            return work()
        except OSError as error:
            raise ConfigError(
                f"{self.setting}: can't write to {self.path} ({error.strerror or error}); choose a "
                "folder with space that all ranks share"
            ) from error

    def empty(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)

    def writer(self, network: Network, ranks: Ranks) -> ScoreWriter:
        return ScoreWriter(
            self.path,
            rank=ranks.rank,
            world_size=ranks.world_size,
            tasks=network.tasks,
            columns=self.columns,
            extra=network.extra_columns,
        )


def write_scores(
    model: DistributedModelParallel,
    network: Network,
    reader: Reader,
    ranks: Ranks,
    stop: StopRequest,
    folder: ScoreFolder,
) -> Counter[str]:
    """Predicts the reader's rows and writes them to the folder, which it empties first. Returns how
    many predictions of this rank are not finite, by name.

    Collective. Detach the training pipeline first: it replaces the tables' forward. Raises
    ConfigError (a rank can't write), StoppedError, or what a rank's reader raised: on all ranks
    alike.
    """
    on_first_rank(lambda: folder.write(folder.empty), ranks.control)
    writer = on_every_rank(
        lambda: folder.write(lambda: folder.writer(network, ranks)), ranks.control
    )
    not_finite: Counter[str] = Counter()
    agreement = Agreement(ranks.control)
    was_training = model.training
    model.eval()
    try:
        for batch, predictions_BP in predictions(model, reader, ranks, stop):
            scores_BP = predictions_BP.numpy()[: batch.num_rows]
            counts_P = (~np.isfinite(scores_BP)).sum(0).tolist()
            not_finite.update(dict(zip(network.prediction_columns, counts_P, strict=True)))
            error: Exception | None = None
            try:
                folder.write(lambda batch=batch, scores=scores_BP: _add(writer, batch, scores))
            except Exception as caught:
                error = caught
            # A full disk is met by one rank alone; the others would wait for it in the next batch.
            if agreement.reach(failed=error is not None, stop=False, save=False).failed:
                raise_together(error, ranks.control)
    finally:
        model.train(was_training)
    on_every_rank(lambda: folder.write(writer.close), ranks.control)
    return not_finite


def _add(writer: ScoreWriter, batch: Batch, scores_BP: np.ndarray) -> None:
    rows = slice(0, batch.num_rows)
    writer.add(
        scores_BP,
        batch.labels_BT.numpy()[rows],
        batch.observed_BT.numpy()[rows] > 0,
        batch.weights_B.numpy()[rows],
        batch.columns,
    )


def predictions(
    model: DistributedModelParallel, reader: Reader, ranks: Ranks, stop: StopRequest
) -> Iterator[tuple[Batch, Tensor]]:
    """The reader's batches (on CPU) with their predictions_BP, float32, in the labels' units.

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
                predictions_BP = model(batch.to(ranks.device))
            yield batch, predictions_BP.float().cpu()
    finally:
        batches.close()
