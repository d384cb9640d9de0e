"""A run cut between two probes, or between a direction and its measurement, resumes to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.ranks import run_ranks
from tests.support.runs import Run, default_setup, with_run

_STEPS = 9
_SETTINGS = ("run.epochs=2", "data.batch_size=32", "data.shuffle_rows=64", "model.dropout=0.2")
_PROBES = {
    "default": "{}",
    "shared parameters": "{probe: {scope: shared_parameters}}",
    "shared parameters, next": "{probe: {scope: shared_parameters, batch: next}}",
    "shared parameters, next, jvp": (
        "{probe: {scope: shared_parameters, batch: next, estimator: jvp}}"
    ),
    "update": "{probe: {scope: update}}",
    "cagrad": "{regulariser: cagrad}",
    "primary": "{primary: {task: cvr, min_share: 0.5}}",
    "short step": "{probe: {step: 1.e-7}}",
}
_SLOW = ("shared parameters", "shared parameters, next, jvp", "primary", "short step")


def _run(config: Path, overrides: tuple[str, ...], steps: int) -> dict[str, Tensor]:
    """Goes on from the newest checkpoint, if there is one, to `steps`: the whole state there."""

    def work(run: Run) -> dict[str, Tensor]:
        if (found := run.store.find("auto")) is not None:
            run.trainer.resume(found)
        assert run.train().step == steps
        state: dict[str, Any] = run.trainer._state.tensors()
        return {
            name: (t.to_local().local_shards()[0] if hasattr(t, "to_local") else t).clone()
            for name, t in state.items()
        }

    return with_run(config, (*overrides, f"run.steps={steps}"), work)


def _straight_and_cut(
    folder: Path, overrides: tuple[str, ...], cuts: tuple[int, ...]
) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    straight = _run(default_setup(folder, rows=230), (*overrides, "run.name=whole"), _STEPS)
    resumed = []
    for cut in cuts:
        named = (*overrides, f"run.name=cut-{cut}")
        _run(folder / "config.yaml", named, cut)
        resumed.append(_run(folder / "config.yaml", named, _STEPS))
    return straight, resumed


@pytest.mark.parametrize(
    "balancer",
    [
        pytest.param(text, id=name, marks=[pytest.mark.slow] if name in _SLOW else [])
        for name, text in _PROBES.items()
    ],
)
def test_a_resumed_run_equals_a_straight_one(tmp_path: Path, balancer: str) -> None:
    """Probes at steps 0, 3 and 6: 4 steps leave a direction waiting, 5 end between two probes."""
    settings = balancer[1:-1]
    overrides = (
        *_SETTINGS,
        f"balancer={{name: marigold, {settings}}}",
        "balancer.probe.every_n_steps=3",
        "balancer.probe.warmup_steps=0",
    )
    ((straight, resumed),) = run_ranks(
        _straight_and_cut, 1, tmp_path, overrides, (4, 5), init_group=False
    )
    weights_T = straight["model/objective.balancer.weights_T"]
    assert (weights_T != 1 / 3).any(), "no probe was taken"
    for found in resumed:
        assert found.keys() == straight.keys()
        different = [name for name in straight if not torch.equal(found[name], straight[name])]
        assert not different, different
