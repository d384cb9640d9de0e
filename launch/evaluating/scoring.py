"""A checkpoint's predictions for every row of a split, as score files. Collective."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from data_pipelines.catalog import Catalog
from data_pipelines.reader import ParquetReader
from launch.build import build_model
from launch.evaluating.checkpoints import admitted_rows
from marigold_rec.analysis.score_files import ScoreWriter
from marigold_rec.checkpoint import CheckpointStore, Found
from marigold_rec.config import Config
from marigold_rec.distributed import (
    Agreement,
    Ranks,
    on_every_rank,
    on_first_rank,
    raise_together,
)
from marigold_rec.errors import ConfigError, NumericsError
from marigold_rec.training import StopRequest, load_model, predictions, total_counts
from marigold_rec.transforms import plain_type

_Result = TypeVar("_Result")


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
    ConfigError (a rank can't write to `folder`), StoppedError: on all ranks alike.
    """
    built = build_model(config, ranks)
    store = CheckpointStore(found.folder.parent, ranks, config)
    load_model(built.model, store, found)
    built.model.eval()
    admitted = on_first_rank(lambda: admitted_rows(found, config), ranks.control)
    reader = ParquetReader(
        catalog,
        config,
        rank=ranks.rank,
        world_size=ranks.world_size,
        batch_size=config.data.eval_batch_size,
        shuffle_rows=0,
        extra_columns=columns,
        allow_short=True,
        due=None if config.data.eval is None else config.data.eval.due,
        admitted=admitted,
    )
    on_first_rank(lambda: _writing(folder, lambda: _empty(folder)), ranks.control)
    writer = on_every_rank(
        lambda: _writing(folder, lambda: _writer(folder, config, catalog, ranks, columns)),
        ranks.control,
    )
    not_finite: Counter[str] = Counter()
    agreement = Agreement(ranks.control)
    for batch, predictions_BT in predictions(built.model, reader, ranks, stop):
        rows = slice(0, batch.num_rows)
        scores_BT = predictions_BT.numpy()[rows]
        for task, count in zip(
            config.task_names, (~np.isfinite(scores_BT)).sum(0).tolist(), strict=True
        ):
            not_finite[task] += count
        error: Exception | None = None
        try:
            _writing(
                folder,
                lambda batch=batch, rows=rows, scores_BT=scores_BT: writer.add(
                    scores_BT,
                    batch.labels_BT.numpy()[rows],
                    batch.observed_BT.numpy()[rows] > 0,
                    batch.weights_B.numpy()[rows],
                    batch.columns,
                ),
            )
        except Exception as caught:
            error = caught
        # A full disk is met by one rank alone; the others would wait for it in the next batch.
        if agreement.reach(failed=error is not None, stop=False, save=False).failed:
            raise_together(error, ranks.control)
    on_every_rank(lambda: _writing(folder, writer.close), ranks.control)
    if bad := {t: n for t, n in total_counts(not_finite, ranks).items() if n}:
        where = ", ".join(f"{task}: {count:,} rows" for task, count in bad.items())
        raise NumericsError(
            f"{found.folder}: predictions are not finite ({where}); the model has diverged: "
            "evaluate an earlier checkpoint"
        )
    return Scored(folder, total_counts(reader.counts, ranks))


def _writer(
    folder: Path, config: Config, catalog: Catalog, ranks: Ranks, columns: Sequence[str]
) -> ScoreWriter:
    return ScoreWriter(
        folder,
        rank=ranks.rank,
        world_size=ranks.world_size,
        tasks=config.task_names,
        columns={name: plain_type(catalog.schema.field(name).type) for name in columns},
    )


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _writing(folder: Path, work: Callable[[], _Result]) -> _Result:
    """What `work` returns; raises ConfigError for its OSError."""
    try:
        return work()
    except OSError as error:
        raise ConfigError(
            f"--out: can't write to {folder} ({error.strerror or error}); choose a folder with "
            "space that all ranks share"
        ) from error
