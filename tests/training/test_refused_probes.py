"""A probe that is not finite leaves the weights as they are, and the log says so."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from tests.support.ranks import run_ranks
from tests.support.runs import Run, default_setup, with_run


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.warnings.append(record.getMessage())


def _train(config: Path, overrides: tuple[str, ...]) -> Any:
    """The warnings of a training, and its task weights at the end."""
    lines = _Lines()
    logging.getLogger("marigold_rec").addHandler(lines)

    def work(run: Run) -> tuple[list[str], Tensor]:
        run.train()
        state = run.tensors()
        (name,) = [name for name in state if name.endswith("balancer.weights_T")]
        return lines.warnings, state[name]

    return with_run(config, overrides, work)


def test_it_is_said_and_the_weights_stay(tmp_path: Path) -> None:
    probe = "balancer.probe={every_n_steps: 1, step: 1.0e+38, adapt_step: false}"
    ((warnings, weights_T),) = run_ranks(
        _train, 1, default_setup(tmp_path), (probe, "run.steps=6"), init_group=False
    )
    assert any("more of the balancer's probes were not finite" in line for line in warnings)
    assert (weights_T == weights_T[0]).all()
