"""`kind: cross` against plain Python, and what a config of crosses is refused for."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marigold_rec.config import Config
from marigold_rec.config.dumping import dump_config
from marigold_rec.config.loading import config_from
from marigold_rec.config.yaml_text import parse_yaml
from marigold_rec.errors import ConfigError
from marigold_rec.transforms import FeatureTransforms
from tests.support.feature_oracle import expected_rows
from tests.support.parquet import FEATURES, TASKS, click_log, log_config

PARTS: list[Any] = [
    "user", "big", "name", "shelf", "age", "country", "row_id",
    {"column": "amount", "kind": "bucketize", "boundaries": [-1, 2.5]},
    {"column": "flag", "kind": "hash"},
]  # fmt: skip
LISTS = ["friends", "tags", "seen", "prices", "codes"]


def cross(*of: Any, **settings: Any) -> dict[str, Any]:
    return {"name": "x", "kind": "cross", "of": list(of), "rows": 1009, **settings}


def tree_of(*added: dict[str, Any]) -> dict[str, Any]:
    return {"features": [*FEATURES, *added], "tasks": TASKS}


def config_of(*added: dict[str, Any]) -> Config:
    return log_config(features=[*FEATURES, *added])


def bags(config: Config, table: pa.Table, feature: str) -> tuple[list[list[int]], dict[str, int]]:
    transforms = FeatureTransforms(config.features, config.tables)
    assert transforms.check_types(table.schema) == []
    found = transforms(table)
    ids = found.sparse[[f.name for f in config.sparse_features].index(feature)]
    lengths = np.ones(table.num_rows, int) if ids.lengths is None else ids.lengths
    assert lengths.sum() == len(ids.values)
    return [part.tolist() for part in np.split(ids.values, np.cumsum(lengths)[:-1])], found.counts


@given(
    st.lists(st.sampled_from(range(len(PARTS))), min_size=2, max_size=4),
    st.sampled_from([None, *LISTS]),
    st.integers(0, 4),
    st.integers(0, 5),
    st.integers(0, 40),
)
def test_a_cross_equals_plain_python(
    parts: list[int], list_part: str | None, place: int, seed: int, rows: int
) -> None:
    of = [PARTS[part] for part in dict.fromkeys(parts)]
    if list_part is not None or len(of) < 2:
        of.insert(place, list_part or "country")
    config, table = config_of(cross(*of)), click_log(rows, seed)
    found, _ = bags(config, table, "x")
    assert found[:rows] == [row.bags["x"] for row in expected_rows(table, config)]


def test_order_table_and_part_each_change_the_rows() -> None:
    table = pa.table({"a": [1, 2, 3] * 9, "b": list(range(27))})
    features = [
        cross("a", "b"),
        cross("b", "a") | {"name": "turned"},
        cross("a", "b") | {"name": "other"},
        cross("a", "b") | {"name": "same", "table": "x"},
        {"name": "a", "kind": "hash", "rows": 5, "column": "b"},
    ]
    config = log_config(features=features)
    found = {name: bags(config, table, name)[0] for name in ("x", "turned", "other", "same")}
    assert found["x"] == found["same"] != found["turned"]
    assert found["x"] != found["other"]
    # `a` names the feature, which reads column b; without it, the column.
    own = log_config(features=features[:1])
    assert bags(own, table, "x")[0] != found["x"]


def test_what_is_missing_in_a_part_is_missing_and_counted() -> None:
    of = ["a", {"column": "f", "kind": "bucketize", "boundaries": [0]}, "l"]
    table = pa.table(
        {
            "a": pa.array([1, None, 3, 4, 5]),
            "f": [0.0, 1.0, float("nan"), 1.0, 1.0],
            "l": pa.array([[1, None], [2], [3, 4], None, []], pa.list_(pa.int32())),
        }
    )
    found, counts = bags(log_config(features=[cross(*of)]), table, "x")
    assert [len(bag) for bag in found] == [1, 0, 0, 0, 0]
    assert counts == {"missing/x": 4}


def test_hashed_values_stay_apart_where_their_table_joins_them() -> None:
    config = log_config(features=[cross("u", "v", rows=10**9), {"name": "u", "kind": "hash",
                                                              "rows": 1}])  # fmt: skip
    found, _ = bags(config, pa.table({"u": range(50), "v": [1] * 50}), "x")
    assert len({bag[0] for bag in found}) == 50


def test_rows_spread_evenly_over_a_grid() -> None:
    first, second = np.divmod(np.arange(16_000), 160)
    config = log_config(features=[cross("a", "b", rows=16)])
    found, _ = bags(config, pa.table({"a": first, "b": second}), "x")
    counts = np.bincount(np.ravel(found), minlength=16)
    assert counts.min() > 850  # 1000 expected, standard deviation 31
    assert counts.max() < 1150


def test_the_effective_config_and_a_pickle_know_the_parts() -> None:
    config = config_from(tree_of(cross(*PARTS[2:])), (), where="a test")
    again = config_from(parse_yaml(dump_config(config), "it"), (), where="it")
    assert again == config
    table = click_log(30, seed=2)
    transforms = pickle.loads(pickle.dumps(FeatureTransforms(config.features, config.tables)))
    place = [f.name for f in config.sparse_features].index("x")
    assert transforms(table).sparse[place].values.tolist() == [
        row for bag in bags(again, table, "x")[0] for row in bag
    ]
    by_hand = config_from(tree_of(cross(*PARTS[2:])), ["features.country.values=[jp]"], where="")
    assert bags(by_hand, table, "x")[0] != bags(config, table, "x")[0]


@pytest.mark.parametrize(
    ("of", "told"),
    [
        (["country"], r"x\.of: .* at least 2"),
        (["country", 3], r"x\.of\.1: found 3"),
        (["country", "plain"], r"x\.of: 'plain' is of kind dense.*kind: bucketize"),
        (["country", "pair"], r"x\.of: 'pair' is of kind cross"),
        (["country", {"column": "amount", "kind": "dense"}], r"x\.of: 'amount' is of kind dense"),
        (["country", {"column": "a", "kind": "hash", "dim": 8}], r"x\.of\.1\.dim: .* remove it"),
        (["country", {"column": "a", "kind": "hsh"}], r"x\.of\.1\.kind: .*'hash'"),
        (["country", {"column": "a", "kind": "vocab", "vals": [1]}], r"x\.of\.1\.vals: .*'values'"),
        (["country", {"kind": "hash"}], r"x\.of\.1\.name: missing"),
        (["country", *[{"column": "a", "kind": "hash"}] * 2], r"x\.of: two parts are called 'a'"),
        (["country", "click"], r"x: its column 'click' is an outcome of task 'ctr'"),
    ],
)
def test_a_wrong_part_is_refused(of: list[Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        config_from(tree_of(cross(*of)), (), where="a test")


@pytest.mark.parametrize(
    ("of", "told"),
    [
        (["country", "amount"], "x: column 'amount' is float; .*kind: bucketize"),
        (["friends", "seen"], r"x\.of: columns 'friends' and 'seen' hold lists"),
        (["country", "cuntry"], "x: there is no column 'cuntry'; did you mean 'country'"),
    ],
)
def test_a_wrong_column_is_refused(of: list[str], told: str) -> None:
    config = config_of(cross(*of))
    [problem] = FeatureTransforms(config.features, config.tables).check_types(click_log(1).schema)
    assert re.match(rf"features\.{told}", problem)


def settings_of(*of: Any, rows: int = 1009, **country: Any) -> Any:
    features = [cross(*of, rows=rows), {"name": "c", "kind": "vocab", "values": ["a", "b"],
                                        **country}]  # fmt: skip
    return log_config(features=features).features[0]


def test_a_table_is_carried_on_where_its_parts_mean_the_same() -> None:
    old = settings_of("c", "u")
    assert old.carried_rows(settings_of("c", "u"), 1009, 1009) == [(0, 0, 1009)]
    assert len(old.carried_rows(settings_of("c", "u"), 1009, 2018)) == 2
    grown = settings_of("c", "u", values=["a", "b", "d"])
    assert grown.carried_rows(old, 1009, 1009)
    for other, rows, told in [
        (settings_of("u", "c"), 1009, "order"),
        (settings_of("c", "v"), 1009, "others"),
        (settings_of("c", "u", values=["b", "a"]), 1009, "its part 'c'"),
        (settings_of({"column": "c", "kind": "hash"}, "u"), 1009, "was of kind vocab"),
        (old, 1500, "no multiple"),
        (old, 500, "has only 500"),
    ]:
        with pytest.raises(ValueError, match=told):
            other.carried_rows(old, 1009, rows)


def test_crosses_share_a_table_only_where_their_parts_mean_the_same() -> None:
    one = {"name": "c", "kind": "vocab", "values": ["a", "b"]}
    two = {"name": "d", "kind": "vocab", "values": ["b", "a"]}
    other = {"name": "y", "kind": "cross", "table": "x"}
    features = [cross("c", "u"), other | {"of": ["c", "history"]}, one, two]
    assert log_config(features=features).tables[0].features == ("x", "y")
    wrong = [cross("c", "u"), other | {"of": ["d", "u"]}, one, two]
    with pytest.raises(ConfigError, match=r"table 'x': .*different settings"):
        config_from({"features": wrong, "tasks": TASKS}, (), where="a test")
