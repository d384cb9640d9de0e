"""A config of an earlier version is refused in one message that says where each setting is now."""

from __future__ import annotations

from pathlib import Path

import pytest

from marigold_rec.config.moved import moved_settings
from tests.config.trees import SMALL, problems


def _with(tasks: str = "", model: str = "") -> str:
    text = SMALL + tasks
    return f"{text}model: {model}\n" if model else text


@pytest.mark.parametrize(
    ("model", "old", "new"),
    [
        ("{name: mmoe}", "model.name", "model.trunk.name"),
        ("{experts: 3}", "model.experts", "model.trunk.experts"),
        ("{expert_layers: [8]}", "model.expert_layers", "model.trunk.expert_layers"),
        ("{bottom_layers: [8]}", "model.bottom_layers", "model.trunk.bottom_layers"),
        ("{levels: 1}", "model.levels", "model.trunk.levels"),
        ("{shared_experts: 1}", "model.shared_experts", "model.trunk.shared_experts"),
        ("{task_experts: 1}", "model.task_experts", "model.trunk.task_experts"),
        ("{head_start: zero}", "model.head_start", "model.head_bias_init"),
    ],
)
def test_a_model_setting_names_its_new_place(
    tmp_path: Path, model: str, old: str, new: str
) -> None:
    found = [line for line in problems(tmp_path, text=_with(model=model)) if old in line]
    assert any(new in line for line in found), found


@pytest.mark.parametrize(
    ("task", "old", "new"),
    [
        ("{name: w, kind: watch_time, label: s}", "tasks.w.kind", "duration"),
        ("{name: w, kind: duration, label: s, method: log_mse}", "tasks.w.method", "head.name"),
        ("{name: w, kind: duration, label: s, huber_delta: 2}", "w.huber_delta", "head.delta"),
        ("{name: v, kind: binary, label: s, observed_if: click}", "tasks.v.observed_if",
         "given: ctr"),
    ],
)  # fmt: skip
def test_a_task_setting_names_its_new_place(tmp_path: Path, task: str, old: str, new: str) -> None:
    lines = problems(tmp_path, text=_with(tasks=f"  - {task}\n"))
    assert any(old in line and new in line for line in lines), lines


@pytest.mark.parametrize(
    ("section", "old", "new"),
    [
        ("checkpoint: {max_misses: 1}", "checkpoint.max_misses", "checkpoint.max_failed_saves"),
        ("balancer: {name: marigold, probe: {oracle: jvp}}", "balancer.probe.oracle",
         "balancer.probe.estimator"),
    ],
)  # fmt: skip
def test_another_setting_names_its_new_name(
    tmp_path: Path, section: str, old: str, new: str
) -> None:
    [line] = [line for line in problems(tmp_path, text=f"{SMALL}{section}\n") if old in line]
    assert new in line


def test_all_moves_are_told_at_once(tmp_path: Path) -> None:
    text = _with(
        tasks="  - {name: w, kind: watch_time, label: s, method: log_huber, huber_delta: 2}\n",
        model="{name: ple, levels: 1, head_start: zero}",
    )
    lines = problems(tmp_path, text=text)
    for key in ("model.name", "model.levels", "model.head_start", "tasks.w.kind", "tasks.w.method",
                "tasks.w.huber_delta"):  # fmt: skip
        assert sum(key in line for line in lines) == 1, (key, lines)


def test_an_override_of_a_moved_setting_is_told_too(tmp_path: Path) -> None:
    lines = problems(tmp_path, "model.experts=3")
    assert any("model.experts" in line and "model.trunk.experts" in line for line in lines), lines


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"model": None, "tasks": None},
        {"model": [1], "tasks": {"a": 1}},
        {"tasks": [None, 3, {"label": ["x"], "observed_if": {}}], "nightly": {"gate": 2}},
        {"model": {"trunk": {"name": "mmoe"}}, "tasks": [{"kind": "duration"}]},
    ],
)
def test_other_trees_are_no_earlier_version(tree: dict[str, object]) -> None:
    assert moved_settings(tree) == []
