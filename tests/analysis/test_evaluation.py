"""From score files to figures, against scikit-learn: masks, weights, the baseline's scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, mean_absolute_error, roc_auc_score

from marigold_rec.analysis.estimate import Estimate
from marigold_rec.analysis.evaluation import Judged, Settings, _detectable, judge
from marigold_rec.analysis.report import TaskReport
from marigold_rec.analysis.score_files import ScoreFiles, ScoreWriter
from marigold_rec.analysis.slicing import new_or_known
from marigold_rec.analysis.targets import Target

_NUM_ROWS = 900
_CTR = Target("ctr", "binary", "observed", "click", None, ("ctr",))
_CVR = Target("cvr", "binary", "observed", "conversion", "click", ("cvr",))
_WHOLE = Target("cvr over all rows", "binary", "all", "both", None, ("ctr", "cvr"))
_WATCH = Target("watch_time", "duration", "observed", "watch_s", "click", ("watch_time",))
_TARGETS = (_CTR, _CVR, _WHOLE, _WATCH)
_TASKS = ("ctr", "cvr", "watch_time")


def _write(folder: Path, log: pd.DataFrame, seed: int) -> ScoreFiles:
    """Three parts, with scores of their own for each seed; many of them tied."""
    generator = np.random.default_rng(seed)
    folder.mkdir()
    scores_BT = (generator.integers(1, 20, (_NUM_ROWS, 3)) / [20, 20, 0.2]).astype(np.float32)
    labels_BT = log[["click", "conversion", "watch_s"]].to_numpy(np.float32)
    for rank, row_n in enumerate(np.array_split(np.arange(_NUM_ROWS), 3)):
        writer = ScoreWriter(folder, rank=rank, world_size=3, tasks=_TASKS, columns={})
        labels_nT = labels_BT[row_n]
        weights_n = log["weight"].to_numpy(np.float32)[row_n]
        writer.add(scores_BT[row_n], labels_nT, ~np.isnan(labels_nT), weights_n, {})
        writer.close()
    return ScoreFiles(folder)


@pytest.fixture
def log() -> pd.DataFrame:
    """Some rows weigh nothing, some clicks are not known."""
    generator = np.random.default_rng(0)
    click = generator.choice([0, 1, np.nan], _NUM_ROWS, p=[0.4, 0.55, 0.05])
    clicked = click == 1
    conversion = np.where(clicked, generator.integers(0, 2, _NUM_ROWS), np.nan)
    watch_s = np.where(clicked, generator.integers(0, 90, _NUM_ROWS), np.nan)
    weight = generator.choice([0, 1, 2.5], _NUM_ROWS)
    return pd.DataFrame(
        {"click": click, "conversion": conversion, "watch_s": watch_s, "weight": weight}
    )


@pytest.fixture
def model(log: pd.DataFrame, tmp_path: Path) -> ScoreFiles:
    return _write(tmp_path / "model", log, 1)


@pytest.fixture
def baseline(log: pd.DataFrame, tmp_path: Path) -> ScoreFiles:
    return _write(tmp_path / "baseline", log, 2)


def _users() -> NDArray[np.int32]:
    return np.random.default_rng(3).integers(0, 200, _NUM_ROWS).astype(np.int32)


def _settings() -> Settings:
    return Settings(user_N=_users(), group_N=None, slicings=(), ndcg_at=(5,), confidence=0.95)


def _frame(log: pd.DataFrame, files: ScoreFiles, target: Target) -> pd.DataFrame:
    """Label, score, weight, user of the rows that count, by the definitions in the README."""
    score = files.score(target.tasks[0])
    for task in target.tasks[1:]:
        score = score * files.score(task)  # float32: which products are tied hangs on it
    label = {
        "ctr": log["click"],
        "cvr": log["conversion"],
        "watch_time": log["watch_s"],
        "cvr over all rows": (log["click"] == 1) & (log["conversion"] == 1),
    }[target.name]
    known = log["click"].notna() if target.space == "all" else label.notna()
    frame = pd.DataFrame(
        {
            "label": label.astype(float),
            "score": score.astype(float),
            "weight": log["weight"],
            "user": _users(),
        }
    )
    return frame[known & (log["weight"] > 0)]


def _by_name(judged: Judged) -> dict[str, TaskReport]:
    return {task.name: task for task in judged.tasks}


@pytest.mark.parametrize("weighted", [True, False])
def test_figures_are_those_of_scikit_learn(
    log: pd.DataFrame, tmp_path: Path, weighted: bool
) -> None:
    if not weighted:
        log = log.assign(weight=1.0)
    model = _write(tmp_path / "other", log, 5)
    tasks = _by_name(judge(model, None, _TARGETS, (), _settings()))
    assert list(tasks) == [target.name for target in _TARGETS]
    for target in _TARGETS:
        rows, task = _frame(log, model, target), tasks[target.name]
        assert task.rows == len(rows)
        assert task.users == rows["user"].nunique()
        values = {name: figure.value for name, figure in task.figures.items()}
        weight = rows["weight"]
        if target.kind == "duration":
            assert task.positives is None
            expected = mean_absolute_error(rows["label"], rows["score"], sample_weight=weight)
            assert values["mae_s"] == pytest.approx(expected, rel=1e-9)
            continue
        assert task.positives == rows["label"].sum()
        found = roc_auc_score(rows["label"], rows["score"], sample_weight=weight)
        assert values["auc"] == pytest.approx(found, rel=1e-9)
        found = average_precision_score(rows["label"], rows["score"], sample_weight=weight)
        assert values["pr_auc"] == pytest.approx(found, rel=1e-9)
        scores, labels = np.average(rows[["score", "label"]], weights=weight, axis=0)
        assert values["calibration"] == pytest.approx(scores / labels, rel=1e-6)
        assert "ndcg@5" not in values
        assert task.baseline_curves is None
        assert task.curves.roc


def test_the_baseline_is_judged_by_the_same_labels(
    log: pd.DataFrame, model: ScoreFiles, baseline: ScoreFiles
) -> None:
    judged = judge(model, baseline, _TARGETS, _TARGETS, _settings())
    for target in _TARGETS[:3]:
        figure = _by_name(judged)[target.name].figures["auc"]
        new, old = (_frame(log, files, target) for files in (model, baseline))
        found = [
            roc_auc_score(x["label"], x["score"], sample_weight=x["weight"]) for x in (new, old)
        ]
        assert figure.value == pytest.approx(found[0], rel=1e-9)
        assert figure.baseline == pytest.approx(found[1], rel=1e-9)
        assert figure.delta == pytest.approx(found[0] - found[1], rel=1e-9)
    ctr = _by_name(judged)["ctr"]
    assert ctr.baseline_curves is not None
    assert ctr.baseline_curves != ctr.curves
    assert ctr.detectable is not None
    assert ctr.detectable.is_paired


def test_what_the_baseline_lacks_is_not_compared(model: ScoreFiles, baseline: ScoreFiles) -> None:
    """Nor what it calls by the same name and is something else."""
    seconds = replace(_CTR, kind="duration")
    tasks = _by_name(judge(model, baseline, _TARGETS, (seconds, _CVR), _settings()))
    for name, is_compared in (("ctr", False), ("cvr", True), ("watch_time", False)):
        figure = tasks[name].figures["mae_s" if name == "watch_time" else "auc"]
        assert (figure.baseline is not None) == is_compared, name
        assert (tasks[name].baseline_curves is not None) == is_compared, name
        detectable = tasks[name].detectable
        assert detectable is not None
        assert detectable.is_paired == is_compared


def test_slices_see_the_rows_of_their_task(log: pd.DataFrame, model: ScoreFiles) -> None:
    is_new = np.random.default_rng(4).random(_NUM_ROWS) < 0.5
    settings = replace(_settings(), slicings=(new_or_known("user", (~is_new).astype(np.int64)),))
    found = judge(model, None, _TARGETS, (), settings).slices
    assert len(found) == 2 * len(_TARGETS)
    for s in found:
        target = next(target for target in _TARGETS if target.name == s.task)
        rows = _frame(log, model, target)
        rows = rows[is_new[rows.index] == (s.value == "new")]
        assert s.rows == len(rows)
        if target.kind == "binary":
            auc = roc_auc_score(rows["label"], rows["score"], sample_weight=rows["weight"])
            assert s.figures["auc"].value == pytest.approx(auc, rel=1e-9)


def test_no_row_of_a_task(model: ScoreFiles, log: pd.DataFrame, tmp_path: Path) -> None:
    files = _write(tmp_path / "none", log.assign(weight=0.0), 1)
    tasks = _by_name(judge(files, None, _TARGETS, (), _settings()))
    for task in tasks.values():
        assert task.rows == task.users == 0
        assert all(figure.value is None and figure.reason for figure in task.figures.values())
        assert task.detectable is None


def test_without_users_rows_are_independent(log: pd.DataFrame, model: ScoreFiles) -> None:
    settings = replace(_settings(), user_N=None, group_N=_users())
    ctr = _by_name(judge(model, None, (_CTR,), (), settings))["ctr"]
    assert ctr.users is None
    assert ctr.figures["gauc"].value is None
    assert ctr.figures["auc"].low is not None
    assert ctr.figures["ndcg@5"].value is not None


def test_the_detectable_difference_is_of_what_is_compared() -> None:
    generator = np.random.default_rng(6)
    new = Estimate(0.7, generator.normal(0, 0.001, 500))
    assert new.influence_C is not None
    close = Estimate(0.69, new.influence_C + generator.normal(0, 0.0001, 500))
    paired, alone = _detectable("auc", new, close), _detectable("auc", new, None)
    assert paired is not None
    assert alone is not None
    assert paired.is_paired
    assert not alone.is_paired
    error = 0.001 * np.sqrt(500)
    assert alone.difference == pytest.approx(2.8016 * np.sqrt(2) * error, rel=0.1)
    assert paired.difference == pytest.approx(2.8016 * error / 10, rel=0.1)
    # A baseline without a figure is no pair.
    assert _detectable("auc", new, Estimate(None, reason="diverged")) == alone
    assert _detectable("auc", new, new) is None
    assert _detectable("auc", Estimate(None, reason="one class"), None) is None
