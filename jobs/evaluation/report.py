"""Makes the report from the score files, in one process."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data_pipelines.catalog.catalog import Catalog
from jobs.evaluation.checkpoints import run_folder_of
from jobs.evaluation.clusters import cluster_codes, null_warnings, slicings_of
from jobs.evaluation.memory import enough_memory
from jobs.evaluation.scoring import Scored
from jobs.evaluation.training_log import training_log
from jobs.processes.provenance import commit
from marigold_rec.analysis.evaluation import Settings, judge
from marigold_rec.analysis.report import Data, Model, Report, TaskReport
from marigold_rec.analysis.score_files import ScoreFiles
from marigold_rec.analysis.targets import targets_of, without_whole_space
from marigold_rec.checkpoint.finding import Found
from marigold_rec.config.data import SplitConfig
from marigold_rec.config.due import event_time_of
from marigold_rec.config.schema import Config
from marigold_rec.config.tasks import Task
from marigold_rec.training.monitoring.sanity import SanityGuard, TaskMetrics
from marigold_rec.versions import installed_versions


@dataclass(frozen=True)
class ScoredModel:
    """A checkpoint with its config and its scores."""

    found: Found
    config: Config
    scored: Scored


def make_report(
    model: ScoredModel,
    baseline: ScoredModel | None,
    catalog: Catalog,
    train: Catalog | None,
    *,
    columns: list[str],
    world_size: int,
    warnings: list[str],
) -> Report:
    """Computes all metrics. `columns`: the log's columns in the model's score files. `train`: the
    files it was trained on, None if they can't be read."""
    config = model.config
    has_due = config.data.eval is not None and config.data.eval.due is not None
    files = ScoreFiles(model.scored.folder)
    memory_gib = config.evaluation.memory_gib
    with enough_memory(files.num_rows, memory_gib, model.scored.folder):
        slicings, slicing_warnings = slicings_of(files, config.evaluation, columns, train)
        settings = Settings(
            user_N=cluster_codes(files, config.evaluation.user, columns),
            group_N=cluster_codes(files, config.evaluation.group, columns),
            slicings=slicings,
            ndcg_at=config.evaluation.ndcg_at,
            confidence=config.evaluation.confidence,
        )
        judged = judge(
            files,
            None if baseline is None else ScoreFiles(baseline.scored.folder),
            targets_of(config.tasks, has_due=has_due),
            () if baseline is None else targets_of(baseline.config.tasks, has_due=has_due),
            settings,
        )
        saturated = {task.name: saturated_scores(files, task.name) for task in config.tasks}
        of_nulls = null_warnings(files, config.evaluation, columns)
    step = model.found.manifest.step
    warnings = [*warnings, *slicing_warnings, *of_nulls]
    warnings += without_whole_space(config.tasks) if has_due else []
    # With both windows, rows that were trained on are evaluated on labels that are due later only.
    is_apart = has_due and config.data.train.due is not None
    warnings += [*_refused(model.found), *([] if is_apart else _trained_on(catalog, train))]
    warnings += _strange_figures(step, judged.tasks, saturated)
    if baseline is not None:
        warnings += _not_alike(config, baseline.config)
    split = config.data.eval
    return Report(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        revision=commit(),
        versions=installed_versions(),
        world_size=world_size,
        confidence=config.evaluation.confidence,
        user=None if settings.user_N is None else config.evaluation.user,
        group=None if settings.group_N is None else config.evaluation.group,
        model=_model(model),
        baseline=None if baseline is None else _model(baseline),
        data=Data(
            path=catalog.storage.url,
            dates=_dates(split),
            rows=catalog.num_rows,
            files=len(catalog.files),
            fingerprint=catalog.fingerprint,
            counts=dict(model.scored.counts),
        ),
        tasks=judged.tasks,
        slices=judged.slices,
        training=training_log(run_folder_of(model.found), step, config.task_names),
        warnings=tuple(warnings),
    )


def _model(scored: ScoredModel) -> Model:
    manifest = scored.found.manifest
    return Model(
        checkpoint=str(scored.found.folder),
        name=scored.config.run.name,
        step=manifest.step,
        config_hash=manifest.config_hash,
        seed=scored.config.run.seed,
        train_dates=_dates(scored.config.data.train),
        versions=manifest.versions,
    )


def _dates(split: SplitConfig | None) -> tuple[str, str] | None:
    if split is None or split.dates is None:
        return None
    return str(split.dates[0]), str(split.dates[1])


def _refused(found: Found) -> list[str]:
    return [f"a newer checkpoint was refused: {text}" for text in found.refused]


def _trained_on(catalog: Catalog, train: Catalog | None) -> list[str]:
    if train is None:
        return []
    shared = sorted({f.path for f in catalog.files} & {f.path for f in train.files})
    if not shared:
        return []
    return [
        f"the model was trained on {len(shared)} of these {len(catalog.files)} files, e.g. "
        f"{shared[0]}: its metrics are those of training data"
    ]


def _not_alike(config: Config, baseline: Config) -> list[str]:
    """Warns of tasks that can't be compared, or whose labels the baseline was not trained on."""
    warnings: list[str] = []
    others = {task.name: task for task in baseline.tasks}
    for task in config.tasks:
        other = others.get(task.name)
        if other is None:
            warnings.append(f"the baseline has no task {task.name}")
        elif other.kind != task.kind:
            warnings.append(f"the baseline's task {task.name} is {other.kind}: it is not compared")
        elif _label(other) != _label(task):
            warnings.append(
                f"the baseline's task {task.name} was trained on {_label(other)}; it is evaluated "
                f"on {_label(task)}"
            )
    return warnings


def _label(task: Task) -> str:
    label = (
        task.label if task.observed_if is None else f"{task.label} where {task.observed_if} is 1"
    )
    if event_time_of(task) is None:
        return label
    return f"{label}, within {task.matures_h:g} h"


def saturated_scores(files: ScoreFiles, task: str) -> int:
    """Counts the observed rows whose score is exactly 0 or 1."""
    score_N = files.score(task)
    return int(np.count_nonzero(((score_N == 0) | (score_N == 1)) & ~np.isnan(files.label(task))))


def _strange_figures(
    step: int, tasks: tuple[TaskReport, ...], saturated: Mapping[str, int]
) -> list[str]:
    """Warns of implausible metrics: a leak, no better than chance, worse than the mean label."""
    figures = [
        TaskMetrics.of(
            task.name,
            task.rows,
            task.positives,
            {name: figure.value for name, figure in task.figures.items()},
            auc_high=task.figures["auc"].high if "auc" in task.figures else None,
            saturated=saturated.get(task.name, 0) if task.positives is not None else 0,
        )
        for task in tasks
    ]
    return SanityGuard(step).look_at_the_end(step, figures)
