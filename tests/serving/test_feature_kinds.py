"""Kinds that read several columns, from the artefact alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from marigold_rec.errors import DataError
from marigold_rec.serving import Predictor
from tests.serving.artefacts import Model, eager, small_config
from tests.support.parquet import TASKS, click_log

KINDS: list[dict[str, Any]] = [
    {"name": "country", "kind": "vocab", "values": ["br", "pt"], "dim": 8},
    {"name": "flag_id", "kind": "id", "column": "flag", "rows": 2},
    {
        "name": "x",
        "kind": "cross",
        "of": ["country", "seen", "flag_id", {"column": "amount", "kind": "bucketize",
                                              "boundaries": [0]}],
        "rows": 1009,
    },
    {"name": "near", "kind": "overlap", "item": "item", "list": "seen", "gives": "nearest",
     "missing": 60, "transform": "log1p"},
]  # fmt: skip


@pytest.fixture(scope="module")
def log() -> pa.Table:
    return click_log(300, seed=6)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(small_config(features=KINDS, tasks=TASKS))


@pytest.fixture(scope="module")
def predictor(model: Model, log: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("kinds") / "artefact"
    return Predictor(model.export(folder, schema=log.schema))


def test_predictions_equal_the_trained_model(
    model: Model, predictor: Predictor, log: pa.Table
) -> None:
    found = predictor.predict_counted(log)
    expected_BT = eager(model, log)
    for place, name in enumerate(("ctr", "cvr", "watch")):
        assert np.allclose(found.values[name], expected_BT[:, place], rtol=1e-5, atol=1e-6), name
    assert found.counts["missing/x"] > 0
    one = predictor.predict(log.slice(7, 1).to_pylist())
    assert one["ctr"] == pytest.approx(found.values["ctr"][7:8], rel=1e-5)


def test_a_column_of_a_cross_is_asked_for_by_its_name(predictor: Predictor, log: pa.Table) -> None:
    with pytest.raises(DataError, match=r"column 'amount'"):
        predictor.predict(log.drop_columns(["amount"]))


def test_columns_without_a_value_are_taken_for_what_they_were(
    predictor: Predictor, log: pa.Table
) -> None:
    rows = log.slice(0, 3).to_pylist()
    empty = [row | {"country": None, "seen": None} for row in rows]
    assert predictor.predict_counted(empty).counts["missing/x"] == 6
