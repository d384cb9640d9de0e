"""Flags, columns, users and slices of launch/evaluate.py, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from data_pipelines.catalog.catalog import Catalog
from data_pipelines.catalog.scan import scan
from data_pipelines.preflight.evaluation_columns import columns_of
from jobs.evaluation.arguments import parse_arguments
from jobs.evaluation.clusters import cluster_codes, null_warnings, slicings_of
from jobs.evaluation.training_log import training_log
from marigold_rec.analysis.score_files import ScoreFiles, ScoreWriter
from marigold_rec.config.schema import EvaluationConfig
from marigold_rec.errors import DataError


def _catalog(folder: Path, **columns: Any) -> Catalog:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / "0.parquet", row_group_size=3)
    return scan(str(folder))


def _scored(folder: Path, **columns: pa.Array) -> ScoreFiles:
    """Scored rows in two parts of several row groups."""
    folder.mkdir(exist_ok=True)
    size = len(next(iter(columns.values())))
    kinds = {name: column.type for name, column in columns.items()}
    for rank, row_n in enumerate(np.array_split(np.arange(size), 2)):
        writer = ScoreWriter(folder, rank=rank, world_size=2, tasks=("ctr",), columns=kinds)
        part = {name: column.take(pa.array(row_n)) for name, column in columns.items()}
        ones = np.ones((len(row_n), 1), np.float32)
        writer.add(ones, ones, ones > 0, ones[:, 0], part)
        writer.close()
    return ScoreFiles(folder)


class TestArguments:
    def test_flags_become_overrides(self) -> None:
        found = parse_arguments(
            "",
            ["--checkpoint", "runs/a", "evaluation.confidence=0.9", "--data", "it's: [x]",
             "--slices", " country, 7,,it's", "--out", "o", "data.eval.dates=null"],
        )  # fmt: skip
        assert found.checkpoint == Path("runs/a")
        assert found.out == Path("o")
        assert found.baseline is None
        assert not found.keep_scores
        values = {k: yaml.safe_load(v) for k, v in (x.split("=", 1) for x in found.overrides)}
        assert values == {
            "data.eval.path": "it's: [x]",
            "evaluation.slices": ["country", "7", "it's"],
            "evaluation.confidence": 0.9,
            "data.eval.dates": None,
        }

    def test_nothing_is_overridden_unasked(self) -> None:
        found = parse_arguments(
            "", ["--checkpoint", "a", "--out", "o", "--baseline", "b", "--keep-scores"]
        )
        assert found.overrides == ()
        assert found.baseline == Path("b")
        assert found.keep_scores

    def test_what_is_typed_last_wins(self) -> None:
        found = parse_arguments(
            "", ["--checkpoint", "a", "--out", "o", "data.eval.path=there", "--data", "here"]
        )
        assert found.overrides == ("data.eval.path='here'", "data.eval.path=there")

    @pytest.mark.parametrize("argv", [[], ["--out", "o"], ["--checkpoint", "a", "--ouch"]])
    def test_wrong_flags_end_with_2(self, argv: list[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            parse_arguments("", argv)


class TestColumns:
    def test_each_column_travels_once(self, tmp_path: Path) -> None:
        catalog = _catalog(tmp_path / "log", user_id=[1], item_id=[2], slate=[3], country=["PT"])
        config = EvaluationConfig(group="slate", slices=("country", "user_id", "country"))
        found, warnings = columns_of(config, catalog)
        assert found == ["country", "user_id", "item_id", "slate"]
        assert warnings == []

    def test_what_is_not_there_costs_its_figures(self, tmp_path: Path) -> None:
        catalog = _catalog(tmp_path / "log", x=[1])
        config = EvaluationConfig(user="visitor", item="product", group="slate")
        found, warnings = columns_of(config, catalog)
        assert found == []
        for warning, key, column in zip(
            warnings, ("user", "item", "group"), ("visitor", "product", "slate"), strict=True
        ):
            assert warning.startswith(f"evaluation.{key}: ")
            assert f"no column {column}" in warning

    def test_defaults_that_are_not_there_are_nobodys_mistake(self, tmp_path: Path) -> None:
        catalog = _catalog(tmp_path / "log", x=[1])
        assert columns_of(EvaluationConfig(), catalog) == ([], [])
        found, [warning] = columns_of(EvaluationConfig(user="visitor"), catalog)
        assert (found, "evaluation.user" in warning) == ([], True)
        nothing = EvaluationConfig(user=None, item=None)
        assert columns_of(nothing, catalog) == ([], [])

    def test_slices_that_are_not_there_are_refused(self, tmp_path: Path) -> None:
        catalog = _catalog(tmp_path / "log", b=[1], a=[2])
        with pytest.raises(DataError, match="has no column x, y; its columns are a, b"):
            columns_of(EvaluationConfig(slices=("x", "a", "y")), catalog)

    def test_types_are_refused_before_the_rows_are_scored(self, tmp_path: Path) -> None:
        """All problems at once, for the hours that it takes to come to the second one."""
        catalog = _catalog(tmp_path / "log", user_id=[1.5], item_id=[[2]], tags=[["a"]])
        with pytest.raises(DataError) as caught:
            columns_of(EvaluationConfig(slices=("tags",)), catalog)
        assert len(caught.value.problems) == 3
        assert "evaluation.slices: column 'tags' is list<" in str(caught.value)
        assert "evaluation.user: column 'user_id' is double; ids must be" in str(caught.value)
        assert "evaluation.item=null" in str(caught.value)

    @pytest.mark.parametrize(
        "kind", [pa.uint64(), pa.large_string(), pa.null(), pa.dictionary(pa.int8(), pa.string())]
    )
    def test_ids_of_all_kinds(self, tmp_path: Path, kind: pa.DataType) -> None:
        catalog = _catalog(tmp_path / "log", user_id=pa.array([None], kind))
        assert columns_of(EvaluationConfig(item=None), catalog) == (["user_id"], [])


class TestUsers:
    @pytest.mark.parametrize("as_text", [False, True])
    @pytest.mark.parametrize("share_of_nulls", [0, 0.3, 1])
    def test_a_row_without_a_user_is_alone(
        self, tmp_path: Path, as_text: bool, share_of_nulls: float
    ) -> None:
        generator = np.random.default_rng(0)
        user = generator.integers(0, 9, 50)
        is_null = generator.random(50) < share_of_nulls
        column = pa.array([f"u{u}" for u in user] if as_text else user, mask=is_null)
        files = _scored(tmp_path / "scores", user=column)
        found = cluster_codes(files, "user", ["user"])
        assert found is not None
        assert found.dtype == np.int32
        expected = [
            -i - 1 if null else u for i, (u, null) in enumerate(zip(user, is_null, strict=True))
        ]
        pairs = pd.DataFrame({"found": found, "expected": expected}).drop_duplicates()
        assert pairs["found"].is_unique
        assert pairs["expected"].is_unique
        assert sorted(pairs["found"]) == list(range(len(pairs))), "no number is left out"
        warnings = null_warnings(files, EvaluationConfig(user="user"), ["user"])
        if share_of_nulls:
            text = f"{is_null.sum()} of 50 rows have no user: each counts as a user of its own"
            assert warnings == [text]
        else:
            assert warnings == []

    def test_no_column(self, tmp_path: Path) -> None:
        files = _scored(tmp_path / "scores", user=pa.array([1, 2]))
        assert cluster_codes(files, None, ["user"]) is None
        assert cluster_codes(files, "other", ["user"]) is None


class TestSlices:
    def _files(self, folder: Path) -> ScoreFiles:
        return _scored(
            folder / "scores",
            user=pa.array([5, 5, 6, None, 7, 8]),
            item=pa.array(["a", "b", "c", "a", None, "d"]),
            country=pa.array(["PT", None, "BR", "PT", "PT", "BR"]),
        )

    def _config(self) -> EvaluationConfig:
        return EvaluationConfig(user="user", item="item", slices=("country", "country"))

    def test_by_column_and_by_training(self, tmp_path: Path) -> None:
        train = _catalog(
            tmp_path / "train", user=[7, 5, 9, None], item=["a", "a", "b", "d"], other=[1, 1, 1, 1]
        )
        columns = ["country", "user", "item"]
        found, warnings = slicings_of(self._files(tmp_path), self._config(), columns, train)
        assert warnings == []
        names = {s.name: [s.values[code] for code in s.code_N] for s in found}
        assert [s.name for s in found] == ["country", "user in training", "item in training"]
        assert names["country"] == ["PT", "missing", "BR", "PT", "PT", "BR"]
        assert names["user in training"] == ["known", "known", "new", "new", "known", "new"]
        seen = names["item in training"]
        assert seen[2] == seen[4] == "unseen"
        assert seen[0] == seen[3] == "seen above 1 to 2 times"
        assert seen[1] == seen[5] == "seen 1 times"

    def test_without_training_files_or_their_columns(self, tmp_path: Path) -> None:
        files = self._files(tmp_path)
        columns = ["country", "user", "item"]
        other = _catalog(tmp_path / "other", something=[1])
        for train in (None, other):
            found, warnings = slicings_of(files, self._config(), columns, train)
            assert [s.name for s in found] == ["country"]
            assert warnings == []
        train = _catalog(tmp_path / "train", user=[7], item=["a"])
        [s] = slicings_of(files, self._config(), ["country"], train)[0]
        assert s.name == "country", "what did not travel is not read"

    def test_training_files_that_are_broken_cost_their_slices(self, tmp_path: Path) -> None:
        train = _catalog(tmp_path / "train", user=[7], item=["a"])
        (tmp_path / "train" / "0.parquet").write_bytes(b"no Parquet")
        files = self._files(tmp_path)
        found, warnings = slicings_of(files, self._config(), ["country", "user", "item"], train)
        assert [s.name for s in found] == ["country"]
        assert len(warnings) == 2
        assert "no slices by user in training" in warnings[0]
        assert "0.parquet" in warnings[1]

    def test_another_market(self, tmp_path: Path) -> None:
        """Training saw none of these users and items."""
        train = _catalog(tmp_path / "train", user=[70, 80], item=["x", "y"])
        found, _ = slicings_of(
            self._files(tmp_path), self._config(), ["user", "item", "country"], train
        )
        names = {s.name: {s.values[code] for code in s.code_N} for s in found}
        assert names["user in training"] == {"new"}
        assert names["item in training"] == {"unseen"}


class TestTrainingLog:
    def _log(self, folder: Path, *lines: Any) -> Path:
        text = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
        (folder / "metrics.jsonl").write_text(text)
        return folder

    def test_losses_and_weights_until_the_checkpoint(self, tmp_path: Path) -> None:
        run = self._log(
            tmp_path,
            {"step": 10, "train/loss/ctr": 0.5, "train/loss/cvr": None, "train/weight/ctr": 1.5},
            {"step": 10, "eval/auc/ctr": 0.7},
            {"step": 20, "train/loss/ctr": 0.25, "train/loss/cvr": 0.125},
            {"step": 30, "train/loss/ctr": 0.1},
        )
        found = training_log(run, 20, ["ctr", "cvr"])
        assert found is not None
        assert found.steps == (10, 20)
        assert found.losses == {"ctr": (0.5, 0.25), "cvr": (None, 0.125)}
        assert found.weights == {"ctr": (1.5, None), "cvr": (None, None)}

    def test_half_lines_are_left_out(self, tmp_path: Path) -> None:
        line = {"step": 10, "train/loss/ctr": 0.5}
        run = self._log(
            tmp_path, "[1]", "7", '{"a": 1}', '{"step": "x"}', line, '{"step": 20, "tra'
        )
        found = training_log(run, 99, ["ctr"])
        assert found is not None
        assert found.steps == (10,)

    def test_no_log(self, tmp_path: Path) -> None:
        assert training_log(None, 9, ["ctr"]) is None
        assert training_log(tmp_path, 9, ["ctr"]) is None
        assert training_log(self._log(tmp_path, {"step": 10}), 9, ["ctr"]) is None
        assert training_log(self._log(tmp_path, {"step": 1}), 9, ["ctr"]) is None
