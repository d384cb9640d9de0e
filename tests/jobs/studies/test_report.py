"""study.md, study.json and the pictures, from made-up results."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from jobs.studies.front_picture import draw_front, front_columns, non_dominated
from jobs.studies.plan import Plan, make_plan
from jobs.studies.report import write_report
from jobs.studies.results import TrialResult
from jobs.studies.study_results import collect_results
from jobs.studies.weights_picture import draw_weights, share_curves
from tests.jobs.studies.inputs import made_up, study_tree, write_study
from tests.support.launches import strict_json


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(write_study(tmp_path, study_tree() | {"metrics": {"watch_time": "xauc"}}))


def _report(plan: Plan, results: list[TrialResult], out: Path) -> str:
    write_report(collect_results(plan, results), out, ["front.png"])
    return (out / "study.md").read_text()


def _row(report: str, name: str) -> list[str]:
    """Returns the cells of the first table row of that name."""
    line = next(line for line in report.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def _with(results: list[TrialResult], name: str, ctr: dict[int, float]) -> list[TrialResult]:
    return [
        replace(r, metrics=r.metrics | {"ctr": ctr[r.seed]}) if r.name == name else r
        for r in results
    ]


def test_the_table_shows_mean_and_deviation_delta_m_and_step_time(
    plan: Plan, tmp_path: Path
) -> None:
    fixed = {"ctr": 0.8, "cvr": 0.5, "watch_time": 0.4}
    results = [
        replace(r, metrics={t: fixed[t] for t in r.metrics}, step_time_s=0.1) for r in made_up(plan)
    ]
    results = _with(results, "marigold", {1: 0.88, 2: 0.92})
    report = _report(plan, results, tmp_path)
    heading = ["balancer", "ctr auc", "cvr auc", "watch_time xauc", "Delta-m %", "mean rank"]
    assert _row(report, "balancer") == [*heading, "step time"]
    # ctr: +10 % and +15 %, the others 0; ranks 1, 1.5 and 1.5.
    assert _row(report, "marigold") == [
        "marigold", "0.9000 ± 0.0283", "0.5000 ± 0.0000", "0.4000 ± 0.0000", "+4.17 ± 1.18",
        "1.33", "1.00 ± 0.00",
    ]  # fmt: skip
    assert _row(report, "equal")[-3:] == ["+0.00 ± 0.00", "1.67", "1.00 ± 0.00"]
    assert _row(report, "*hand*")[-3:] == ["+0.00 ± 0.00", "-", "1.00 ± 0.00"]
    assert _row(report, "*one model per task*")[-3:] == ["0", "-", "3.00 ± 0.00"]
    differences = report.split("## Differences from equal")[1]
    assert _row(differences, "marigold") == [
        "marigold",
        "+0.1000 ± 0.0200",
        *["+0.0000 ± 0.0000"] * 2,
    ]
    assert "Not complete" not in report


def test_the_report_says_how_it_was_made(plan: Plan, tmp_path: Path) -> None:
    report = _report(plan, made_up(plan), tmp_path)
    for text in (
        "- command: `python launch/study.py`",
        "- seeds: 1, 2",
        "training: 900 steps of 1 ranks x 64 rows (at most 57,600 rows)",
        "held-out rows: ctr 500, cvr 500, watch_time 500",
        "torch 2.13",
        "100 (M - S) / |S|",
        "the 2 automatic balancers",
        "![front.png](front.png)",
        "every_n_steps: 10",
        "batch_size: 64",
        "- optimizer.dense.lr=0.1",
    ):
        assert text in report, text


def test_missing_trials_and_mixed_code_are_reported(plan: Plan, tmp_path: Path) -> None:
    results = [r for r in made_up(plan) if (r.name, r.seed) != ("marigold", 2)]
    results[0] = replace(results[0], record=results[0].record | {"commit": "other"})
    report = _report(plan, results, tmp_path)
    assert "**Not complete**: 1 of 12 runs have no result (marigold seed 2)" in report
    assert "**Mixed code**" in report
    assert _row(report, "marigold")[0] == "marigold (1 seeds)"
    assert "±" not in _row(report, "marigold")[1]


def test_without_single_task_models_the_mean_rank_sorts(tmp_path: Path) -> None:
    plan = make_plan(write_study(tmp_path, study_tree() | {"single_task": False}))
    report = _report(plan, _with(made_up(plan, 1e-9), "marigold", {1: 0.9, 2: 0.9}), tmp_path)
    assert _row(report, "marigold")[4] == "-"
    names = [row.name for row in collect_results(plan, made_up(plan)).rows]
    assert sorted(names) == ["equal", "hand", "marigold"]
    assert "one model per task" not in report.split("Mean ±")[0]


def test_the_json_holds_every_cell_and_is_strict(plan: Plan, tmp_path: Path) -> None:
    _report(plan, made_up(plan), tmp_path)
    found = strict_json((tmp_path / "study.json").read_text())
    assert len(found["trials"]) == 12
    assert [row["name"] for row in found["rows"]] == [
        r.name for r in collect_results(plan, made_up(plan)).rows
    ]
    assert sum(found["rows"][0]["final_weight_shares"].values()) == pytest.approx(1)
    assert found["configs"]["marigold"]["optimizer"]["dense"]["lr"] == 0.1


def test_the_pictures_are_drawn_and_drawn_alike(plan: Plan, tmp_path: Path) -> None:
    study = collect_results(plan, made_up(plan))
    for draw, name in ((draw_front, "front"), (draw_weights, "weights")):
        assert draw(study, tmp_path) == f"{name}.png"
        first = (tmp_path / f"{name}.svg").read_bytes()
        draw(study, tmp_path)
        assert (tmp_path / f"{name}.svg").read_bytes() == first, "a report made again has no diff"
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.width >= 1800, "sharp at 900 pixels"


def test_without_figures_there_is_no_picture(plan: Plan, tmp_path: Path) -> None:
    results = [replace(r, metrics={}, weights={}) for r in made_up(plan)]
    study = collect_results(plan, results)
    assert draw_front(study, tmp_path) is None
    assert draw_weights(study, tmp_path) is None


def test_one_seed_can_be_drawn(plan: Plan, tmp_path: Path) -> None:
    study = collect_results(plan, [r for r in made_up(plan) if r.seed == 1])
    assert draw_front(study, tmp_path) is not None
    assert draw_weights(study, tmp_path) is not None


def test_the_front_is_of_the_tasks_that_differ_most(plan: Plan) -> None:
    results = _with(made_up(plan, 1e-4), "marigold", {1: 0.9, 2: 0.9})
    results = [
        replace(r, metrics=r.metrics | {"watch_time": 0.1}) if r.name == "hand" else r
        for r in results
    ]
    chosen = front_columns(collect_results(plan, results))
    assert chosen is not None
    assert [column.task for column in chosen] == ["ctr", "watch_time"], "in the study's order"


def test_the_study_may_choose_the_tasks_of_the_front(tmp_path: Path) -> None:
    plan = make_plan(write_study(tmp_path, study_tree() | {"front": ["watch_time", "cvr"]}))
    chosen = front_columns(collect_results(plan, made_up(plan)))
    assert chosen is not None
    assert [column.task for column in chosen] == ["watch_time", "cvr"]


def test_what_is_beaten_in_one_figure_and_not_better_in_the_other_is_dominated() -> None:
    points = {"a": (1.0, 3.0), "b": (2.0, 2.0), "c": (2.0, 1.0), "d": (0.5, 0.5), "e": (1.0, 3.0)}
    assert non_dominated(points, (True, True)) == ["a", "b", "e"]
    assert non_dominated(points, (False, True)) == ["a", "d", "e"]
    assert non_dominated(points, (False, False)) == ["d"]


def test_weight_curves_are_shares_at_common_steps() -> None:
    def run(seed: int, weights: dict[str, tuple[tuple[int, float], ...]]) -> TrialResult:
        return TrialResult("x", seed, {}, None, weights, {}, {})

    first = run(1, {"a": ((1, 1.0), (5, 3.0)), "b": ((1, 1.0), (5, 1.0))})
    second = run(2, {"a": ((5, 1.0), (9, 1.0)), "b": ((5, 0.0), (9, 1.0))})
    found = share_curves([first, second], ["a", "b"])
    assert found is not None
    steps, shares = found
    assert steps.tolist() == [5]
    assert shares.tolist() == [[[0.75], [0.25]], [[1.0], [0.0]]]
    assert share_curves([run(1, {})], ["a"]) is None
    assert not math.isnan(shares.sum())
