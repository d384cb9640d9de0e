"""Windows of due labels in the config: what is read, and what is refused."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from data_pipelines.labels.due import needs_time
from marigold_rec.checkpoint import config_differences
from marigold_rec.config import Config, dump_config, load_config
from marigold_rec.config.loading import config_from
from marigold_rec.errors import ConfigError
from tests.support.runs import config_tree

UTC = datetime.UTC


def loaded(*overrides: str) -> Config:
    return config_from(config_tree(Path("/log"), Path("/runs")), overrides, where="test")


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        loaded(*overrides)
    return list(refused.value.problems)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-05", datetime.datetime(2024, 1, 5, tzinfo=UTC)),
        ("2024-01-05T06:30:00Z", datetime.datetime(2024, 1, 5, 6, 30, tzinfo=UTC)),
        ("2024-01-05 06:30:00", datetime.datetime(2024, 1, 5, 6, 30, tzinfo=UTC)),
        ("2024-01-05T06:30:00+02:00", datetime.datetime(2024, 1, 5, 4, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_is_one_in_utc(text: str, expected: datetime.datetime, tmp_path: Path):
    config = loaded("data.time=at", f"data.train.due=['{text}', 2024-02-01]")
    assert config.data.train.due is not None
    assert config.data.train.due[0] == expected
    assert config.data.train.due[0].tzinfo == UTC
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(config))
    assert load_config(file) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "data.train.due=[2024-01-05, 2024-13-01]",
            "data.train.due.1: found '2024-13-01'; it must be a day or moment, "
            "YYYY-MM-DD[THH:MM:SS[Z]]",
        ),
        (
            "data.train.due=[5, 2024-01-06]",
            "data.train.due.0: found 5; it must be a day or moment, YYYY-MM-DD[THH:MM:SS[Z]]",
        ),
        (
            "data.train.due=[2024-01-05, '2024-01-05T00:00:00Z']",
            "data.train: due must rise: since 2024-01-05T00:00:00+00:00 is not before until "
            "2024-01-05T00:00:00+00:00",
        ),
        ("tasks.cvr.matures_h=-1", "tasks.cvr.matures_h: found -1; it must be at least 0"),
        (
            "data.time_unit=min",
            "data.time_unit: found 'min'; it must be 's', 'ms', 'us' or 'ns'",
        ),
    ],
)
def test_values_that_are_none(override: str, message: str):
    assert problems("data.time=at", override) == [message]


def test_a_watch_time_has_no_event():
    (problem,) = problems("data.time=at", "tasks.watch_time.event_time=when")
    assert problem.startswith("tasks.watch_time.event_time: unknown key; ")


def test_due_and_events_need_the_rows_times():
    assert problems(
        "data.train.due=[2024-01-01, 2024-01-02]",
        "tasks.cvr.event_time=bought_ms",
        "tasks.cvr.matures_h=24",
    ) == [
        "data.time: missing; data.train.due and tasks.cvr.event_time count from the rows' event "
        "times: name the column that holds them"
    ]


def test_an_event_needs_a_window():
    assert problems("data.time=at", "tasks.cvr.event_time=bought_ms") == [
        "tasks.cvr.event_time: matures_h is 0, so that no later event would count; set it to the "
        "hours that an event may come after its row"
    ]


def test_when_a_label_came_true_is_no_feature():
    (problem,) = problems(
        "data.time=at",
        "tasks.cvr.event_time=price",
        "tasks.cvr.matures_h=24",
        "features.price_band.column=other",
    )
    assert problem.startswith("features.price: its column 'price' is an outcome of task 'cvr'")


def test_labels_within_a_day_and_within_a_week_are_no_twins():
    day = "tasks=[{name: day, kind: binary, label: c, event_time: t, matures_h: 24}, "
    loaded("data.time=at", day + "{name: week, kind: binary, label: c, event_time: t, "
           "matures_h: 168}]")  # fmt: skip
    (problem,) = problems(
        "data.time=at",
        "tasks=[{name: day, kind: binary, label: c, matures_h: 24}, "
        "{name: week, kind: binary, label: c, matures_h: 168}]",
    )
    assert "has the same kind, label and observed_if as task 'day'" in problem


def test_evaluation_begins_where_training_ends():
    splits = ("data.time=at", "data.train.due=[2024-01-01, 2024-01-03]")
    # The days may be shared then: the same rows, but labels that were not due before.
    loaded(*splits, "data.eval={dates: [2024-01-01, 2024-01-03], due: [2024-01-03, 2024-01-04]}")
    assert problems(*splits, "data.eval.due=['2024-01-02T23:59:59Z', 2024-01-04]") == [
        "data.eval.due: begins at 2024-01-02T23:59:59+00:00, but data.train.due runs to "
        "2024-01-03T00:00:00+00:00; evaluation must begin where training ends, or later"
    ]
    (problem,) = problems(*splits, "data.eval.dates=[2024-01-01, 2024-01-03]")
    assert problem.startswith("data.eval.dates: evaluation starts on 2024-01-01, but training")


def test_who_needs_times():
    assert not needs_time(loaded())
    assert not needs_time(loaded("tasks.cvr.matures_h=24"))
    assert needs_time(loaded("data.time=at", "data.eval.due=[2024-01-03, 2024-01-04]"))
    event = ("data.time=at", "tasks.cvr.event_time=t", "tasks.cvr.matures_h=24")
    assert needs_time(loaded(*event))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("data.train.due=[2024-01-01, 2024-01-03]", "data.train.due"),
        ("tasks.cvr.matures_h=47", "tasks.cvr.matures_h"),
        ("tasks.cvr.event_time=other", "tasks.cvr.event_time"),
        ("data.time=other", "data.time"),
        ("data.time_unit=s", "data.time_unit"),
    ],
)
def test_a_resume_may_not_change_which_labels_count(change: str, key: str):
    settings = (
        "data.time=at",
        "data.time_unit=ms",
        "data.train.due=[2024-01-01, 2024-01-02]",
        "tasks.cvr.matures_h=48",
        "tasks.cvr.event_time=bought_ms",
    )
    then = loaded(*settings).model_dump(mode="json")
    assert config_differences(then, loaded(*settings)) == []
    (line,) = config_differences(then, loaded(*settings, change))
    assert line.startswith(f"{key}: ")
    assert (
        config_differences(then, loaded(*settings, "data.eval.due=[2024-01-02, 2024-01-03]")) == []
    )


def test_without_due_labels_the_time_column_stays_free():
    then = loaded().model_dump(mode="json")
    assert config_differences(then, loaded("data.time=at")) == []
