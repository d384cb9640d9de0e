"""What is judged, against the same written row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from marigold_rec.analysis.score_files import ScoreFiles, ScoreWriter
from marigold_rec.analysis.targets import Target, targets_of, without_whole_space
from marigold_rec.config.tasks import Task


def _task(
    name: str,
    label: str,
    observed_if: str | None = None,
    kind: str = "binary",
    given: str | None = None,
) -> Task:
    return TypeAdapter(Task).validate_python(
        {"name": name, "label": label, "observed_if": observed_if, "kind": kind, "given": given}
    )


_CTR = _task("ctr", "click")
_CVR = _task("cvr", "conversion", "click", given="ctr")
_WATCH = _task("watch_time", "watch_s", "conversion", "duration", "cvr")


def test_a_conversion_is_judged_on_clicks_and_on_all_rows() -> None:
    found = targets_of([_WATCH, _CVR, _CTR])
    assert [target.name for target in found] == ["watch_time", "cvr", "cvr over all rows", "ctr"]
    assert [target.space for target in found] == ["observed", "observed", "all", "observed"]
    assert [target.observed_if for target in found] == ["conversion", "click", None, None]
    whole = found[2]
    assert whole.tasks == ("ctr", "cvr")
    assert whole.label == "click and conversion"
    assert whole.kind == "binary"


@pytest.mark.parametrize(
    "tasks",
    [
        (_task("ctr", "click", "seen"), _CVR),
        (_task("ctr", "click"), _task("cvr", "conversion", "click")),
        (_task("ctr", "click"), _task("watch_time", "watch_s", "click", "duration", "ctr")),
    ],
)
def test_without_a_click_on_all_rows_there_is_no_whole_space(tasks: tuple[Task, ...]) -> None:
    assert [target.name for target in targets_of(tasks)] == [task.name for task in tasks]


def test_two_steps_are_multiplied() -> None:
    purchase = _task("purchase", "purchase", "conversion", given="cvr")
    found = targets_of([_CTR, _CVR, purchase])
    assert [target.name for target in found] == [
        "ctr", "cvr", "cvr over all rows", "purchase", "purchase over all rows",
    ]  # fmt: skip
    assert found[-1].tasks == ("ctr", "cvr", "purchase")


_ROWS = [
    # click, conversion, their scores; what is expected over all rows: label, score
    (0.0, None, 0.5, 0.5, 0.0, 0.25),
    (1.0, 0.0, 0.75, 0.5, 0.0, 0.375),
    (1.0, 1.0, 1.0, 0.125, 1.0, 0.125),
    (1.0, None, 0.5, 1.0, np.nan, 0.5),  # clicked, and the conversion's label is invalid
    (None, None, 0.5, 0.25, np.nan, 0.125),
    (None, 1.0, 0.25, 0.25, np.nan, 0.0625),
]


@pytest.fixture
def files(tmp_path: Path) -> ScoreFiles:
    table = [[np.nan if value is None else value for value in row] for row in _ROWS]
    columns = np.array(table, np.float32)
    writer = ScoreWriter(tmp_path, rank=0, world_size=1, tasks=("ctr", "cvr"), columns={})
    labels_BT = columns[:, :2]
    writer.add(columns[:, 2:4], labels_BT, ~np.isnan(labels_BT), np.ones(6, np.float32), {})
    writer.close()
    return ScoreFiles(tmp_path)


def test_the_whole_space_row_by_row(files: ScoreFiles) -> None:
    whole = targets_of([_CTR, _CVR])[2]
    expected = np.array([row[4:] for row in _ROWS], np.float32)
    np.testing.assert_array_equal(whole.label_of(files), expected[:, 0])
    np.testing.assert_array_equal(whole.score(files), expected[:, 1])
    assert whole.score(files).dtype == np.float32


def test_the_observed_space_is_the_task_itself(files: ScoreFiles) -> None:
    cvr = targets_of([_CTR, _CVR])[1]
    assert isinstance(cvr, Target)
    np.testing.assert_array_equal(cvr.label_of(files), files.label("cvr"))
    np.testing.assert_array_equal(cvr.score(files), files.score("cvr"))
    assert pa.array(cvr.label_of(files)).null_count == 0


def test_in_a_window_of_due_labels_a_late_conversion_has_no_whole_space() -> None:
    """Clicks and conversions are due on other rows: only rows without a click would be left."""
    late = _CVR.model_copy(update={"matures_h": 48.0})
    assert [t.name for t in targets_of([_CTR, late], has_due=True)] == ["ctr", "cvr"]
    assert [t.name for t in targets_of([_CTR, late])] == ["ctr", "cvr", "cvr over all rows"]
    (reason,) = without_whole_space([_CTR, late])
    assert reason.startswith(
        "no figures of cvr over all rows: in a window of due labels (data.eval.due) ctr (due after "
        "0 h) and cvr (due after 48 h) are observed on other rows"
    )
    click = _CTR.model_copy(update={"matures_h": 48.0})
    assert len(targets_of([click, late], has_due=True)) == 3
    assert without_whole_space([click, late]) == []
    assert without_whole_space([_CTR, _CVR]) == []
