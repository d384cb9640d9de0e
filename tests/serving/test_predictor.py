"""Predictor against plain torch, its inputs in every form, and what it refuses, in plain words."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jobs.export.outputs import outputs_of
from marigold_rec.config.names import NAME_PATTERN
from marigold_rec.config.tasks import BinaryTask
from marigold_rec.errors import ConfigError, DataError
from marigold_rec.serving import Predictor
from tests.serving.artefacts import Model, eager, small_config
from tests.support.runs import click_log

FIRST = {"user": 5, "item": 7, "history": [3, 3, 149], "price": 2.5}


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(small_config())


@pytest.fixture(scope="module")
def predictor(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor(model.export(tmp_path_factory.mktemp("serving") / "artefact"))


@pytest.mark.parametrize("name", ["mmoe", "ple", "shared_bottom"])
@pytest.mark.parametrize("pooling", ["mean", "sum"])
def test_equals_the_training_modules(tmp_path: Path, name: str, pooling: str) -> None:
    tree = small_config().model_dump(mode="json")
    tree["features"][2]["pooling"] = pooling
    model = Model(
        small_config(features=tree["features"], model={"trunk": {"name": name}, "dropout": 0.3})
    )
    predictor = Predictor(model.export(tmp_path / "artefact"))
    log = click_log(257, seed=9)
    found, expected = predictor.predict(log), eager(model, log)
    for i, task in enumerate(predictor.artefact.predictions):
        assert found[task].dtype == np.float32
        np.testing.assert_allclose(found[task], expected[:, i], rtol=1e-6, atol=1e-6)
    assert np.ptp(found["ctr"]) > 0.1, "predictions that hardly differ would equal anything"


ENCODERS = [
    {"name": "mean"},
    {"name": "target_attention", "query": ["user"]},
    {"name": "transformer", "query": ["user"], "newest_first": True},
    {"name": "transformer"},
    {"name": "hstu", "query": ["user"]},
]


@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
def test_a_sequence_goes_through_the_same_encoder(tmp_path: Path, encoder: dict[str, Any]) -> None:
    """Empty histories, and batches without any id, included."""
    stages = {
        "sequences": {"history": encoder},
        "interactions": [{"name": "dcn_v2", "rank": 4}, {"name": "fm"}, {"name": "dot"}],
        "trunk": {"name": "mmoe"},
    }
    model = Model(small_config(model=stages))
    predictor = Predictor(model.export(tmp_path / "artefact"))
    log = click_log(100, seed=9)
    empty = log.filter(pa.array([not ids for ids in log["history"].to_pylist()]))
    assert 0 < empty.num_rows < log.num_rows
    for rows in (log, log.slice(0, 1), empty, empty.slice(0, 1)):
        found, expected = predictor.predict(rows), eager(model, rows)
        for i, name in enumerate(predictor.artefact.predictions):
            np.testing.assert_allclose(found[name], expected[:, i], rtol=1e-6, atol=1e-6)


def test_a_conversion_over_all_rows_is_the_product(predictor: Predictor) -> None:
    found = predictor.predict(click_log(40))
    assert list(found) == ["ctr", "cvr", "cvr_over_all_rows", "watch_time"]
    assert found["cvr_over_all_rows"].tobytes() == (found["ctr"] * found["cvr"]).tobytes()
    assert (found["watch_time"] >= 0).all()


def test_outputs_are_called_as_columns_are(predictor: Predictor) -> None:
    """Without blanks, which SQL and frames would have to quote."""
    assert [name for name in predictor.outputs if not re.fullmatch(NAME_PATTERN, name)] == []


def test_two_outputs_of_one_name_are_refused() -> None:
    ctr = BinaryTask(name="ctr", kind="binary", label="click")
    cvr = BinaryTask(name="cvr", kind="binary", label="conversion", given="ctr")
    taken = BinaryTask(name="cvr_over_all_rows", kind="binary", label="purchase")
    with pytest.raises(ConfigError, match=r"'cvr_over_all_rows'.*rename"):
        outputs_of((ctr, cvr, taken), ())
    with pytest.raises(ConfigError, match=r"'ctr_p90'.*rename"):
        outputs_of(
            (ctr, BinaryTask(name="ctr_p90", kind="binary", label="click")), [("ctr", "p90")]
        )


def test_one_row_has_the_same_bits_from_every_form(predictor: Predictor) -> None:
    """Whatever holds the rows, the arrays that reach the tables are the same."""
    log = click_log(33, seed=2)
    expected = predictor.predict(log)
    for form in (
        log.to_pandas(),
        log.to_pydict(),
        log.to_pylist(),
        {name: np.asarray(log.column(name)) for name in ("user", "item", "price")}
        | {"history": log.column("history").to_pylist()},
        pa.concat_tables([log.slice(0, 10), log.slice(10)]),
        log.select(["price", "history", "item", "user"]),
        log.to_pandas().convert_dtypes(),
        log.to_batches()[0],
    ):
        found = predictor.predict(form)
        assert {k: v.tobytes() for k, v in found.items()} == {
            k: v.tobytes() for k, v in expected.items()
        }, type(form)


def test_a_row_alone_is_the_row_in_a_batch_to_the_last_bits(predictor: Predictor) -> None:
    """The same batch gives the same bits; another batch size may round a matrix product anew."""
    log = click_log(64, seed=3)
    whole, again = predictor.predict(log), predictor.predict(log)
    assert all(whole[k].tobytes() == again[k].tobytes() for k in whole)
    for row in (0, 31, 63):
        alone = predictor.predict(log.slice(row, 1))
        for name, value in alone.items():
            np.testing.assert_allclose(value[0], whole[name][row], rtol=1e-6, atol=1e-6)


def test_more_rows_than_fit_at_once(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    log = click_log(100, seed=4)
    whole = predictor.predict(log)
    monkeypatch.setattr("marigold_rec.serving.predictor._ROWS_AT_ONCE", 37)
    for name, value in predictor.predict(log).items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [[], click_log(5).slice(0, 0), {"user": [], "item": [],
                                  "history": [], "price": []}])  # fmt: skip
def test_no_rows_give_no_predictions(predictor: Predictor, rows: Any) -> None:
    found = predictor.predict(rows)
    assert set(found) == set(predictor.outputs)
    assert all(value.shape == (0,) and value.dtype == np.float32 for value in found.values())


def test_labels_and_other_columns_are_not_needed(predictor: Predictor) -> None:
    assert predictor.columns == ("user", "item", "history", "price")
    bare = predictor.predict(click_log(9).select(list(predictor.columns)))
    full = predictor.predict(click_log(9))
    assert all(bare[k].tobytes() == full[k].tobytes() for k in full)


def test_a_null_is_what_it_was_in_training(predictor: Predictor, model: Model) -> None:
    """No id, and a dense feature's `missing`, also where a column has no value at all."""
    nothing = dict.fromkeys(FIRST)
    schema = click_log(1).select(list(FIRST)).schema
    expected = eager(model, pa.Table.from_pylist([nothing], schema=schema))
    for form in ([nothing], nothing, pd.DataFrame([nothing]), [nothing | {"history": []}]):
        found = predictor.predict(form)
        np.testing.assert_allclose(found["ctr"], expected[:, 0], rtol=1e-6)
    counts = predictor.predict_counted([nothing, FIRST]).counts
    assert counts == {
        "missing/user": 1, "missing/item": 1, "missing/history": 1, "missing/price_band": 1,
        "missing/price": 1,
    }  # fmt: skip


def test_a_column_that_held_no_value_in_training_may_be_of_any_kind(
    predictor: Predictor, model: Model, tmp_path: Path
) -> None:
    """A column of type null, or of lists of it, was neither numbers nor text."""
    trained_on = click_log(1).schema
    for name, kind in (("user", pa.null()), ("history", pa.list_(pa.null()))):
        trained_on = trained_on.set(trained_on.get_field_index(name), pa.field(name, kind))
    of_nulls = Predictor(model.export(tmp_path / "artefact", schema=trained_on))
    for user in (5, "5"):
        found = of_nulls.predict([FIRST | {"user": user}])
        assert np.isfinite(found["ctr"]).all()
    with pytest.raises(DataError, match=r"'user' is .*text.*in training it was numbers"):
        predictor.predict([FIRST | {"user": "5"}])


def test_a_row_of_single_values(tmp_path: Path) -> None:
    features = [f for f in small_config().model_dump(mode="json")["features"] if
                f["name"] != "history"]  # fmt: skip
    predictor = Predictor(Model(small_config(features=features)).export(tmp_path / "artefact"))
    row = {k: v for k, v in FIRST.items() if k != "history"}
    alone, listed = predictor.predict(row), predictor.predict([row])
    assert all(alone[k].tobytes() == listed[k].tobytes() for k in alone)
    assert alone["ctr"].shape == (1,)


def _frame(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame({k: [v] for k, v in FIRST.items()}).assign(**changes)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({}, "none of the model's columns is there; expected user, item, history, price"),
        ([FIRST, {k: v for k, v in FIRST.items() if k != "item"}], "row 1 has no 'item'"),
        ([{"usr" if k == "user" else k: v for k, v in FIRST.items()}], "did you mean 'usr'"),
        ({k: [v] for k, v in FIRST.items() if k != "price"}, "there is no column 'price'"),
        (FIRST, "'user' is one value and 'history' is a list; give one row as"),
        ({k: [v] for k, v in FIRST.items()} | {"user": [1, 2]}, "different numbers of rows"),
        (_frame(user="5"), "column 'user' is .*string .text.; in training it was numbers"),
        (_frame(user=5.0), "a hash feature needs an integer.*Int64"),
        (_frame(item="x"), "column 'item' is .*an id feature needs an integer"),
        (_frame(price="dear"), "column 'price' is .*a dense feature needs a number"),
        (_frame(history=3), "column 'history' is int64 .numbers.; in training it was lists"),
        (_frame(item=150), "ids in column 'item' are outside"),
        ([FIRST | {"history": [1, "a"]}], "column 'history' can't be read as one type"),
        (click_log(2).append_column("user", pa.array([1, 2])), "'user' is there more than once"),
        (3, "found int, expected a pyarrow.Table, a pandas.DataFrame"),
        ([1, 2], "found list, expected"),
    ],
)
def test_refusals(predictor: Predictor, rows: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        predictor.predict(rows)


def test_many_threads_at_once(predictor: Predictor) -> None:
    logs = [click_log(50 + i, seed=i) for i in range(6)]
    expected = [predictor.predict(log) for log in logs]
    wrong: list[str] = []
    start = threading.Barrier(6)

    def work(i: int) -> None:
        start.wait()
        for _ in range(20):
            found = predictor.predict(logs[i])
            wrong.extend(k for k in found if found[k].tobytes() != expected[i][k].tobytes())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
