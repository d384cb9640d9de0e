"""The windows' figures are scikit-learn's over the last rows of all ranks, and change nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from marigold_rec.batch import Batch, Cursor
from marigold_rec.config.tasks import BinaryTask, DurationTask
from marigold_rec.contracts import Head
from marigold_rec.distributed import Ranks
from marigold_rec.training import RunLog, StepOutput, StopRequest
from marigold_rec.training.monitoring.window_metrics import WindowMetrics
from models.heads.log_duration import LogMSEHead, LogMSESettings
from models.heads.logistic import LogisticHead, LogisticSettings
from tests.support.launches import PATIENT, assert_same_tensors, strict_json
from tests.support.ranks import run_ranks
from tests.support.runs import Run, default_setup, with_run

_BATCH = 64  # of tests.support.runs
_STEPS = 8
_CTR = BinaryTask(kind="binary", name="ctr", label="click")
_CVR = BinaryTask(kind="binary", name="cvr", label="conversion")
_WATCH = DurationTask(kind="duration", name="watch_time", label="watch_s")


@dataclass(frozen=True)
class _Trained:
    lines: list[dict[str, Any]]
    """metrics.jsonl; empty on ranks other than the first."""
    outputs: list[tuple[Tensor, Tensor, Tensor, Tensor]]
    """Of each step on this rank: raw outputs, labels, observed, each [B, T], and losses_T."""
    tensors: dict[str, Tensor]
    names_in_checkpoint: set[str]


def _trained(config: Path, overrides: tuple[str, ...]) -> _Trained:
    def work(run: Run) -> _Trained:
        outputs = []
        progress = run.trainer.pipeline.progress

        def spied(dataloader_iter: Iterator[Batch]) -> StepOutput:
            output = progress(dataloader_iter)
            raw_BT = torch.cat([o.clone() for o in output.outputs], dim=1)
            batch = output.batch
            losses_T = output.losses.global_T.clone()
            outputs.append((raw_BT, batch.labels_BT, batch.observed_BT, losses_T))
            return output

        run.trainer.pipeline.progress = spied
        folder = Path(run.config.run.dir) / run.config.run.name
        log = RunLog(folder, is_first=run.ranks.is_first, tensorboard=False)
        run.trainer.train(log, StopRequest())
        log.close()
        lines = []
        if run.ranks.is_first:
            lines = [strict_json(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
        names = set(run.trainer._state.tensors())
        return _Trained(lines, outputs, run.tensors(), names)

    return with_run(config, overrides, work)


def _by_rank(config: Path, num_ranks: int, *overrides: str) -> list[_Trained]:
    return run_ranks(_trained, num_ranks, config, (PATIENT, *overrides), init_group=False)


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_figures_are_those_of_scikit_learn_over_the_window(tmp_path: Path, num_ranks: int) -> None:
    # Not above: every rank of every test here would import it.
    from sklearn import metrics

    config = default_setup(tmp_path, rows=_BATCH * num_ranks * _STEPS)
    kept = 3
    rows = kept * _BATCH * num_ranks + 5  # whole batches only
    ranks = _by_rank(config, num_ranks, f"logging.window_rows={rows}")
    last = ranks[0].lines[-1]
    assert last["step"] == _STEPS
    shown = [step for rank in ranks for step in rank.outputs[-kept:]]
    raw, labels, observed = (torch.cat([s[i] for s in shown]).double().numpy() for i in range(3))
    for i, task in enumerate(("ctr", "cvr")):
        seen = observed[:, i] > 0
        label, score = labels[seen, i], 1 / (1 + np.exp(-raw[seen, i]))
        rate = label.mean()
        entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
        for figure, value in {
            "ne": cast(float, metrics.log_loss(label, score)) / entropy,
            "auc": metrics.roc_auc_score(label, score),
            "calibration": score.sum() / label.sum(),
        }.items():
            # The model's sigmoid is float32's, and so is TorchRec's AUC.
            found = last[f"train/window_{figure}/{task}"]
            assert found == pytest.approx(value, rel=1e-5), (figure, task)
    seen = observed[:, 2] > 0
    seconds = np.expm1(np.clip(raw[seen, 2], 0, math.log1p(86_400)))
    mae = metrics.mean_absolute_error(labels[seen, 2], seconds)
    assert last["train/window_mae_s/watch_time"] == pytest.approx(mae, rel=1e-5)


def test_the_outputs_are_those_of_the_steps_own_forward(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=_BATCH * _STEPS)
    [trained] = _by_rank(config, 1, "model.dropout=0.3")
    for raw_BT, labels_BT, _, losses_T in trained.outputs:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(raw_BT[:, 0], labels_BT[:, 0])
        torch.testing.assert_close(loss, losses_T[0], rtol=1e-6, atol=0)


def test_training_is_the_same_to_the_bit_without_a_window(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=_BATCH * 2 * 20)
    settings = ("logging.every_n_steps=1", "model.dropout=0.2")
    found = {
        rows: _by_rank(config, 2, *settings, f"logging.window_rows={rows}", f"run.name=w{rows}")
        for rows in ("null", "512")
    }
    for off, on in zip(found["null"], found["512"], strict=True):
        assert_same_tensors(on.tensors, off.tensors)
        assert on.names_in_checkpoint == off.names_in_checkpoint
        assert all(torch.equal(a[3], b[3]) for a, b in zip(on.outputs, off.outputs, strict=True)), (
            "other losses"
        )
    off, on = (found[rows][0].lines for rows in ("null", "512"))
    assert len(on) == len(off) == 20
    assert not [name for line in off for name in line if "window" in name]
    for line, wanted in zip(on, off, strict=True):
        assert len([name for name in line if "window" in name]) == 7
        for name, value in wanted.items():
            if not name.startswith(("perf/", "memory/")):
                assert line[name] == value, name


_ALONE = Ranks(0, 1, 1, torch.device("cpu"), cast(Any, None), cast(Any, None))


def _window(*tasks: BinaryTask | DurationTask, rows: int | None = 1000) -> WindowMetrics:
    heads: list[Head] = [
        LogisticHead(LogisticSettings(name="logistic"), task, 2)
        if isinstance(task, BinaryTask)
        else LogMSEHead(LogMSESettings(name="log_mse"), task, 2)
        for task in tasks
    ]
    return WindowMetrics(tasks, heads, _ALONE, batch_size=8, window_rows=rows)


def _step(
    outputs: list[list[float]],
    labels: list[list[float]],
    observed: list[list[float]] | None = None,
    weights: list[float] | None = None,
) -> StepOutput:
    """Each list by task, then by row."""
    labels_BT = torch.tensor(labels).T.contiguous()
    observed_BT = torch.ones_like(labels_BT) if observed is None else torch.tensor(observed).T
    weights_B = torch.ones(len(labels_BT)) if weights is None else torch.tensor(weights)
    none = cast(Any, None)
    batch = Batch(none, none, labels_BT, observed_BT, weights_B, len(labels_BT), Cursor(0, 0))
    return StepOutput(none, none, batch, tuple(torch.tensor(o)[:, None] for o in outputs))


_LOGITS, _LABELS = [0.5, -1.0, 2.0, 0.1, -0.3], [1.0, 0.0, 1.0, 0.0, 1.0]


def test_rows_that_are_masked_or_weigh_nothing_do_not_count() -> None:
    plain, masked = _window(_CTR), _window(_CTR)
    plain.after_optimizer(_step([_LOGITS], [_LABELS]))
    masked.after_optimizer(
        _step(
            [[*_LOGITS, math.nan, math.inf, 9.0]],
            [[*_LABELS, 0.0, 1.0, 0.0]],
            observed=[[1.0] * 5 + [0.0, 0.0, 1.0]],
            weights=[1.0] * 7 + [0.0],
        )
    )
    assert masked.compute() == plain.compute()


def test_a_row_of_weight_2_counts_as_two_rows() -> None:
    twice, weighted = _window(_CTR), _window(_CTR)
    twice.after_optimizer(_step([[*_LOGITS, _LOGITS[0]]], [[*_LABELS, _LABELS[0]]]))
    weighted.after_optimizer(_step([_LOGITS], [_LABELS], weights=[2.0, 1.0, 1.0, 1.0, 1.0]))
    assert weighted.compute().scalars == pytest.approx(twice.compute().scalars, rel=1e-6)
    assert weighted.compute().tasks[0].positives == pytest.approx(16 / 6), "Kish: (2+1+1)^2/6"


def test_a_task_without_rows_or_without_a_class_has_none_for_a_figure() -> None:
    window = _window(_CTR, _CVR, _WATCH)
    window.after_optimizer(
        _step([_LOGITS] * 3, [[0.0] * 5, _LABELS, [3.0] * 5], [[1.0] * 5, [0.0] * 5, [0.0] * 5])
    )
    found = window.compute().scalars
    assert found.keys() == {
        *(f"train/window_{f}/{t}" for f in ("ne", "auc", "calibration") for t in ("ctr", "cvr")),
        "train/window_mae_s/watch_time",
    }
    assert set(found.values()) == {None}
    window.after_optimizer(_step([_LOGITS] * 3, [[1.0] * 5, _LABELS, [3.0] * 5]))
    assert None not in window.compute().scalars.values(), "a window without a figure has no end"


def test_only_the_newest_whole_batches_count() -> None:
    window, newest = _window(_CTR, rows=23), _window(_CTR)
    for i in range(5):
        step = _step([[x + i for x in _LOGITS]], [_LABELS])
        window.after_optimizer(step)
        if i >= 3:
            newest.after_optimizer(step)
    found, expected = window.compute(), newest.compute()
    assert (found.scalars, found.tasks) == (expected.scalars, expected.tasks)
    assert found.is_full
    assert window.compute().scalars == window.compute().scalars, "computing takes rows away"


def test_a_probability_of_exactly_0_or_1_has_a_finite_ne() -> None:
    window = _window(_CTR)
    window.after_optimizer(_step([[200.0, -200.0, 1.0]], [[0.0, 1.0, 1.0]]))
    ne = window.compute().scalars["train/window_ne/ctr"]
    assert ne is not None
    assert 0 < ne < 24 / math.log(2)


def test_tasks_with_the_same_label_are_twins() -> None:
    window = _window(_CTR, _CVR, _WATCH)
    window.after_optimizer(_step([_LOGITS] * 3, [_LABELS, _LABELS, _LABELS]))
    assert [f.twin for f in window.compute().tasks] == [None, "ctr", None]
    window.after_optimizer(_step([_LOGITS] * 3, [_LABELS, [*_LABELS[::-1][:4], 0.0], _LABELS]))
    assert [f.twin for f in window.compute().tasks] == [None, None, None]


def test_without_a_window_or_before_the_first_step_there_are_no_figures() -> None:
    off = _window(_CTR, rows=None)
    off.after_optimizer(_step([_LOGITS], [_LABELS]))
    assert off.compute().scalars == {}
    assert _window(_CTR).compute().scalars == {}
