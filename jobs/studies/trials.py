"""A trial is one run of a study: one balancer with one seed, its files, and whether it is done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.studies.plan import Plan
from marigold_rec.atomic_io import write_atomically
from marigold_rec.config.dumping import dump_config
from marigold_rec.config.loading import load_config
from marigold_rec.config.schema import Config
from marigold_rec.errors import ConfigError


@dataclass(frozen=True)
class Trial:
    name: str
    seed: int
    out: Path

    @property
    def config_file(self) -> Path:
        return self._file("yaml")

    @property
    def log_file(self) -> Path:
        """Holds the run's stdout and stderr."""
        return self._file("log")

    @property
    def record_file(self) -> Path:
        """Says how the run was made: command, commit, machine, seconds."""
        return self._file("json")

    @property
    def run_folder(self) -> Path:
        return self.out / "runs" / f"{self.name}-seed-{self.seed}"

    def _file(self, suffix: str) -> Path:
        return self.out / "trials" / self.name / f"seed-{self.seed}.{suffix}"

    def config(self, config: Config) -> Config:
        """Returns `config` with this trial's seed and folder, no TensorBoard, and one checkpoint at
        the end."""
        run = config.run.model_copy(
            update={
                "name": self.run_folder.name,
                "dir": str(self.run_folder.parent.resolve()),
                "seed": self.seed,
            }
        )
        checkpoint = config.checkpoint.model_copy(update={"every_n_steps": None, "keep": 1})
        logging = config.logging.model_copy(update={"tensorboard": False})
        return config.model_copy(update={"run": run, "checkpoint": checkpoint, "logging": logging})

    def write_config(self, config: Config) -> None:
        self.config_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config_file, dump_config(self.config(config)))

    def summary(self) -> dict[str, Any]:
        """Reads the run's summary.json; {} when there is none."""
        return _json(self.run_folder / "summary.json")

    def record(self) -> dict[str, Any]:
        return _json(self.record_file)

    def is_done(self) -> bool:
        """Returns True if the run ended well, under the settings of the trial's config file."""
        return self.summary().get("status") == "done" and self.has_same_settings()

    def has_same_settings(self) -> bool:
        """Returns True if the run's own config is the trial's, except for its folder and threads.

        A study may be moved, and continued with another number of jobs.
        """
        try:
            planned = load_config(self.config_file)
            used = load_config(self.run_folder / "config.effective.yaml")
        except ConfigError:
            return False
        return _without_place(planned) == _without_place(used)


def trials_of(plan: Plan, out: Path) -> list[Trial]:
    return [Trial(name, seed, out) for name, seed in plan.trials()]


def _without_place(config: Config) -> Config:
    run = config.run.model_copy(update={"dir": ""})
    threads = {"threads_per_rank": None, "timeout_s": 1, "step_timeout_s": 1}
    distributed = config.distributed.model_copy(update=threads)
    return config.model_copy(update={"run": run, "distributed": distributed})


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
