"""A study file over a small config, and made-up results of its trials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jobs.studies.plan import Plan
from jobs.studies.results import TrialResult
from tests.support.runs import config_tree, write_config


def study_tree() -> dict[str, Any]:
    return {
        "config": "config.yaml",
        "seeds": [1, 2],
        "reference": "equal",
        "balancers": {
            "equal": {"balancer": {"name": "static"}},
            "hand": {
                "balancer": {"name": "static", "weights": {"ctr": 2.0}},
                "automatic": False,
            },
            "marigold": {"balancer": {"name": "marigold"}, "overrides": ["optimizer.dense.lr=0.1"]},
        },
    }


def write_study(folder: Path, tree: Mapping[str, Any]) -> Path:
    """The study file beside its config; there is no data."""
    write_config(config_tree(folder / "log", folder / "runs"), folder / "config.yaml")
    return write_config(tree, folder / "study.yaml")


def made_up(plan: Plan, scatter: float = 0.003) -> list[TrialResult]:
    """A result for every trial; balancers differ by more than their seeds do."""
    random = np.random.default_rng(0)
    results = []
    for name, config in plan.configs.items():
        for seed in plan.file.seeds:
            tasks = list(config.task_names)
            drift = random.normal(0, 1e-3, len(tasks))
            results.append(
                TrialResult(
                    name=name,
                    seed=seed,
                    metrics={t: 0.7 + float(random.normal(0, scatter)) for t in tasks},
                    step_time_s=0.1 + 0.01 * float(random.random()),
                    weights={
                        task: tuple((s, float(np.exp(drift[i] * s))) for s in range(1, 900, 50))
                        for i, task in enumerate(tasks)
                    },
                    summary={"total_steps": 900, "world_size": 1, "versions": {"torch": "2.13"}}
                    | {f"eval/rows/{task}": 500.0 for task in tasks},
                    record={"command": "python launch/study.py", "commit": "abc", "jobs": 2},
                )
            )
    return results
