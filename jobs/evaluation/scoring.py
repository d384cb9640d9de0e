"""Writes a checkpoint's predictions for every row of a split as score files. Collective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.catalog.catalog import Catalog
from data_pipelines.reading.reader import ParquetReader
from jobs.assembly.admitted_rows import admitted_in_checkpoint
from jobs.assembly.model import build_model
from marigold_rec.checkpoint.finding import Found
from marigold_rec.checkpoint.store import CheckpointStore
from marigold_rec.config.schema import Config
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.distributed.together import on_first_rank
from marigold_rec.errors import NumericsError
from marigold_rec.training.monitoring.rank_totals import total_counts
from marigold_rec.training.scoring import ScoreFolder, write_scores
from marigold_rec.training.state import load_model
from marigold_rec.training.stop import StopRequest
from marigold_rec.transforms.arrow_types import plain_type


@dataclass(frozen=True)
class Scored:
    """The folder of the score files, and the reader's counts."""

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
    admitted = on_first_rank(lambda: admitted_in_checkpoint(found, config), ranks.control)
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
    kinds = {name: plain_type(catalog.schema.field(name).type) for name in columns}
    target = ScoreFolder(folder, "--out", kinds)
    not_finite = write_scores(built.model, built.objective.network, reader, ranks, stop, target)
    if bad := {t: n for t, n in total_counts(not_finite, ranks).items() if n}:
        where = ", ".join(f"{name}: {count:,} rows" for name, count in bad.items())
        raise NumericsError(
            f"{found.folder}: predictions are not finite ({where}); the model has diverged: "
            "evaluate an earlier checkpoint"
        )
    return Scored(folder, total_counts(reader.counts, ranks))
