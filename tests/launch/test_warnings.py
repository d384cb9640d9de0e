"""What a run says of its evaluation: before the training what evaluate.py will refuse, after it
scores that have no order any more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_pipelines.validate.__main__ import main as validate
from marigold_rec.errors import EXIT_DATA, EXIT_DONE
from tests.support.launches import PATIENT, Ended, codes, launch_evaluate, launch_train, summary
from tests.support.nightly import Nightly
from tests.support.runs import click_log, config_tree, write_config, write_days

ROWS = 600
REFUSED = ("evaluation.slices: column 'history' is list", "evaluation.user: column 'price' is")
"""What `set_up` asks for, and no evaluation can do."""


def set_up(folder: Path) -> dict[str, Any]:
    days = {"2024-01-01": click_log(ROWS), "2024-01-02": click_log(ROWS, seed=1)}
    tree = config_tree(write_days(folder / "log", days), folder / "runs")
    tree["evaluation"] = {"user": "price", "item": "item", "slices": ["history"]}
    # In float32 the sigmoid of a logit from 17 on is 1.
    tree["tasks"][0]["logit_offset"] = 20
    return tree


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A folder with log, config and a run, and how it ended."""
    folder = tmp_path_factory.mktemp("warnings")
    config = write_config(set_up(folder), folder / "config.yaml")
    [ended] = launch_train(config, PATIENT, num_ranks=1)
    assert ended.code == EXIT_DONE
    return folder, ended


def warnings(said: str) -> list[str]:
    lines = said.splitlines()
    return [line for line in lines if "warning: " in line or " WARNING " in line]


def assert_told(said: str) -> None:
    found = [line for line in warnings(said) if "launch/evaluate.py will refuse this" in line]
    assert len(found) == len(REFUSED), said
    for text in REFUSED:
        assert any(text in line for line in found), found


def test_the_validator_says_what_evaluate_will_refuse(
    run: tuple[Path, Ended], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = run
    config = str(folder / "config.yaml")
    assert validate([str(folder / "log"), "--config", config]) == EXIT_DONE
    assert_told(capsys.readouterr().out)
    capable = ("evaluation.user=user", "evaluation.slices=[]")
    assert validate([str(folder / "log"), "--config", config, *capable]) == EXIT_DONE
    assert "will refuse this" not in capsys.readouterr().out


def test_a_dry_run_and_a_training_say_it_before_the_first_step(run: tuple[Path, Ended]) -> None:
    folder, ended = run
    assert_told(ended.said.partition("step 5/")[0])
    [dry] = launch_train(folder / "config.yaml", "--dry-run", PATIENT, num_ranks=1)
    assert dry.code == EXIT_DONE
    assert_told(dry.said)


def test_evaluate_refuses_just_that(run: tuple[Path, Ended]) -> None:
    folder, _ = run
    [ended] = launch_evaluate(
        "--checkpoint", str(folder / "runs" / "test"), "--out", str(folder / "refused")
    )
    assert ended.code == EXIT_DATA
    assert all(text in ended.said for text in REFUSED)


def test_a_night_is_refused_before_it_trains(run: tuple[Path, Ended], tmp_path: Path) -> None:
    folder, _ = run
    tree: dict[str, Any] = set_up(tmp_path) | {"nightly": {"first_days": 1}}
    tree["run"]["dir"] = str(tmp_path / "runs")
    tree["data"] = {"path": str(folder / "log"), "batch_size": 64}
    night = Nightly(
        write_config(tree, tmp_path / "nightly.yaml"),
        "--date", "2024-01-02", log=tmp_path / "night.log",
    )  # fmt: skip
    assert night.wait(120) == EXIT_DATA
    said = (tmp_path / "night.log").read_text()
    assert all(text in said for text in REFUSED)
    assert not (tmp_path / "runs" / "test" / "nights" / "2024-01-02" / "train").exists()


def test_saturated_scores_are_counted_after_training_and_by_evaluate(
    run: tuple[Path, Ended],
) -> None:
    """An AUC of them is not what the logits' would be, and nothing else shows it."""
    folder, _ = run
    told = f"ctr: evaluation: {ROWS} of {ROWS} scores are exactly 0 or 1"
    assert any(told in line for line in summary(folder / "runs" / "test")["warnings"])
    out = folder / "report"
    ended = launch_evaluate(
        "--checkpoint", str(folder / "runs" / "test"), "--out", str(out),
        "evaluation.user=user", "evaluation.slices=[]",
    )  # fmt: skip
    assert codes(ended) == [EXIT_DONE]
    report = json.loads((out / "report.json").read_text())
    [line] = [line for line in report["warnings"] if "ctr: " in line and "exactly 0 or 1" in line]
    assert told in line
    assert any(told in line for line in warnings(ended[0].said))
    # Scores of the other tasks have an order.
    assert not any("cvr: " in line for line in report["warnings"] if "exactly 0 or 1" in line)
