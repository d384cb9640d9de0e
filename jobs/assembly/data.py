"""Finds, checks and reads the data that a config names, for every command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from data_pipelines.catalog.catalog import Catalog
from data_pipelines.catalog.scan import scan
from data_pipelines.inputs.checks import InputChecks
from data_pipelines.inputs.sample import look_at_inputs
from data_pipelines.order.partition import require_one_step
from data_pipelines.preflight.columns import needed_columns
from data_pipelines.preflight.split import look_at_split, rules_of, split_problems
from data_pipelines.reading.reader import ParquetReader
from jobs.assembly.admitted_rows import admitted_for_training
from jobs.assembly.data_root import split_root
from jobs.assembly.log_once import LogOnce
from marigold_rec.config.data import SplitConfig
from marigold_rec.config.schema import Config
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.distributed.together import on_first_rank
from marigold_rec.errors import DataError
from marigold_rec.training.monitoring.run_log import LOGGER
from marigold_rec.transforms.row_bits import RowBits


@dataclass(frozen=True)
class Data:
    """The catalogs of both splits, scanned and checked once, the same on every rank."""

    train: Catalog
    eval: Catalog | None
    admitted: Mapping[str, RowBits] = field(default_factory=dict)
    """By table: the rows that a nightly run's stage `rows` has admitted (life_cycle)."""


def find_data(config: Config, ranks: Ranks) -> Data:
    """Scans and checks both splits on rank 0; every rank gets the result, or its DataError.

    Without any path it makes the embedded synthetic log on first use. Collective.
    """
    return on_first_rank(lambda: _find_data(config, ranks.world_size), ranks.control)


def check_inputs(config: Config, data: Data, ranks: Ranks) -> InputChecks:
    """Checks a sample of the training rows on rank 0, and logs what it finds. Collective."""
    due = config.data.train.due
    checks: InputChecks = on_first_rank(
        lambda: look_at_inputs(data.train, config, due, ranks.world_size), ranks.control
    )
    for line in checks.lines():
        LOGGER.info("%s", line)
    for warning in checks.warnings:
        LOGGER.warning("%s", warning)
    return checks


def find_eval_data(config: Config, ranks: Ranks, log: LogOnce) -> Catalog:
    """Scans and checks data.eval alone, on rank 0; every rank gets it, or its DataError.

    Collective.
    """
    split = config.data.eval
    assert split is not None, "the caller has checked it"
    return on_first_rank(lambda: _find_split("eval", config, split, log), ranks.control)


def find_train_files(config: Config, log: LogOnce) -> Catalog:
    """Scans the training split as it is now, without checks against the config.

    Raises DataError.
    """
    split = config.data.train
    return scan(
        split_root("train", split, config, log.info),
        split.dates,
        needed_columns(config),
        rules_of(config),
    )


def train_reader(config: Config, data: Data, ranks: Ranks) -> ParquetReader:
    return ParquetReader(
        data.train,
        config,
        rank=ranks.rank,
        world_size=ranks.world_size,
        due=config.data.train.due,
        admitted=data.admitted,
    )


def eval_reader(config: Config, data: Data, ranks: Ranks) -> ParquetReader | None:
    """Makes a reader in file order; None when the config has no eval split."""
    if data.eval is None or config.data.eval is None:
        return None
    return ParquetReader(
        data.eval,
        config,
        rank=ranks.rank,
        world_size=ranks.world_size,
        batch_size=config.data.eval_batch_size,
        shuffle_rows=0,
        allow_short=True,
        due=config.data.eval.due,
        admitted=data.admitted,
    )


def _find_data(config: Config, world_size: int) -> Data:
    log = LogOnce()
    train = _find_split("train", config, config.data.train, log)
    try:
        require_one_step(train.num_rows, world_size, config.data.batch_size)
    except DataError as error:
        raise DataError([f"{train.storage.url}: {problem}" for problem in error.problems]) from None
    admitted = admitted_for_training(config)
    if config.data.eval is None:
        return Data(train, None, admitted)
    held_out = _find_split("eval", config, config.data.eval, log)
    errors, warnings = split_problems(train, held_out, config)
    for warning in warnings:
        LOGGER.warning("%s", warning)
    if errors:
        raise DataError(errors)
    return Data(train, held_out, admitted)


def _find_split(name: str, config: Config, split: SplitConfig, log: LogOnce) -> Catalog:
    root = split_root(name, split, config, log.info)
    catalog, problems = look_at_split(name, config, split, root)
    for warning in catalog.warnings:
        log.warning("%s", warning)
    if catalog.ignored:
        log.warning(
            "%s: %d files are not read, e.g. %s",
            catalog.storage.url,
            len(catalog.ignored),
            catalog.ignored[0],
        )
    if catalog.hidden:
        log.info(
            "%s: %d files are skipped because their names begin with _ or ., e.g. %s",
            catalog.storage.url,
            len(catalog.hidden),
            catalog.hidden[0],
        )
    if catalog.not_due:
        log.info(
            "data.%s.due: %d files hold no label that is due and are not read, e.g. %s",
            name,
            len(catalog.not_due),
            catalog.not_due[0],
        )
    if problems:
        raise DataError(problems)
    return catalog
