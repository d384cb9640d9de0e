"""The evaluation: the same at any number of ranks, equal to scikit-learn, without a trace."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from jobs.assembly.data import eval_reader
from marigold_rec.training import Evaluation, load_model
from tests.support.launches import (
    PATIENT,
    assert_same_tensors,
    checkpoint_tensors,
    codes,
    launch_train,
    summary,
)
from tests.support.ranks import run_ranks
from tests.support.runs import (
    Run,
    click_log,
    config_tree,
    default_setup,
    with_run,
    write_config,
    write_days,
)

# No two rows of a bag on two ranks: a sum in another order may differ in its last bit.
_WHOLE_TABLES = ("sharding.default=table_wise", PATIENT)


@dataclass(frozen=True)
class Evaluated:
    evaluation: Evaluation
    predictions: Tensor
    """Of this rank's rows, in file order, [rows, tasks]."""
    labels: Tensor
    observed: Tensor


def _evaluated(config: Path, overrides: tuple[str, ...]) -> Evaluated:
    """The newest checkpoint's model on the evaluation day."""

    def work(run: Run) -> Evaluated:
        found = run.store.find("auto")
        assert found is not None
        load_model(run.built.model, run.store, found)
        reader = eval_reader(run.config, run.data, run.ranks)
        assert reader is not None
        batches = [(b.labels_BT[: b.num_rows], b.observed_BT[: b.num_rows]) for b in
                   reader.batches()]  # fmt: skip
        labels, observed = (torch.cat(parts) for parts in zip(*batches, strict=True))
        return Evaluated(run.evaluation(), run.predictions(), labels, observed)

    return with_run(config, overrides, work)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config whose run has ended; 768 rows to evaluate on."""
    config = default_setup(tmp_path_factory.mktemp("trained"), rows=1536)
    assert codes(launch_train(config, *_WHOLE_TABLES)) == [0, 0]
    return config


def _by_rank(config: Path, world_size: int, *overrides: str) -> list[Evaluated]:
    settings = (*_WHOLE_TABLES, *overrides)
    return run_ranks(_evaluated, world_size, config, settings, timeout_s=25, init_group=False)


@pytest.fixture(scope="module")
def alone(trained: Path) -> Evaluated:
    """What one rank finds."""
    return _by_rank(trained, 1)[0]


def test_any_number_of_ranks_gives_the_same_figures_to_the_bit(
    trained: Path, alone: Evaluated
) -> None:
    at_the_end = summary(trained.parent / "runs/test")
    for name, value in alone.evaluation.scalars.items():
        assert at_the_end[name] == value, name
    for world_size in (2, 3):  # both cut the rows between two batches
        ranks = _by_rank(trained, world_size)
        assert torch.equal(torch.cat([r.predictions for r in ranks]), alone.predictions)
        for rank in ranks:
            assert rank.evaluation == alone.evaluation, world_size


@pytest.mark.slow
def test_other_batches_give_the_same_figures_to_rounding(trained: Path, alone: Evaluated) -> None:
    """Matrix libraries round a row by its place in the batch, so bits may differ here."""
    ranks = _by_rank(trained, 3, "data.eval_batch_size=49")
    predictions = torch.cat([r.predictions for r in ranks])
    torch.testing.assert_close(predictions, alone.predictions, rtol=1e-6, atol=1e-6)
    for name, value in alone.evaluation.scalars.items():
        # Two rows a rounding apart may change places: one pair in the 10^4 of an AUC.
        assert ranks[0].evaluation.scalars[name] == pytest.approx(value, rel=1e-4), name


def test_the_figures_are_those_of_scikit_learn(alone: Evaluated) -> None:
    # Not above: every rank of every test here would import it.
    from scipy.stats import spearmanr
    from sklearn import metrics

    scalars = alone.evaluation.scalars
    assert alone.evaluation.reasons == {}
    for i, task in enumerate(("ctr", "cvr")):
        seen = alone.observed[:, i] > 0
        label = alone.labels[seen, i].double().numpy()
        score = alone.predictions[seen, i].double().numpy()
        rate = label.mean()
        log_loss = cast(float, metrics.log_loss(label, score))
        entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
        for figure, value in {
            "auc": metrics.roc_auc_score(label, score),
            "log_loss": log_loss,
            "ne": log_loss / entropy,
            "calibration": score.sum() / label.sum(),
            "rows": len(label),
        }.items():
            assert scalars[f"eval/{figure}/{task}"] == pytest.approx(value, rel=1e-12), figure
    seen = alone.observed[:, 2] > 0
    seconds = alone.labels[seen, 2].double().numpy()
    guess = alone.predictions[seen, 2].double().numpy()
    longer = seconds[:, None] < seconds  # [i, j]: row j was watched longer than row i
    order = 0.5 + 0.5 * np.sign(guess - guess[:, None])
    for figure, value in {
        "mae_s": metrics.mean_absolute_error(seconds, guess),
        "rmse_s": metrics.root_mean_squared_error(seconds, guess),
        "r2_log": metrics.r2_score(np.log1p(seconds), np.log1p(guess)),
        "spearman": cast(Any, spearmanr(seconds, guess)).statistic,
        "xauc": order[longer].mean(),
        "rows": len(seconds),
    }.items():
        assert scalars[f"eval/{figure}/watch_time"] == pytest.approx(value, rel=1e-9), figure


def _train_in_two_parts(config: Path, overrides: tuple[str, ...], looks: bool) -> None:
    def work(run: Run) -> None:
        trainer = run.trainer
        for steps in (7, 16):
            limited = run.config.run.model_copy(update={"steps": steps})
            trainer._config = run.config.model_copy(update={"run": limited})
            assert run.train().step == steps
            if looks:
                assert run.evaluation().scalars["eval/rows/ctr"] == 500

    with_run(config, overrides, work)


def test_evaluating_leaves_no_trace_in_the_training(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    settings = ("run.epochs=2", "model.dropout=0.2", "balancer.probe.every_n_steps=5", PATIENT)
    found = {}
    for looks in (False, True):
        name = f"looks_{looks}"
        overrides = (*settings, f"run.name={name}")
        run_ranks(_train_in_two_parts, 2, config, overrides, looks, timeout_s=25, init_group=False)
        last = tmp_path / "runs" / name / "checkpoints/step-000000016"
        found[looks] = checkpoint_tensors(last, tmp_path)
    assert_same_tensors(found[True], found[False])


def test_a_task_without_both_classes_has_no_figure_but_a_reason(tmp_path: Path) -> None:
    held_out = click_log(500, seed=1)
    is_clicked = held_out["click"].to_numpy() == 1
    never = pa.array(np.zeros(500, np.int8), mask=~is_clicked)
    held_out = held_out.set_column(
        held_out.schema.get_field_index("conversion"), "conversion", never
    )
    data = write_days(tmp_path / "log", {"2024-01-01": click_log(1000), "2024-01-02": held_out})
    config = write_config(config_tree(data, tmp_path / "runs"), tmp_path / "config.yaml")
    ended = launch_train(config, PATIENT)
    assert codes(ended) == [0, 0]
    found = summary(tmp_path / "runs/test")
    reason = f"all {is_clicked.sum()} labels are 0"
    assert found["eval_undefined"] == {
        f"eval/{figure}/cvr": reason for figure in ("auc", "ne", "calibration")
    }
    for figure in ("auc", "ne", "calibration"):
        assert found[f"eval/{figure}/cvr"] is None
    assert found["eval/log_loss/cvr"] > 0
    assert 0 < found["eval/auc/ctr"] < 1
    assert reason in ended[0].said
