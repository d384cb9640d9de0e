"""What the guard warns of, and what chance or a young model explains and it does not."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from marigold_rec.config.label_kinds import Kind
from marigold_rec.training.monitoring.large_inputs import describe_large_inputs, large_inputs
from marigold_rec.training.monitoring.sanity import SanityGuard, TaskMetrics
from tests.support.launches import PATIENT, codes, launch_train, summary
from tests.support.runs import click_log, config_tree, write_config, write_days

_STEPS = 10_000
_SOUND = TaskMetrics("ctr", 65_536, 6_000, auc=0.71, ne=0.92, calibration=1.02)


def _ctr(
    positives: float,
    negatives: float,
    auc: float | None = 0.71,
    ne: float | None = 0.92,
    calibration: float | None = 1.0,
    twin: str | None = None,
) -> TaskMetrics:
    return TaskMetrics(
        "ctr", positives + negatives, positives, auc, ne, calibration, twin=twin
    )  # fmt: skip


_OF_DATA = {
    "AUC 0.99950 over 200 positives": _ctr(200, 800, auc=0.9995),
    "all labels of 10,000 observed rows are 0": _ctr(0, 10_000, None, None, None),
    "all labels of 1,000 observed rows are 1": _ctr(1_000, 0, None, None),
    "those of cvr are the same in every one of 65,536 rows": _ctr(6_000, 59_536, twin="cvr"),
}
_OF_MODEL = {
    "AUC 0.5000 over 6,000 positives and 60,000 negatives is no": _ctr(6_000, 60_000, auc=0.5),
    "AUC 0.4500": _ctr(2_000, 60_000, auc=0.45),
    "predicts 5.5 times the positives of 300 positives": _ctr(300, 900, calibration=5.5),
    "predicts 30 times": _ctr(4, 5_000, calibration=30.0),
    "predicts 0.1 times": _ctr(300, 900, calibration=0.1),
    "NE 1.300": _ctr(300, 900, ne=1.3),
    "all predictions of 2,000 rows are one number": TaskMetrics("ctr", 2_000, is_constant=True),
}


@pytest.mark.parametrize(("text", "figures"), (_OF_DATA | _OF_MODEL).items())
def test_each_fault_is_named_once(text: str, figures: TaskMetrics) -> None:
    guard = SanityGuard(_STEPS)
    [warning] = guard.look(_STEPS, [figures])
    assert warning.startswith(f"step {_STEPS}: ctr: ")
    assert text in warning
    assert "; expected " in warning
    assert guard.look(_STEPS + 50, [figures]) == [], "told twice"
    assert guard.warnings == [warning]


@pytest.mark.parametrize(
    "figures",
    [
        _SOUND,
        TaskMetrics("ctr", 0),
        TaskMetrics("watch_time", 5_000),
        TaskMetrics("ctr", 10, is_constant=True),
        _ctr(0, 0, None, None, None),
        _ctr(0, 9_000, None, None, None),
        _ctr(900, 0, None, None),
        _ctr(20, 1_000, auc=1.0),
        _ctr(100, 1_000, auc=0.5),
        _ctr(6_000, 60_000, auc=0.515),
        _ctr(5, 60_000, calibration=6.0),
        _ctr(40, 60_000, calibration=0.19),
        _ctr(60, 900, ne=1.5),
        _ctr(3, 60_000, twin="cvr"),
    ],
)
def test_what_chance_explains_is_not_told(figures: TaskMetrics) -> None:
    assert SanityGuard(_STEPS).look(_STEPS, [figures]) == []


@pytest.mark.parametrize(
    ("total_steps", "grown_up"), [(20, 200), (1_000, 500), (10**6, 5_000)]
)  # fmt: skip
def test_a_young_model_is_left_alone_but_its_data_are_not(total_steps: int, grown_up: int) -> None:
    for figures in _OF_MODEL.values():
        guard = SanityGuard(total_steps)
        assert guard.look(grown_up - 1, [figures]) == []
        assert len(guard.look(grown_up, [figures])) == 1
    for figures in _OF_DATA.values():
        assert len(SanityGuard(total_steps).look(1, [figures])) == 1


@pytest.mark.parametrize("total_steps", [1, 16, 10_000])
@pytest.mark.parametrize(
    ("figures", "text"),
    [
        (_ctr(300, 900, ne=1.003), "NE 1.003"),
        (_ctr(2_000, 11_000, auc=0.4533), "AUC 0.4533"),
        (_ctr(100, 1_000, auc=0.43), "AUC 0.4300"),
        (TaskMetrics("ctr", 9_000, 4_000, auc=0.49, auc_high=0.4999), "ends at 0.4999"),
        (_ctr(6_000, 60_000, auc=0.5), "no better than chance"),
        (_ctr(300, 900, calibration=0.1), "predicts 0.1 times"),
        (TaskMetrics("ctr", 100, r2_log=-0.01), "R2 -0.010"),
    ],
)
def test_the_final_evaluation_is_judged_at_any_number_of_steps(
    total_steps: int, figures: TaskMetrics, text: str
) -> None:
    guard = SanityGuard(total_steps)
    [warning] = guard.look_at_the_end(total_steps, [figures])
    assert text in warning
    assert guard.warnings == [warning]


@pytest.mark.parametrize(
    "figures",
    [
        _SOUND,
        _ctr(300, 900, ne=0.999),
        _ctr(60, 900, ne=1.01),  # few rows
        _ctr(100, 1_000, auc=0.47),  # its interval reaches .5
        TaskMetrics("watch_time", 99, r2_log=-0.5),
        TaskMetrics("watch_time", 5_000, r2_log=0.01),
    ],
)
def test_a_final_evaluation_that_chance_explains_is_not_told(figures: TaskMetrics) -> None:
    assert SanityGuard(20).look_at_the_end(20, [figures]) == []


def test_what_a_window_has_told_does_not_silence_the_final_evaluation() -> None:
    guard = SanityGuard(_STEPS)
    [first] = guard.look(_STEPS, [_ctr(300, 900, ne=1.3)])
    [last] = guard.look_at_the_end(_STEPS, [_ctr(300, 900, ne=1.2)])
    assert guard.warnings == [first, last]


def test_a_loss_beyond_reason_names_the_inputs_before_the_learning_rates() -> None:
    dense_BD = torch.tensor([[0.5, 12.0, -1.7e12], [2.0, 3.0, 1.0]])
    found = describe_large_inputs(large_inputs(dense_BD, ["age", "hour", "ts"]))
    guard = SanityGuard(20)
    losses: dict[str, tuple[Kind, float]] = {
        "ctr": ("binary", 2.7e9),
        "cvr": ("binary", 0.69),
        "watch": ("duration", 90.0),
    }
    [warning] = guard.look_at_losses(1, losses, lambda: found)
    assert warning.startswith("step 1: ctr: loss 2.7e+09")
    places = [warning.index(what) for what in ("ts reaches", "hour reaches", "optimizer.*.lr")]
    assert places == sorted(places)
    assert "age" not in warning
    assert guard.look_at_losses(5, losses, lambda: found) == [], "told twice"


def test_a_batch_of_sound_inputs_is_not_blamed() -> None:
    for dense_BD in (torch.zeros(3, 0), torch.full((2, 1), 9.9)):
        assert large_inputs(dense_BD, ["age"][: dense_BD.shape[1]]) == {}
    assert large_inputs(torch.tensor([[math.nan]]), ["age"]).keys() == {"age"}
    assert "no dense input" in describe_large_inputs({})


def test_each_task_is_told_of_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    worse = TaskMetrics("cvr", 1_200, 300, ne=1.4)
    found = SanityGuard(_STEPS).look(_STEPS, [_SOUND, _ctr(300, 900, ne=1.3), worse])
    assert [text.split(": ")[1] for text in found] == ["ctr", "cvr"]
    assert caplog.record_tuples == [("marigold_rec", logging.WARNING, text) for text in found]


def _auc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    ranks = scores.argsort().argsort() + 1
    p = int(labels.sum())
    return float((ranks[labels].sum() - p * (p + 1) / 2) / (p * (len(labels) - p)))


def test_windows_of_a_weak_but_honest_model_raise_no_alarm() -> None:
    """1,000 windows of 4,000 rows at AUC 0.55, and 1,000 of one that knows nothing at 300 rows."""
    random = np.random.default_rng(0)
    guard = SanityGuard(_STEPS)
    for rows, shift in ((4_000, math.sqrt(2) * 0.1257), (300, 0.0)):
        for _ in range(1_000):
            labels = random.random(rows) < 0.1
            scores = random.standard_normal(rows) + shift * labels
            positives = int(labels.sum())
            figures = _ctr(positives, rows - positives, auc=_auc(scores, labels))
            assert guard.look(_STEPS, [figures]) == []


def test_a_label_wired_twice_stands_in_the_summary(tmp_path: Path) -> None:
    log, held_out = (
        t.append_column("liked", t["click"]) for t in (click_log(1500), click_log(500, seed=1))
    )
    data = write_days(tmp_path / "log", {"2024-01-01": log, "2024-01-02": held_out})
    tree = config_tree(data, tmp_path / "runs")
    tree["tasks"][1] = {"name": "like", "kind": "binary", "label": "liked"}
    config = write_config(tree, tmp_path / "config.yaml")
    ended = launch_train(config, PATIENT)
    assert codes(ended) == [0, 0]
    warnings = summary(tmp_path / "runs/test")["warnings"]
    [warning] = [text for text in warnings if ": like: " in text]
    assert "like: its labels and those of ctr are the same" in warning
    assert warning in ended[0].said
