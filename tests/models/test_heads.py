"""Task heads: losses against closed forms, predictions in the label's units, extremes."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

from marigold_rec.config.tasks import BinaryTask, DurationTask
from models.heads.log_duration import LogHuberHead, LogHuberSettings, LogMSEHead
from models.heads.logistic import LogisticHead

LARGEST = torch.finfo(torch.float32).max
EXTREMES = torch.tensor([[0.0], [-0.0], [1e-30], [80.0], [-120.0], [1e6], [LARGEST], [-LARGEST]])


def binary(offset: float = 0.0) -> LogisticHead:
    task = BinaryTask(name="ctr", kind="binary", label="click", logit_offset=offset)
    return LogisticHead(LogisticHead.Settings(name="logistic"), task, 4)


def duration(
    name: Literal["log_mse", "log_huber"] = "log_mse", max_s: float = 600.0, delta: float = 1.0
) -> LogMSEHead:
    task = DurationTask(name="w", kind="duration", label="s", max_s=max_s)
    if name == "log_mse":
        return LogMSEHead(LogMSEHead.Settings.model_validate({"name": name}), task, 4)
    settings = LogHuberSettings(name=name, delta=delta)
    return LogHuberHead(settings, task, 4)


def test_binary_loss_and_probability() -> None:
    logits = [-3.0, 0.0, 0.4, 12.0]
    labels = torch.tensor([1.0, 0.0, 1.0, 0.0])
    probability = [1 / (1 + math.exp(-x)) for x in logits]
    expected = [
        -math.log(p if y else 1 - p) for p, y in zip(probability, labels.tolist(), strict=True)
    ]
    output_BK = torch.tensor(logits)[:, None]
    torch.testing.assert_close(binary().loss(output_BK, labels), torch.tensor(expected))
    torch.testing.assert_close(binary().predict(output_BK)[:, 0], torch.tensor(probability))


def test_a_logit_offset_moves_predictions_and_no_loss() -> None:
    moved = binary(math.log(0.1))
    odds, label_B = torch.tensor([0.25, 3.0]), torch.tensor([1.0, 0.0])
    output_BK = odds.log()[:, None]
    torch.testing.assert_close(moved.predict(output_BK)[:, 0], 0.1 * odds / (1 + 0.1 * odds))
    torch.testing.assert_close(moved.loss(output_BK, label_B), binary().loss(output_BK, label_B))


@pytest.mark.parametrize("seconds", [0.0, 0.5, 30.0, 599.0])
@pytest.mark.parametrize("error", [-7.0, -0.3, 0.0, 0.9, 2.5])
def test_duration_losses(seconds: float, error: float) -> None:
    output_BK = torch.tensor([[math.log1p(seconds) + error]])
    label_B = torch.tensor([seconds])
    mse = duration("log_mse").loss(output_BK, label_B)
    torch.testing.assert_close(mse, torch.tensor([error**2]), rtol=1e-4, atol=1e-6)
    delta = 0.7
    huber = error**2 / 2 if abs(error) <= delta else delta * (abs(error) - delta / 2)
    found = duration("log_huber", delta=delta).loss(output_BK, label_B)
    torch.testing.assert_close(found, torch.tensor([huber]), rtol=1e-4, atol=1e-6)


def test_duration_predictions_are_seconds_within_the_limits() -> None:
    head = duration(max_s=600.0)
    output_BK = torch.tensor([-5.0, 0.0, math.log1p(30), math.log1p(600), 50.0])[:, None]
    expected = torch.tensor([0.0, 0.0, 30.0, 600.0, 600.0])
    torch.testing.assert_close(head.predict(output_BK)[:, 0], expected)
    assert head.predict(EXTREMES).max() <= 600.0
    assert head.predict(EXTREMES).min() >= 0.0


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("head", [binary(), duration(), duration("log_huber", delta=50.0)])
def test_extreme_outputs_give_finite_losses_and_gradients(
    head: LogisticHead | LogMSEHead, label: float
) -> None:
    output_BK = EXTREMES.clone().requires_grad_()
    loss_B = head.loss(output_BK, torch.full((len(EXTREMES),), label))
    assert loss_B.shape == (len(EXTREMES),)
    assert loss_B.isfinite().all()
    loss_B.sum().backward()
    assert output_BK.grad is not None
    assert output_BK.grad.isfinite().all()
    assert head.predict(EXTREMES).isfinite().all()


def test_no_rows() -> None:
    for head in (binary(), duration()):
        output_BK = head(torch.zeros(0, 4))
        assert output_BK.shape == (0, 1)
        assert head.loss(output_BK, torch.zeros(0)).shape == (0,)
        assert head.predict(output_BK).shape == (0, 1)


@pytest.mark.parametrize("head", [binary(), duration()])
def test_computes_in_float32_from_low_precision_towers(head: LogisticHead | LogMSEHead) -> None:
    tower_BH = torch.randn(3, 4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output_BK = head(tower_BH)
        loss_B = head.loss(output_BK, torch.ones(3))
    assert output_BK.dtype == loss_B.dtype == torch.float32
    assert torch.equal(output_BK, head.linear(tower_BH.float()))


@pytest.mark.parametrize(
    ("mean", "rows", "expected"),
    [(0.2, 100.0, 0.2), (0.0, 100.0, 0.005), (1.0, 50.0, 0.99), (1.0, 0.0, 0.5)],
)
def test_an_untrained_binary_head_starts_at_the_share_of_positives(
    mean: float, rows: float, expected: float
) -> None:
    head = binary()
    head.init_bias(mean, rows)
    found = head.predict(head(torch.zeros(1, 4)))[0]
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_an_untrained_duration_head_starts_at_the_best_constant() -> None:
    head = duration()
    seconds = torch.tensor([3.0, 40.0, 600.0])
    head.init_bias(head.target(seconds).mean().item(), 3.0)
    found = head.predict(head(torch.zeros(1, 4)))[0]
    torch.testing.assert_close(found, seconds.log1p().mean().expm1()[None])
