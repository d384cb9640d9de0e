"""Rules of the gate for tasks, figures and columns that there will not be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marigold_rec.analysis.figures import estimates
from marigold_rec.analysis.rows import Rows
from marigold_rec.config.gate_names import figures_of
from marigold_rec.config.label_kinds import LABEL_KINDS
from tests.config.trees import load, problems


def test_the_known_figures_are_those_of_a_report() -> None:
    label_N = np.array([0, 1, 1, 0], np.float32)
    user_N = np.array([0, 0, 1, 1], np.int32)
    rows = Rows(label_N / np.float32(2), label_N, user_N=user_N)
    for kind in LABEL_KINDS:
        assert set(estimates(kind, rows)) == set(figures_of(kind, None, (5,)))
    slates = Rows(label_N / np.float32(2), label_N, user_N=user_N, group_N=user_N, ndcg_at=(5, 7))
    assert set(estimates("binary", slates)) == set(figures_of("binary", "slate", (5, 7)))


@pytest.mark.parametrize(
    ("override", "path", "near"),
    [
        ("nightly.gate.tasks.crt={auc: {min: 0.5}}", "tasks.crt", "'ctr'"),
        ("nightly.gate.tasks.ctr={uac: {min: 0.5}}", "tasks.ctr.uac", "'auc'"),
        ("nightly.gate.tasks.ctr={xauc: {min: 0.5}}", "tasks.ctr.xauc", "'auc'"),
        ("nightly.gate.tasks.ctr={ndcg@5: {min: 0.5}}", "tasks.ctr.ndcg@5", "auc"),
        (
            "nightly.gate.defaults.binary={calibratoin: null}",
            "defaults.binary.calibratoin",
            "'calibration'",
        ),
        ("nightly.gate.defaults.duration={auc: null}", "defaults.duration.auc", "'xauc'"),
        ("nightly.gate.drift.ignore=[pricee]", "drift.ignore", "'price'"),
    ],
)
def test_a_slip_of_the_pen_is_refused_with_the_nearest_name(
    tmp_path: Path, override: str, path: str, near: str
) -> None:
    (problem,) = problems(tmp_path, override)
    assert f"nightly.gate.{path}" in problem
    assert near in problem


def test_names_that_there_are(tmp_path: Path) -> None:
    load(
        tmp_path,
        "nightly.gate.tasks.ctr={auc: {min: 0.5}, gauc: null}",
        "nightly.gate.drift.ignore=[price]",
    )
