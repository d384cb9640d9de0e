"""The analysis on the synthetic log, whose truth is known: Bayes-optimal scores have the figures of
the closed form, within the figures' own intervals."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipelines.synthetic import expected_auc, expected_log_loss, expected_ne
from marigold_rec.analysis.codes import user_codes
from marigold_rec.analysis.evaluation import Judged, Settings, judge
from marigold_rec.analysis.score_files import ScoreFiles, ScoreWriter
from marigold_rec.analysis.targets import targets_of
from marigold_rec.config.data import SyntheticConfig
from marigold_rec.config.tasks import BinaryTask
from tests.data_pipelines.synthetic.logs import Log, made_log

_TASKS = (
    BinaryTask(kind="binary", name="ctr", label="click"),
    BinaryTask(kind="binary", name="cvr", label="conversion", observed_if="click", given="ctr"),
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    config = SyntheticConfig(days=2, rows_per_day=30_000, users=8_000, items=800, seed=11)
    return made_log(config, tmp_path_factory.mktemp("truth") / "log")


@pytest.fixture(scope="module")
def judged(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("scores")
    assert (log.rows.row_id == log.truth.row_id).all()
    scores_BT = log.truth[["p_click", "p_conversion_given_click"]].to_numpy(np.float32)
    labels_BT = log.rows[["click", "conversion"]].to_numpy(np.float32)
    writer = ScoreWriter(folder, rank=0, world_size=1, tasks=("ctr", "cvr"), columns={})
    writer.add(scores_BT, labels_BT, ~np.isnan(labels_BT), np.ones(len(labels_BT), np.float32), {})
    writer.close()
    users = user_codes(log.rows.user_id.to_numpy())
    settings = Settings(user_N=users, group_N=None, slicings=(), ndcg_at=(), confidence=0.95)
    return judge(ScoreFiles(folder), None, targets_of(_TASKS), (), settings)


def _truth(log: Log, task: str) -> dict[str, float]:
    """Of the rows as they are: labels drawn again, given the features."""
    click = log.truth.p_click.to_numpy()
    conversion = log.truth.p_conversion_given_click.to_numpy()
    p = {
        "ctr": click,
        "cvr": conversion[log.rows.click.to_numpy() == 1],
        "cvr over all rows": click * conversion,
    }[task]
    return {
        "auc": expected_auc(p, p),
        "ne": expected_ne(p, p),
        "log_loss": expected_log_loss(p, p),
        "calibration": 1.0,
    }


@pytest.mark.parametrize("task", ["ctr", "cvr", "cvr over all rows"])
def test_bayes_optimal_scores_have_the_figures_of_the_closed_form(
    log: Log, judged: Judged, task: str
) -> None:
    [found] = [report for report in judged.tasks if report.name == task]
    for name, true_value in _truth(log, task).items():
        figure = found.figures[name]
        assert figure.value is not None
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= true_value <= figure.high, name
        assert figure.high - figure.low < 0.1 * true_value, "an interval that says something"


def test_a_worse_model_is_found_out(log: Log, judged: Judged) -> None:
    """The intervals are narrow enough to tell the truth from a slightly blurred one."""
    [found] = [report for report in judged.tasks if report.name == "ctr"]
    p = log.truth.p_click.to_numpy()
    blurred = p * np.exp(np.random.default_rng(0).normal(0, 0.4, len(p)))
    assert found.figures["auc"].low is not None
    assert expected_auc(np.minimum(blurred, 1), p) < found.figures["auc"].low
