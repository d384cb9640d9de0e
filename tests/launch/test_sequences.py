"""A model with a sequence: trained, resumed, evaluated, exported; served, it predicts the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marigold_rec.serving import Predictor
from tests.launch.test_export import assert_parity, export, scores_of
from tests.support.launches import (
    PATIENT,
    assert_same_tensors,
    checkpoint_tensors,
    checkpoints,
    codes,
    launch_train,
)
from tests.support.runs import click_log, config_tree, write_config, write_days


@pytest.mark.slow
def test_a_sequence_is_resumed_and_served_as_it_was_trained(tmp_path: Path) -> None:
    log = click_log(400, seed=1)
    days = {"2024-01-01": click_log(1500), "2024-01-02": log}
    tree = config_tree(write_days(tmp_path / "log", days), tmp_path / "runs")
    tree["model"]["sequences"] = {"history": {"name": "mean"}}
    config = write_config(tree, tmp_path / "config.yaml")
    columns = ("evaluation={user: user, item: item}", PATIENT)
    whole, halves = tmp_path / "runs" / "whole", tmp_path / "runs" / "halves"
    for arguments in (
        ("run.name=whole", "run.steps=8"),
        ("run.name=halves", "run.steps=4"),
        ("run.name=halves", "run.steps=8", "--resume", "auto"),
    ):
        ended = launch_train(config, *arguments, *columns, num_ranks=2)
        assert codes(ended) == [0, 0], ended[0].said
    last = [run / "checkpoints" / checkpoints(run)[-1] for run in (whole, halves)]
    assert_same_tensors(
        checkpoint_tensors(last[1], tmp_path), checkpoint_tensors(last[0], tmp_path)
    )
    scores = scores_of(halves, tmp_path)
    artefact = tmp_path / "artefact"
    assert export("--checkpoint", str(halves), "--out", str(artefact)).code == 0
    lengths = log["history"].combine_chunks().value_lengths().to_numpy()
    assert (lengths == 0).any()
    assert (lengths > 1).any()
    assert_parity(artefact, log, scores)
    empty = log.slice(int(np.flatnonzero(lengths == 0)[0]), 1)
    assert np.isfinite(Predictor(artefact).predict(empty)["ctr"]).all()
