"""A checkpoint's predictions for every row of a split, as score files. Collective."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_pipelines.catalog import Catalog
from data_pipelines.reader import ParquetReader
from launch.build import build_model
from marigold_rec.analysis.score_files import ScoreWriter
from marigold_rec.checkpoint import CheckpointStore, Found
from marigold_rec.config import Config
from marigold_rec.distributed import Ranks, on_every_rank, on_first_rank
from marigold_rec.errors import ConfigError, NumericsError
from marigold_rec.training import StopRequest, load_model, predictions, total_counts
from marigold_rec.transforms import plain_type


@dataclass(frozen=True)
class Scored:
    """Where the score files are, and what was met on the way."""

    folder: Path
    counts: dict[str, int]


def score(
    config: Config,
    found: Found,
    catalog: Catalog,
    ranks: Ranks,
    stop: StopRequest,
    *,
    folder: Path,
    columns: Sequence[str] = (),
) -> Scored:
    """Predicts the rows of `catalog` and writes them to `folder`, with these columns of the log.

    Collective. Raises CheckpointError, DataError, NumericsError (a prediction that is not finite),
    StoppedError: on all ranks alike.
    """
    built = build_model(config, ranks)
    store = CheckpointStore(found.folder.parent, ranks, config)
    load_model(built.model, store, found)
    built.model.eval()
    reader = ParquetReader(
        catalog,
        config,
        rank=ranks.rank,
        world_size=ranks.world_size,
        batch_size=config.data.eval_batch_size,
        shuffle_rows=0,
        extra_columns=columns,
        allow_short=True,
    )
    on_first_rank(lambda: _empty(folder), ranks.control)
    writer = on_every_rank(
        lambda: ScoreWriter(
            folder,
            rank=ranks.rank,
            world_size=ranks.world_size,
            tasks=config.task_names,
            columns={name: plain_type(catalog.schema.field(name).type) for name in columns},
        ),
        ranks.control,
    )
    not_finite: Counter[str] = Counter()
    for batch, predictions_BT in predictions(built.model, reader, ranks, stop):
        rows = slice(0, batch.num_rows)
        scores_BT = predictions_BT.numpy()[rows]
        for task, count in zip(
            config.task_names, (~np.isfinite(scores_BT)).sum(0).tolist(), strict=True
        ):
            not_finite[task] += count
        extra: dict[str, pa.Array] = dict(batch.columns)
        writer.add(
            scores_BT,
            batch.labels_BT.numpy()[rows],
            batch.observed_BT.numpy()[rows] > 0,
            batch.weights_B.numpy()[rows],
            extra,
        )
    on_every_rank(writer.close, ranks.control)
    if bad := {t: n for t, n in total_counts(not_finite, ranks).items() if n}:
        where = ", ".join(f"{task}: {count:,} rows" for task, count in bad.items())
        raise NumericsError(
            f"{found.folder}: predictions are not finite ({where}); the model has diverged: "
            "evaluate an earlier checkpoint"
        )
    return Scored(folder, total_counts(reader.counts, ranks))


def _empty(folder: Path) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"--out: can't write to {folder} ({error.strerror})") from error
