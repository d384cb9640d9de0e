"""Delayed labels: a published model's bias, measured on final labels, corrects the next model."""

from __future__ import annotations

import datetime
import json
import math
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs.nightly import stages
from jobs.nightly.day_profiles import DayProfiles
from jobs.nightly.folder import NightlyFolder
from jobs.nightly.plan import DataWindow, MaturedEvaluation, Model, NightlyPlan
from jobs.nightly.publishing import Published
from jobs.nightly.recalibration import (
    BiasMeasurement,
    Recalibration,
    has_matured,
    is_needed_later,
    offset_of,
    read_recalibration,
    recalibrate,
)
from jobs.nightly.retention import drop_old_models
from marigold_rec.config import load_config
from marigold_rec.config.nightly import RecalibrationConfig
from marigold_rec.config.tasks import BinaryTask, Task
from tests.jobs.nightly.test_nightly import NIGHTLY, day, night, nightly
from tests.jobs.nightly.test_publishing import publish, with_models
from tests.support.runs import click_log, config_tree, write_config, write_days

RULES = RecalibrationConfig(nights=2, min_positives=100, max_offset=0.5)
CTR = BinaryTask(name="ctr", kind="binary", label="click")
CVR = BinaryTask(name="cvr", kind="binary", label="conversion", observed_if="click", matures_h=30)


def date(number: int) -> datetime.date:
    return datetime.date(2024, 1, number)


def finding(
    calibration: float, *, offset: float = 0.0, positives: int = 200, number: int = 3
) -> BiasMeasurement:
    return BiasMeasurement(
        task="cvr",
        night=date(number),
        days=(date(number), date(number)),
        rows=1000,
        positives=positives,
        calibration=calibration,
        offset=offset,
    )


def logit(p: float) -> float:
    return math.log(p / (1 - p))


# --- the offset ----------------------------------------------------------------------------------


def test_one_finding_brings_the_mean_prediction_to_the_mean_label() -> None:
    found = finding(0.9, offset=0.2)  # predicts 0.18 where 0.2 is right, with 0.2 added already
    offset, sentence = offset_of(RULES, [found])
    assert offset == pytest.approx(0.2 + logit(0.2) - logit(0.18), abs=1e-6)
    assert "predicted 0.900 times the 200 positives of 2024-01-03" in sentence
    assert f"{offset:+.3f} now, +0.200 then" in sentence


def test_an_offset_of_the_config_is_where_it_begins_and_not_added_twice() -> None:
    """Models published before the config had it, and since, need the same sum."""
    before, since = finding(0.9), finding(0.9 * 0.5, offset=before_to_since())
    assert offset_of(RULES, [before], own=0.1)[0] == pytest.approx(before.needed, abs=1e-6)
    assert since.needed == pytest.approx(before.needed)
    assert offset_of(RULES, [finding(9.0)], own=-2.0)[0] == -2.5
    assert offset_of(RULES, [], own=-2.0)[0] == -2.0


def before_to_since() -> float:
    """Returns the logits that halve a mean prediction of 0.18."""
    return logit(0.09) - logit(0.18)


def test_findings_count_by_their_positives() -> None:
    few, many = finding(0.8, positives=100), finding(1.0, positives=300)
    assert offset_of(RULES, [few, many])[0] == pytest.approx(few.needed / 4, abs=1e-6)


def test_of_few_positives_nothing_is_concluded() -> None:
    offset, sentence = offset_of(RULES, [finding(0.5, positives=60), finding(0.5, positives=39)])
    assert offset == 0
    assert "0.500 times the 99 positives" in sentence
    assert "nightly.recalibration.min_positives (100)" in sentence
    assert offset_of(RULES, [])[0] == 0


def test_without_nights_it_is_measured_and_nothing_is_moved() -> None:
    off = RecalibrationConfig(nights=0)
    offset, sentence = offset_of(off, [finding(0.3), finding(0.9, positives=900)])
    assert offset == 0
    assert "0.900 times the 900 positives" in sentence
    assert "nightly.recalibration.nights: 0" in sentence


@pytest.mark.parametrize(("calibration", "limit"), [(0.3, 0.5), (3.0, -0.5)])
def test_more_than_the_limit_is_not_a_bias(calibration: float, limit: float) -> None:
    offset, sentence = offset_of(RULES, [finding(calibration)])
    assert offset == limit
    assert "nightly.recalibration.max_offset" in sentence


# --- which model is measured ---------------------------------------------------------------------


def plan(number: int, *, origin: int = 1, matured: MaturedEvaluation | None = None) -> NightlyPlan:
    learned, judged = (date(number - 1), date(number - 1)), (date(number), date(number))
    return NightlyPlan(
        night=date(number),
        train=learned,
        train_window=DataWindow(dates=learned, due=None),
        evaluation=judged,
        evaluation_window=DataWindow(dates=judged, due=None),
        origin=date(origin),
        holdout=None,
        base=None,
        previous_candidate=None,
        matured_evaluation=matured,
        config_hash="c",
    )


@pytest.mark.parametrize(("asking", "is_right"), [(6, False), (7, True), (9, True)])
def test_a_model_is_asked_once_its_days_labels_are_final(asking: int, is_right: bool) -> None:
    assert has_matured(plan(5), date(asking), [CTR, CVR]) is is_right


def test_a_model_that_knows_no_late_label_is_not_asked() -> None:
    assert not has_matured(plan(5, origin=3), date(9), [CTR, CVR])
    assert has_matured(plan(6, origin=3), date(9), [CTR, CVR])


def test_models_stay_until_they_were_asked(tmp_path: Path) -> None:
    history = with_models(tmp_path, 1, 2, 3, 4, 5)
    for number in range(1, 6):
        publish(history, number)
    tonight, tasks = date(5), [CTR, CVR.model_copy(update={"matures_h": 72.0})]
    dropped = drop_old_models(
        tmp_path,
        history,
        keep_published=1,
        keep_nights=1,
        is_needed=lambda each: is_needed_later(each, tonight, tasks),
    )
    assert [path.name for path in dropped] == ["2024-01-01", "2024-01-02"]
    assert not is_needed_later(date(5), tonight, [CTR])


def test_a_night_learns_from_its_own_finding_and_those_before(tmp_path: Path) -> None:
    tasks: list[Task] = [CTR, CVR]
    old, late = [finding(2.0)], [finding(0.1)]  # beyond the newest two; of a later night
    for number, found in ((3, old), (4, [finding(0.5)]), (5, [finding(0.8)]), (9, late)):
        folder = NightlyFolder(tmp_path, date(number))
        folder.path.mkdir(parents=True)
        made = Recalibration(measurements=tuple(found), offsets={}, sentences={})
        folder.recalibration_file.write_text(made.model_dump_json())
    folder = NightlyFolder(tmp_path, date(7))
    folder.path.mkdir()
    made = recalibrate(RULES, tasks, plan(7), folder)
    two = [finding(0.5), finding(0.8)]
    assert made.offsets == {"cvr": offset_of(RULES, two)[0]}
    assert read_recalibration(folder) == made
    off = RecalibrationConfig(nights=0)
    assert recalibrate(off, tasks, plan(7), folder).offsets == {"cvr": 0.0}


def test_a_model_that_can_not_be_judged_costs_no_night(tmp_path: Path) -> None:
    """A real evaluation fails, of a checkpoint that was deleted."""
    tree = config_tree(tmp_path / "log", tmp_path)
    del tree["data"]["train"], tree["data"]["eval"]
    tree["data"]["time"] = "event_ms"
    tree["tasks"][1]["matures_h"] = 24
    tree["nightly"] = NIGHTLY
    gone = Model(
        night=date(3),
        trained_until=date(2),
        origin=date(1),
        checkpoint="nights/2024-01-03/train/checkpoints/step-000000007",
        manifest_sha256="b",
    )
    folder, said = NightlyFolder(tmp_path, date(4)), list[str]()
    stages.evaluate_matured(
        stages.NightlyRun(
            config=load_config(write_config(tree, tmp_path / "config.yaml"), []),
            plan=plan(4, matured=MaturedEvaluation(model=gone, days=(date(3), date(3)))),
            folder=folder,
            published=Published(tmp_path),
            data_root=str(tmp_path / "log"),
            profiles=cast(DayProfiles, None),  # of the data, which is not looked at
            is_stopped=lambda: False,
            log=said.append,
            fault_hook=lambda point: None,
        )
    )
    assert "the model of 2024-01-03 failed" in said[0]
    assert "step-000000007" in said[0]
    made = read_recalibration(folder)
    assert made is not None
    assert (made.measurements, made.offsets) == ((), {"cvr": 0.0})


# --- whole nights --------------------------------------------------------------------------------

_HOUR_MS = 3_600_000


def late_log(number: int) -> pa.Table:
    """Makes a log with half of the conversions within ten hours, the other half within twenty."""
    table = click_log(3000, seed=number)
    began = int(datetime.datetime(2024, 1, number, tzinfo=datetime.UTC).timestamp() * 1000)
    event = began + np.arange(len(table)) * (24 * _HOUR_MS) // len(table)
    delay = np.where(np.arange(len(table)) % 2, 9, 19) * _HOUR_MS
    converted = table["conversion"].to_numpy(zero_copy_only=False) == 1
    return table.append_column("event_ms", pa.array(event)).append_column(
        "conversion_ms", pa.array(event + delay, mask=~converted)
    )


@pytest.fixture(scope="module")
def two_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes runs that train on the days 1 and 2, then 3; CVR's labels are final after a day."""
    folder = tmp_path_factory.mktemp("late")
    log = write_days(folder / "log", {day(n): late_log(n) for n in range(1, 5)})
    tree = config_tree(log, folder / "runs")
    del tree["data"]["train"], tree["data"]["eval"]
    tree["data"] |= {"time": "event_ms", "time_unit": "ms"}
    tree["tasks"][1] |= {"matures_h": 24, "event_time": "conversion_ms", "logit_offset": -1.0}
    tree["evaluation"] = {"user": "user", "item": "item"}
    tree["nightly"] = NIGHTLY | {
        "export": None,
        "recalibration": {"nights": 3, "min_positives": 1, "max_offset": 5.0},
        "gate": {"defaults": {"binary": {"auc": None, "ne": None, "calibration": None},
                              "duration": {"xauc": None}},
                 "drift": {"max_score_psi": None, "max_score_ratio": None}},
    }  # fmt: skip
    config = write_config(tree, folder / "config.yaml")
    ended = nightly(config, "--date", day(3), "--until", day(4))
    assert ended.returncode == 0, ended.stderr
    return config


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_night_measures_what_was_served_and_moves_its_own_predictions(two_nights: Path) -> None:
    first, second = night(two_nights, 3), night(two_nights, 4)
    assert json.loads((first / "recalibration.json").read_text())["measurements"] == []
    assert not (first / "matured_evaluation").exists()

    made = json.loads((second / "recalibration.json").read_text())
    [found] = made["measurements"]
    assert (found["task"], found["night"], found["days"]) == ("cvr", day(3), [day(3), day(3)])
    rows = pq.ParquetFile(two_nights.parent / f"log/dt={day(3)}/part-00000.parquet").read()
    assert found["rows"] == np.sum(rows["click"].to_numpy() == 1)
    assert found["positives"] == np.nansum(rows["conversion"].to_numpy(zero_copy_only=False))
    # The config's offset of -1 makes predictions too low: measured, and corrected.
    assert found["calibration"] < 0.7
    assert found["offset"] == -1
    offset = made["offsets"]["cvr"]
    assert -0.5 < offset < 1.0
    trained = yaml.safe_load((second / "train.yaml").read_text())
    assert trained["tasks"][1]["logit_offset"] == pytest.approx(offset, abs=1e-6)
    assert _calibration(second / "evaluation") > 1.3 * _calibration(first / "evaluation")
    assert "Late labels of cvr" in (second / "night.html").read_text()
    assert f"The model of {day(3)} on its evaluation days" in (second / "night.html").read_text()


def _calibration(evaluation: Path) -> float:
    report = json.loads((evaluation / "report.json").read_text())
    [cvr] = [t for t in report["tasks"] if t["name"] == "cvr" and t["space"] == "observed"]
    return cvr["figures"]["calibration"]["value"]
