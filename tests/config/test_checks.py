"""Checks across sections: what they let pass, and what their messages in tests/launch leave out."""

from __future__ import annotations

from pathlib import Path

import pytest

from marigold_rec.config import load_config
from tests.config.trees import load, problems

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "overrides",
    [
        ("data.eval=null",),
        ("data.eval=null", "data.train.dates=null"),
        ("data.eval.dates=[2024-02-01, 2024-02-01]",),  # a gap between the splits
        ("data.train={path: /a}", "data.eval={path: /b}"),
        ("data.train={path: /a}", "data.eval={}"),
        ("data.train.dates=null", "data.eval.path=/b"),
        ("data.weight=price",),
        ("features.price.column=age",),
        ("balancer={name: static, weights: {ctr: 0.5}}",),
        ("balancer={name: marigold, preference: {ctr: 2}}",),
        ("sharding.tables={goods: row_wise, user: column_wise}",),
    ],
)
def test_what_is_legal(tmp_path: Path, overrides: tuple[str, ...]):
    load(tmp_path, *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ("data.train={}", "data.eval={}"),
        ("data.train.dates=null",),
        ("data.eval.dates=null",),
        ("data.train={path: /a}", "data.eval={path: /a}"),
        ("data.train={path: /logs/clicks}", "data.eval={}"),
        ("data.path=null", "data.train={}", "data.eval={}"),
    ],
)
def test_one_path_for_both_splits_needs_dates_for_both(tmp_path: Path, overrides: tuple[str, ...]):
    for line in problems(tmp_path, *overrides):
        assert "missing, and both splits have the same path" in line


@pytest.mark.parametrize(
    "dates", ["[2024-01-05, 2024-01-07]", "[2024-01-01, 2024-01-01]", "[2023-12-01, 2024-02-01]"]
)
@pytest.mark.parametrize("path", ["null", "/elsewhere"])
def test_evaluation_comes_after_training_wherever_it_lies(tmp_path: Path, dates: str, path: str):
    (line,) = problems(tmp_path, f"data.eval={{path: {path}, dates: {dates}}}")
    assert "evaluation must start after the last training day" in line


def test_labels_and_their_conditions_are_no_inputs(tmp_path: Path):
    found = problems(
        tmp_path,
        "features.user.column=bought",
        "features.item.name=click",
        "tasks=[{name: ctr, kind: binary, label: click}, "
        "{name: cvr, kind: binary, label: sale, observed_if: bought}]",
    )
    assert [line.split(";")[0] for line in found] == [
        "features.user: its column 'bought' is an outcome of task 'cvr'",
        "features.click: its column 'click' is an outcome of task 'ctr'",
    ]


def test_tasks_are_told_apart_by_kind_label_and_condition(tmp_path: Path):
    load(
        tmp_path,
        "tasks=[{name: a, kind: binary, label: x}, {name: b, kind: duration, label: x}, "
        "{name: c, kind: binary, label: x, observed_if: y}]",
    )


def test_no_task_and_no_sparse_feature(tmp_path: Path):
    assert problems(tmp_path, "tasks=[]", "features=[{name: price, kind: dense}]") == [
        "tasks: there is no task; add one",
        "features: there is no sparse feature (hash or vocab, say); add one",
    ]


def test_preferences_name_tasks(tmp_path: Path):
    assert problems(tmp_path, "balancer={name: marigold, preference: {cvr: 2}}") == [
        "balancer.preference.cvr: there is no such task; did you mean 'ctr'?"
    ]


def test_the_demo_at_any_number_of_days_keeps_its_splits_apart():
    """The override that users of the demo try first."""
    load_config(
        ROOT / "configs/ctr_cvr.yaml",
        ("data.synthetic.days=3", "data.train.dates=[2024-01-01, 2024-01-02]",
         "data.eval.dates=[2024-01-03, 2024-01-03]"),
    )  # fmt: skip
