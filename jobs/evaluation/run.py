"""Runs one evaluation: finds the data, scores it with one or two models, writes the report."""

from __future__ import annotations

import contextlib
import copy
import shutil
from pathlib import Path
from typing import cast

from data_pipelines.catalog.catalog import Catalog
from data_pipelines.preflight.evaluation_columns import columns_of
from jobs.assembly.data import find_eval_data, find_train_files
from jobs.assembly.log_once import LogOnce
from jobs.entrypoint.exit_codes import rank_from_env
from jobs.evaluation.arguments import EvaluateArguments
from jobs.evaluation.checkpoints import evaluated_config
from jobs.evaluation.report import ScoredModel, make_report
from jobs.evaluation.scoring import score
from marigold_rec.checkpoint.finding import Found, open_checkpoint
from marigold_rec.config.schema import Config
from marigold_rec.distributed.ranks import Ranks, start_ranks
from marigold_rec.distributed.together import on_first_rank
from marigold_rec.errors import EXIT_DONE, ConfigError, DataError
from marigold_rec.reporting.write import write_report
from marigold_rec.training.monitoring.run_log import LOGGER
from marigold_rec.training.stop import stop_on_signals


def evaluate_checkpoint(config: Config, arguments: EvaluateArguments) -> int:
    """Runs the whole evaluation; returns the exit code. Collective. Writes below `arguments.out`
    only.

    `config`: used to start the ranks; all else uses the config of the checkpoint that verifies.

    All ranks score; then the first one computes the metrics alone, after the others have exited: no
    rank waits for it in a collective, however long it takes.
    """
    scores = arguments.out / "scores"
    try:
        return _evaluate(config, arguments, scores)
    finally:
        if rank_from_env() == 0 and not arguments.keep_scores:
            _remove_scores(scores)


def _evaluate(config: Config, arguments: EvaluateArguments, scores: Path) -> int:
    with start_ranks(config) as ranks, stop_on_signals() as stop:
        world_size, is_first = ranks.world_size, ranks.is_first
        found = on_first_rank(lambda: open_checkpoint(arguments.checkpoint), ranks.control)
        config = evaluated_config(found.manifest.config, arguments.overrides, found.folder)
        log = LogOnce()
        catalog = find_eval_data(config, ranks, log)
        if not catalog.num_rows:
            raise DataError(f"data.eval ({catalog.storage.url}): no row to evaluate on")
        columns, warnings = columns_of(config.evaluation, catalog)
        train, train_warnings = on_first_rank(lambda: _training_files(config, log), ranks.control)
        # Checked before hours are spent on the model's scores.
        baseline_of = (
            None
            if arguments.baseline is None
            else (_find_baseline(config, arguments.baseline, catalog, ranks, log))
        )
        LOGGER.info(
            "evaluating %s on %s rows of %s",
            found.folder,
            f"{catalog.num_rows:,}",
            catalog.storage.url,
        )
        scored = score(
            config, found, catalog, ranks, stop, folder=scores / "model", columns=columns
        )
        model = ScoredModel(found, config, scored)
        baseline = None
        if baseline_of is not None:
            found, its_own = baseline_of
            LOGGER.info("scoring the baseline %s", found.folder)
            scored = score(its_own, found, catalog, ranks, stop, folder=scores / "baseline")
            baseline = ScoredModel(found, its_own, scored)
    if not is_first:
        return EXIT_DONE
    report = make_report(
        model,
        baseline,
        catalog,
        train,
        columns=columns,
        world_size=world_size,
        warnings=[*warnings, *train_warnings],
    )
    try:
        write_report(report, arguments.out)
    except OSError as error:
        raise ConfigError(
            f"--out: can't write to {arguments.out} ({error.strerror or error}); choose another "
            "folder"
        ) from error
    for warning in report.warnings:
        LOGGER.warning("%s", warning)
    LOGGER.info("done; see %s", arguments.out / "report.html")
    return EXIT_DONE


def _remove_scores(scores: Path) -> None:
    """Removes the scores of this evaluation; other files in the folder stay."""
    for name in ("model", "baseline"):
        shutil.rmtree(scores / name, ignore_errors=True)
    with contextlib.suppress(OSError):  # not there, or not empty
        scores.rmdir()


def _find_baseline(
    config: Config, path: Path, catalog: Catalog, ranks: Ranks, log: LogOnce
) -> tuple[Found, Config]:
    """Finds the baseline and its config, for the same rows in the same order. Collective."""
    found: Found = on_first_rank(lambda: open_checkpoint(path), ranks.control)
    tree = copy.deepcopy(found.manifest.config)
    for key, value in _same_rows(config).items():
        section, _, name = key.partition(".")
        cast(dict[str, object], tree[section])[name] = value
    its_own = evaluated_config(tree, (), found.folder)
    try:
        its_catalog = find_eval_data(its_own, ranks, log)
    except DataError as error:
        raise DataError(
            [f"baseline {found.folder}: {problem}" for problem in error.problems]
        ) from error
    if its_catalog.fingerprint != catalog.fingerprint:
        raise DataError(f"{catalog.storage.url}: its files changed during the evaluation")
    return found, its_own


def _same_rows(config: Config) -> dict[str, object]:
    """Returns the settings that both models must share to read the same rows."""
    data = config.data.model_dump(mode="json")
    names = (
        "path", "synthetic", "eval", "verify_checksums", "weight",
        "on_bad_file", "max_skipped_files", "schema_file", "time", "time_unit",
    )  # fmt: skip
    shared: dict[str, object] = {f"data.{name}": data[name] for name in names}
    shared["data.eval_batch_size"] = config.data.eval_batch_size or config.data.batch_size
    return shared | {"run.dir": config.run.dir, "run.device": config.run.device}


def _training_files(config: Config, log: LogOnce) -> tuple[Catalog | None, list[str]]:
    """Scans the model's training files, to count what it has seen; None and a warning if they can't
    be read."""
    try:
        return find_train_files(config, log), []
    except (DataError, ConfigError) as error:
        return None, [f"no slices by training counts: the training files can't be read ({error})"]
