"""A study file names the balancers, seeds and metrics to compare; unknown keys are refused.

config: globo.yaml                # relative to this file
seeds: [1, 2, 3, 4, 5]
reference: equal
balancers:
  equal: {balancer: {name: static}}
  marigold: {balancer: {name: marigold}}
  hand: {balancer: {name: static, weights: {ctr: 2}}, automatic: false}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from marigold_rec.config.names import RUN_NAME_PATTERN
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.config.section import Section
from marigold_rec.config.yaml_text import read_yaml
from marigold_rec.errors import ConfigError

SINGLE_TASK = "single-task-"
"""Begins the names of the single-task models."""

Seed = Annotated[int, Field(ge=0, lt=2**31)]
EntryName = Annotated[str, Field(pattern=RUN_NAME_PATTERN)]


class BalancerEntry(Section):
    """A balancer to compare: one row of the study's table."""

    balancer: dict[str, Any]
    """The config's balancer section."""
    overrides: tuple[str, ...] = ()
    """key.path=value of this entry's runs only, after the study's own."""
    automatic: bool = True
    """false: tuned by hand; it gets no rank among the others."""


class StudyFile(Section):
    """The study file as a typed tree; see `configs/globo_study.yaml`."""

    config: str
    """Config file of all runs, relative to the study file."""
    overrides: tuple[str, ...] = ()
    """key.path=value, for all runs."""
    seeds: tuple[Seed, ...] = Field(min_length=1)
    ranks: int = Field(default=1, ge=1)
    """Processes per run."""
    single_task: bool = True
    """Also train one model per task, the reference for Delta-m."""
    reference: str
    """Entry whose step time is 1, and that others differ from."""
    metrics: dict[str, str] = Field(default_factory=dict)
    """Task -> metric; default: the headline of its kind of label (auc, xauc)."""
    front: tuple[str, str] | None = None
    """Tasks of the Pareto picture; null: where balancers differ most."""
    balancers: dict[EntryName, BalancerEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> StudyFile:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} names a seed twice; remove one of them")
        if self.reference not in self.balancers:
            hint = did_you_mean(self.reference, self.balancers)
            raise ValueError(f"reference: there is no balancer {self.reference!r}; {hint}")
        if taken := [name for name in self.balancers if name.startswith(SINGLE_TASK)]:
            raise ValueError(
                f"balancers.{taken[0]}: names that begin with {SINGLE_TASK!r} are kept for the "
                "single-task models; choose another"
            )
        if self.front is not None and self.front[0] == self.front[1]:
            raise ValueError(f"front: both tasks are {self.front[0]!r}; name two")
        return self


def read_study_file(path: Path) -> StudyFile:
    """Reads and checks a study file. Raises ConfigError with every problem found."""
    tree = read_yaml(path, "study file")
    try:
        as_json = json.dumps(tree)  # as load_config does it: strict, and lists for tuples
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: holds a value that is no plain YAML ({error})") from error
    try:
        return StudyFile.model_validate_json(as_json, strict=True)
    except ValidationError as error:
        raise ConfigError([f"{path}: {_describe(e)}" for e in error.errors()]) from None


def _describe(error: ErrorDetails) -> str:
    place = [str(part) for part in error["loc"] if part != "[key]"]
    where = ".".join(place)
    match error["type"]:
        case "extra_forbidden":
            section = BalancerEntry if place[0] == "balancers" else StudyFile
            return f"{where}: unknown key; {did_you_mean(place[-1], section.model_fields)}"
        case "missing":
            return f"{where}: missing; give it a value"
        case "value_error":
            return str((error.get("ctx") or {})["error"])
        case "string_pattern_mismatch":
            return (
                f"{where}: a name must be letters, digits, '.', '_' and '-', and begin with a "
                "letter or digit"
            )
        case _:
            message = error["msg"][0].lower() + error["msg"][1:]
            return f"{where}: found {error['input']!r:.80}; {message}"
