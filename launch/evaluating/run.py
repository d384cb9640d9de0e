"""One evaluation: find the data, score it with one or two models, judge, write the report."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import cast

from data_pipelines.catalog import Catalog
from launch.build import find_eval_data, find_train_files
from launch.evaluating.arguments import EvaluateArguments
from launch.evaluating.checkpoints import evaluated_config, open_checkpoint
from launch.evaluating.clusters import columns_of
from launch.evaluating.report import Contender, make_report
from launch.evaluating.scoring import score
from launch.exits import rank_of_environment
from marigold_rec.checkpoint import Found
from marigold_rec.config import Config
from marigold_rec.distributed import Ranks, on_first_rank, start_ranks
from marigold_rec.errors import EXIT_DONE, ConfigError, DataError
from marigold_rec.reporting import write_report
from marigold_rec.training import LOGGER, StopRequest, stop_on_signals


def evaluate_checkpoint(config: Config, arguments: EvaluateArguments) -> int:
    """The whole evaluation; returns the exit code. Collective. Writes below `arguments.out` only.

    The ranks score; then the first one judges alone, when the others have left: however long it
    takes, nobody waits for it in a collective.
    """
    scores = arguments.out / "scores"
    try:
        return _evaluate(config, arguments, scores)
    finally:
        if rank_of_environment() == 0 and not arguments.keep_scores:
            shutil.rmtree(scores, ignore_errors=True)


def _evaluate(config: Config, arguments: EvaluateArguments, scores: Path) -> int:
    with start_ranks(config) as ranks, stop_on_signals() as stop:
        world_size, is_first = ranks.world_size, ranks.is_first
        found = on_first_rank(lambda: open_checkpoint(arguments.checkpoint), ranks.control)
        catalog = find_eval_data(config, ranks)
        columns, warnings = columns_of(config.evaluation, catalog)
        train = on_first_rank(lambda: _training_files(config), ranks.control)
        LOGGER.info(
            "evaluating %s on %s rows of %s",
            found.folder,
            f"{catalog.num_rows:,}",
            catalog.storage.url,
        )
        scored = score(
            config, found, catalog, ranks, stop, folder=scores / "model", columns=columns
        )
        model = Contender(found, config, scored)
        baseline = None
        if arguments.baseline is not None:
            baseline = _baseline(config, arguments, catalog, ranks, stop, scores / "baseline")
    if not is_first:
        return EXIT_DONE
    report = make_report(
        model,
        baseline,
        catalog,
        train,
        columns=columns,
        world_size=world_size,
        warnings=warnings,
    )
    try:
        write_report(report, arguments.out)
    except OSError as error:
        raise ConfigError(
            f"--out: can't write to {arguments.out} ({error.strerror}); choose another folder"
        ) from error
    for warning in report.warnings:
        LOGGER.warning("%s", warning)
    LOGGER.info("done; see %s", arguments.out / "report.html")
    return EXIT_DONE


def _baseline(
    config: Config,
    arguments: EvaluateArguments,
    catalog: Catalog,
    ranks: Ranks,
    stop: StopRequest,
    folder: Path,
) -> Contender:
    """The baseline's scores of the same rows in the same order, under its own config."""
    path = arguments.baseline
    assert path is not None
    found: Found = on_first_rank(lambda: open_checkpoint(path), ranks.control)
    tree = copy.deepcopy(found.manifest.config)
    for key, value in _same_rows(config).items():
        section, _, name = key.partition(".")
        cast(dict[str, object], tree[section])[name] = value
    its_own = evaluated_config(tree, (), found.folder)
    its_catalog = find_eval_data(its_own, ranks)
    if its_catalog.fingerprint != catalog.fingerprint:
        raise DataError(f"{catalog.storage.url}: its files changed during the evaluation")
    LOGGER.info("scoring the baseline %s", found.folder)
    return Contender(found, its_own, score(its_own, found, its_catalog, ranks, stop, folder=folder))


def _same_rows(config: Config) -> dict[str, object]:
    """The settings that both contenders must share for their rows to be the same."""
    data = config.data.model_dump(mode="json")
    names = ("path", "synthetic", "eval", "verify_checksums", "weight")
    shared: dict[str, object] = {f"data.{name}": data[name] for name in names}
    shared["data.eval_batch_size"] = config.data.eval_batch_size or config.data.batch_size
    return shared | {"run.dir": config.run.dir, "run.device": config.run.device}


def _training_files(config: Config) -> Catalog | None:
    """Of the model's training split, for what it has seen; None where they are gone."""
    try:
        return find_train_files(config)
    except DataError as error:
        LOGGER.info("training files: %s", error)
        return None
