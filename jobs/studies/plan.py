"""Makes the config of every trial from a study file, and checks them all before the first runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.studies.study_file import SINGLE_TASK, BalancerEntry, StudyFile, read_study_file
from marigold_rec.config.loading import load_config
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.config.schema import Config
from marigold_rec.errors import ConfigError
from marigold_rec.metrics import metrics_of

# What a study sets itself: an override of these would be lost, or make all rows of the table alike.
_OURS = ("run.name", "run.dir", "run.seed", "balancer")


@dataclass(frozen=True)
class Column:
    """One task of the table, and its metric."""

    task: str
    metric: str
    higher_is_better: bool

    @property
    def summary_key(self) -> str:
        """Names the metric in summary.json."""
        return f"eval/{self.metric}/{self.task}"


@dataclass(frozen=True)
class Plan:
    """A checked study. `configs`: entry or single-task model -> its config, except run.*."""

    file: StudyFile
    columns: tuple[Column, ...]
    configs: dict[str, Config]

    @property
    def single_task_names(self) -> dict[str, str]:
        """Maps a task to the name of its single-task model; empty without such models."""
        if not self.file.single_task:
            return {}
        return {column.task: SINGLE_TASK + column.task for column in self.columns}

    def trials(self) -> Iterator[tuple[str, int]]:
        """Yields (name, seed), seed by seed, so that a study that is stopped has whole seeds."""
        for seed in self.file.seeds:
            for name in self.configs:
                yield name, seed


def make_plan(study_file: Path, overrides: Sequence[str] = ()) -> Plan:
    """Checks a study; command-line `overrides` come after the study's own.

    Raises ConfigError with every problem found.
    """
    file = read_study_file(study_file)
    config_file = study_file.parent / file.config
    shared = [*file.overrides, *overrides]
    problems = [
        f"override {text!r}: the study sets {key} itself; leave it out"
        for text in shared
        for key in _OURS
        if _sets(text, key)
    ]
    if problems:
        raise ConfigError(problems)
    common = load_config(config_file, [*shared, 'balancer={"name": "static"}'])
    configs: dict[str, Config] = {}
    for name, entry in file.balancers.items():
        try:
            configs[name] = _entry_config(config_file, shared, entry)
        except ConfigError as error:
            problems += [f"balancers.{name}: {problem}" for problem in error.problems]
    columns, wrong = _columns(file, common)
    if problems + wrong:
        raise ConfigError(problems + wrong)
    plan = Plan(file, columns, configs)
    for task, name in plan.single_task_names.items():
        configs[name] = common.with_only_task(task)
    return plan


def _sets(override: str, key: str) -> bool:
    path = override.partition("=")[0]
    return path == key or path.startswith(key + ".") or key.startswith(path + ".")


def _entry_config(config_file: Path, shared: list[str], entry: BalancerEntry) -> Config:
    if wrong := [text for text in entry.overrides if _sets(text, "run.seed")]:
        raise ConfigError(f"override {wrong[0]!r}: the study sets run.* itself; leave it out")
    # JSON is YAML; the section is checked where every config is.
    section = f"balancer={json.dumps(entry.balancer)}"
    return load_config(config_file, [*shared, section, *entry.overrides])


def _rankable(kind: str) -> dict[str, bool]:
    """Maps each metric of summary.json to whether higher is better; the first is the default."""
    return {
        name: metric.better == "higher"
        for name, metric in metrics_of(kind).items()
        if metric.is_summarized and metric.better in ("higher", "lower")
    }


def _columns(file: StudyFile, config: Config) -> tuple[tuple[Column, ...], list[str]]:
    names = config.task_names
    problems = [
        f"{key}: there is no task {task!r}; {did_you_mean(task, names)}"
        for key, tasks in (("metrics", tuple(file.metrics)), ("front", file.front or ()))
        for task in tasks
        if task not in names
    ]
    if config.data.eval is None:
        problems.append(f"{file.config}: data.eval is missing: a study compares held-out metrics")
    if len(names) < 2:
        problems.append(f"{file.config}: tasks: a study of balancers needs two tasks or more")
    columns = []
    for task in config.tasks:
        known = _rankable(task.kind)
        metric = file.metrics.get(task.name, next(iter(known)))
        if metric not in known:
            hint = did_you_mean(metric, known)
            problems.append(f"metrics.{task.name}: {metric!r} can't rank {task.kind} tasks; {hint}")
            continue
        columns.append(Column(task.name, metric, known[metric]))
    return tuple(columns), problems
