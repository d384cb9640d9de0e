"""`kind: overlap` against plain Python, and the columns that it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marigold_rec.config.loading import config_from
from marigold_rec.errors import ConfigError
from marigold_rec.transforms import FeatureTransforms
from tests.support.parquet import FEATURES, TASKS, log_config

KINDS = {
    "small": (pa.int16(), st.integers(-3, 3)),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "text": (pa.string(), st.sampled_from(["", "a", "b", "日本"])),
}


def overlap(**settings: Any) -> dict[str, Any]:
    return {"name": "o", "kind": "overlap", "item": "i", "list": "l", "missing": -7.0, **settings}


def apply(feature: dict[str, Any], item: pa.Array, ids: pa.Array) -> tuple[list[float], Any]:
    config = log_config(features=[feature])
    transforms = FeatureTransforms(config.features, ())
    table = pa.table({"i": item, "l": ids})
    assert transforms.check_types(table.schema) == []
    found = transforms(table)
    return found.dense_BD[:, 0].tolist(), found.counts


def expected(feature: dict[str, Any], item: Any, ids: list[Any] | None) -> float | None:
    """None: missing."""
    ids = [i for i in ids or [] if i is not None]
    if item is None:
        return None
    if feature["gives"] == "nearest":
        return float(min(abs(item - i) for i in ids)) if ids else None
    within = feature.get("within", 0)
    hits = [i == item if within == 0 else abs(item - i) <= within for i in ids]
    if feature["gives"] == "count":
        return float(sum(hits))
    hits = hits if feature.get("newest", "first") == "first" else hits[::-1]
    return 1.0 / (hits.index(True) + 1) if True in hits else 0.0


@given(st.data(), st.sampled_from(sorted(KINDS)))
def test_an_overlap_equals_plain_python(data: st.DataObject, kind: str) -> None:
    value_type, one = KINDS[kind]
    gives = ["count", "recency"] if kind == "text" else ["count", "recency", "nearest"]
    feature = overlap(gives=data.draw(st.sampled_from(gives)))
    if kind != "text":
        feature["within"] = data.draw(st.sampled_from([0, 1, 2**40]))
    feature["newest"] = data.draw(st.sampled_from(["first", "last"]))
    rows = data.draw(st.lists(st.tuples(st.none() | one, st.none() | st.lists(st.none() | one))))
    item = pa.array([row[0] for row in rows], value_type)
    ids = pa.array([row[1] for row in rows], pa.list_(value_type))
    found, counts = apply(feature, item, ids)
    wanted = [expected(feature, *row) for row in rows]
    assert found == [float(np.float32(-7.0 if x is None else x)) for x in wanted]
    assert counts == ({"missing/o": wanted.count(None)} if None in wanted else {})


def test_numbers_are_transformed_as_a_dense_feature() -> None:
    feature = overlap(gives="nearest", transform="log1p", clip=[0.0, 5.0], missing=1e6,
                      standardize={"mean": 1.0, "std": 2.0})  # fmt: skip
    found, _ = apply(feature, pa.array([1, 2, 3]), pa.array([[4], [10**6], []]))
    assert found == [float(np.float32((x - 1) / 2)) for x in (math.log(4), 5.0, 5.0)]


def test_columns_without_any_value_are_legal() -> None:
    nothing = pa.array([None, None])
    for gives, value in (("count", 0.0), ("recency", 0.0), ("nearest", -7.0)):
        assert apply(overlap(gives=gives), pa.array([1, 2]), nothing)[0] == [value] * 2
    empty = pa.array([[], None], pa.list_(pa.null()))
    assert apply(overlap(), pa.array(["a", "b"]), empty)[0] == [0.0, 0.0]
    assert apply(overlap(), nothing, pa.array([["a"], ["b"]]))[0] == [-7.0] * 2


@pytest.mark.parametrize(
    ("settings", "item", "ids", "told"),
    [
        ({}, pa.int64(), pa.list_(pa.string()), r"list: column 'l' .* write them alike"),
        ({}, pa.int64(), pa.list_(pa.uint64()), r"list: column 'l'"),
        ({}, pa.int64(), pa.int64(), "column 'l' is int64; an overlap feature needs a list"),
        ({}, pa.float32(), pa.list_(pa.int64()), "column 'i' is float; .*nullable integer"),
        ({"within": 3}, pa.string(), pa.list_(pa.string()), "column 'i' is string"),
        ({"gives": "nearest"}, pa.int8(), pa.list_(pa.string()), "column 'l' is list<.*string>"),
    ],
)
def test_columns_that_do_not_fit_are_told(
    settings: dict[str, Any], item: pa.DataType, ids: pa.DataType, told: str
) -> None:
    transforms = FeatureTransforms(log_config(features=[overlap(**settings)]).features, ())
    problems = transforms.check_types(pa.schema([("i", item), ("l", ids)]))
    with pytest.raises(ValueError, match=told):
        raise ValueError(problems[0])


def test_nearest_asks_for_the_distance_to_an_empty_list() -> None:
    feature = overlap(gives="nearest")
    del feature["missing"]
    with pytest.raises(ConfigError, match=r"features\.o: missing: give a value"):
        config_from({"features": [*FEATURES, feature], "tasks": TASKS}, (), where="a test")
