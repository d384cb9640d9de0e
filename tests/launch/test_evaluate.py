"""launch/evaluate.py as people run it: the same report on any ranks, exit codes, hostile names."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from tests.support.launches import (
    AtBatch,
    Raise,
    ask_to_stop,
    codes,
    launch_evaluate,
    launch_train,
    strict_json,
    summary,
)
from tests.support.runs import click_log, config_tree, write_config, write_days

_COLUMNS = ("evaluation={user: user, item: item}",)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/a and, trained for half the steps from another seed, runs/b; log/ below the same."""
    folder = tmp_path_factory.mktemp("evaluate")
    days = {"2024-01-01": click_log(4000), "2024-01-02": _with_country(click_log(1800, seed=1))}
    data = write_days(folder / "log", days)
    tree = config_tree(data, folder / "runs") | {"sharding": {"default": "table_wise"}}
    config = write_config(tree, folder / "config.yaml")
    for name, extra in (("a", ()), ("b", ("run.seed=8", "run.steps=20"))):
        ended = launch_train(config, f"run.name={name}", *_COLUMNS, *extra, num_ranks=1)
        assert codes(ended) == [0], ended[0].said
    return folder


def test_what_is_said_of_the_log_is_said_once(runs: Path, tmp_path: Path) -> None:
    """Evaluation data, training files and the baseline's rows are three looks at one log."""
    log = tmp_path / "log"
    shutil.copytree(runs / "log", log)
    (log / "notes.txt").write_text("not read")
    ended = launch_evaluate(
        "--checkpoint", str(runs / "runs/a"), "--baseline", str(runs / "runs/b"),
        "--out", str(tmp_path / "out"), f"data.path={log}", num_ranks=2,
    )  # fmt: skip
    assert codes(ended) == [0, 0]
    assert ended[0].said.count("notes.txt") == 1
    assert ended[1].said == ""


def _with_country(table: pa.Table) -> pa.Table:
    names = np.array(["PT", "<script>alert(1)</script>", "BR | x"])
    return table.append_column("country", pa.array(names[np.arange(len(table)) % 3]))


def evaluate(runs: Path, out: Path, *arguments: str, num_ranks: int = 1) -> dict[str, Any]:
    ended = launch_evaluate(
        "--checkpoint", str(runs / "runs" / "a"), "--out", str(out), *arguments,
        num_ranks=num_ranks,
    )  # fmt: skip
    assert codes(ended) == [0] * num_ranks, ended[0].said
    return strict_json((out / "report.json").read_text())


def test_the_figures_are_those_of_the_scores(runs: Path, tmp_path: Path) -> None:
    report = evaluate(runs, tmp_path / "out", "--keep-scores")
    parts = sorted((tmp_path / "out" / "scores" / "model").glob("part-*"))
    scores = pa.concat_tables([pq.read_table(part) for part in parts]).to_pandas()
    log = pq.read_table(runs / "log" / "dt=2024-01-02" / "part-00000.parquet").to_pandas()
    assert len(scores) == len(log) == report["data"]["rows"]
    assert (scores["column.user"] == log["user"]).all()
    by_name = {task["name"]: task for task in report["tasks"]}
    click, conversion = log["click"] == 1, log["conversion"] == 1
    whole = (scores["score.ctr"] * scores["score.cvr"]).to_numpy()
    for name, label, score in (
        ("ctr", click, scores["score.ctr"]),
        ("cvr", conversion[click], scores["score.cvr"][click]),
        ("cvr over all rows", click & conversion, whole),
    ):
        figures = by_name[name]["figures"]
        assert by_name[name]["rows"] == len(label)
        assert figures["auc"]["value"] == pytest.approx(roc_auc_score(label, score), rel=1e-9)
        assert figures["log_loss"]["value"] == pytest.approx(log_loss(label, score), rel=1e-6)
        assert figures["auc"]["low"] < figures["auc"]["value"] < figures["auc"]["high"]
    ended = summary(runs / "runs" / "a")
    for task in ("ctr", "cvr"):
        for figure in ("auc", "log_loss", "ne", "calibration"):
            found = by_name[task]["figures"][figure]["value"]
            assert found == pytest.approx(ended[f"eval/{figure}/{task}"], rel=1e-9)
    for figure in ("mae_s", "rmse_s", "r2_log", "xauc"):
        found = by_name["watch_time"]["figures"][figure]["value"]
        assert found == pytest.approx(ended[f"eval/{figure}/watch_time"], rel=1e-9)
    assert report["training"]["steps"]


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_the_same_on_any_number_of_ranks(runs: Path, tmp_path: Path, num_ranks: int) -> None:
    """To the bit where the scores are: with whole tables (row_wise sums a bag shard by shard) and
    the same batches (a matrix product rounds by its shape)."""
    settings = (
        "--slices", "country,price", "--baseline", str(runs / "runs" / "b"),
        "data.eval_batch_size=100",
    )  # fmt: skip
    alone = evaluate(runs, tmp_path / "one", *settings)
    together = evaluate(runs, tmp_path / "many", *settings, num_ranks=num_ranks)
    assert together["world_size"] == num_ranks
    for key in ("created", "world_size"):
        del alone[key], together[key]
    assert together == alone


def test_the_same_where_memory_is_short(runs: Path, tmp_path: Path) -> None:
    """To the bit: the judging goes on in files, of which none is left."""
    settings = ("--slices", "country,price", "--baseline", str(runs / "runs" / "b"))
    in_memory = evaluate(runs, tmp_path / "one", *settings)
    on_disk = evaluate(runs, tmp_path / "two", *settings, "evaluation.memory_gib=1e-6")
    assert on_disk.pop("created") >= in_memory.pop("created")
    assert on_disk == in_memory
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]


def test_rows_cut_between_other_batches_change_next_to_nothing(runs: Path, tmp_path: Path) -> None:
    alone = evaluate(runs, tmp_path / "one", "data.eval_batch_size=64")
    together = evaluate(runs, tmp_path / "many", "data.eval_batch_size=171", num_ranks=2)
    for found, expected in zip(together["tasks"], alone["tasks"], strict=True):
        for name, figure in expected["figures"].items():
            for key in ("value", "standard_error", "low", "high"):
                wanted = figure[key]
                wanted = wanted if wanted is None else pytest.approx(wanted, rel=1e-4, abs=1e-6)
                assert found["figures"][name][key] == wanted, (name, key)


def test_a_model_against_itself_differs_by_nothing(runs: Path, tmp_path: Path) -> None:
    report = evaluate(runs, tmp_path / "out", "--baseline", str(runs / "runs" / "a"))
    for task in report["tasks"]:
        for figure in task["figures"].values():
            if figure["value"] is not None:
                assert figure["delta"] == 0
    assert all(found["p_value"] in (1.0, None) for found in report["slices"])


def test_names_of_slices_stay_text(runs: Path, tmp_path: Path) -> None:
    report = evaluate(runs, tmp_path / "out", "--slices", "country")
    values = {s["value"] for s in report["slices"] if s["name"] == "country"}
    assert values == {"PT", "<script>alert(1)</script>", "BR | x"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in (tmp_path / "out" / "report.md").read_text()


def test_nothing_but_the_report_is_left(runs: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in runs.rglob("*")}
    evaluate(runs, tmp_path / "out", "--baseline", str(runs / "runs" / "b"))
    found = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert found == ["report.html", "report.json", "report.md"]
    assert {p: p.stat().st_mtime_ns for p in runs.rglob("*")} == before


def test_without_users_items_and_training_files(runs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(runs / "log" / "dt=2024-01-02", moved)
    report = evaluate(
        runs, tmp_path / "out", "--data", str(moved), "data.eval.dates=null",
        "data.train.path=/nowhere", "evaluation={user: nobody, item: null}",
    )  # fmt: skip
    assert report["user"] is None
    assert report["slices"] == []
    ctr = report["tasks"][0]["figures"]
    assert ctr["auc"]["value"] is not None
    assert ctr["gauc"]["value"] is None
    assert "evaluation.user" in ctr["gauc"]["reason"]
    assert any("no column nobody" in warning for warning in report["warnings"])
    assert any("training files" in warning for warning in report["warnings"])


def test_a_slice_of_one_class_has_no_auc(runs: Path, tmp_path: Path) -> None:
    report = evaluate(runs, tmp_path / "out", "--slices", "click")
    found = {s["value"]: s for s in report["slices"] if s["task"] == "ctr" and s["name"] == "click"}
    assert set(found) == {"0", "1"}
    for value, label in (("0", "0"), ("1", "1")):
        auc = found[value]["figures"]["auc"]
        assert auc["value"] is None
        assert f"labels are {label}" in auc["reason"]
        assert found[value]["q_value"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--slices", "country,nothing"), 3, "has no column nothing"),
        (("--data", "/nowhere/log"), 3, "/nowhere/log"),
        (("evaluation.user=7",), 2, "evaluation.user"),
        (("evaluation.usr=user",), 2, "did you mean"),
        (("--baseline", "/nowhere/run"), 5, "/nowhere/run: no checkpoint"),
    ],
)
def test_refusals(
    runs: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    run = str(runs / "runs" / "a")
    ended = launch_evaluate(
        "--checkpoint", run, "--out", str(tmp_path / "out"), *arguments, num_ranks=2
    )
    assert codes(ended) == [code, code]
    assert said in ended[0].said
    assert "Traceback" not in ended[0].said
    assert not (tmp_path / "out" / "report.json").exists()


def test_bad_checkpoints(runs: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(runs / "runs" / "a", broken)
    [step] = (broken / "checkpoints").iterdir()
    [first, *_] = sorted(step.glob("*.distcp"))
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    for path, said in (
        (broken, "sha256 differs"),
        (step, "sha256 differs"),
        (tmp_path / "none", "no checkpoint"),
        (tmp_path, "no checkpoint"),
    ):
        [ended] = launch_evaluate("--checkpoint", str(path), "--out", str(tmp_path / "out"))
        assert ended.code == 5, ended.said
        assert said in ended.said
        assert "Traceback" not in ended.said


def test_a_folder_that_can_not_be_written(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = str(runs / "runs" / "a")
    [ended] = launch_evaluate("--checkpoint", run, "--out", str(tmp_path / "file" / "out"))
    assert ended.code == 2
    assert "--out" in ended.said


def test_damaged_data_is_refused_on_all_ranks(runs: Path, tmp_path: Path) -> None:
    ended = launch_evaluate(
        "--checkpoint", str(runs / "runs" / "a"), "--out", str(tmp_path / "out"),
        num_ranks=2, faults=(AtBatch(3, 1, Raise(_damaged())),),
    )  # fmt: skip
    assert codes(ended) == [3, 3]
    assert not (tmp_path / "out" / "scores").exists()


def _damaged() -> Exception:
    from marigold_rec.errors import DataError

    return DataError("part-7.parquet row group 2: damaged")


def test_a_signal_stops_all_ranks(runs: Path, tmp_path: Path) -> None:
    ended = launch_evaluate(
        "--checkpoint", str(runs / "runs" / "a"), "--out", str(tmp_path / "out"),
        num_ranks=2, faults=(AtBatch(3, 1, ask_to_stop),),
    )  # fmt: skip
    assert codes(ended) == [143, 143]
    assert not (tmp_path / "out" / "report.json").exists()


def test_trained_on_the_same_files_is_said(runs: Path, tmp_path: Path) -> None:
    train_day = str(runs / "log" / "dt=2024-01-01")
    report = evaluate(runs, tmp_path / "out", "--data", train_day, "data.eval.dates=null")
    assert any("trained on 1 of these 1 files" in warning for warning in report["warnings"])
    json.dumps(report, allow_nan=False)


@dataclass(frozen=True)
class FullDisk:
    """`method` of one rank's ScoreWriter finds the disk full."""

    rank: int
    method: str

    def install(self) -> None:
        if int(os.environ["RANK"]) != self.rank:
            return
        from marigold_rec.analysis.score_files import ScoreWriter

        def fail(*_arguments: Any, **_named: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        setattr(ScoreWriter, self.method, fail)


@pytest.mark.parametrize("method", ["__init__", "add", "close"])
def test_a_disk_that_is_full_on_one_rank_ends_all(runs: Path, tmp_path: Path, method: str) -> None:
    ended = launch_evaluate(
        "--checkpoint", str(runs / "runs" / "a"), "--out", str(tmp_path / "out"),
        num_ranks=2, faults=(FullDisk(1, method),),
    )  # fmt: skip
    assert codes(ended) == [2, 2]
    assert "No space left on device" in ended[0].said
    assert "Traceback" not in ended[0].said
    assert not (tmp_path / "out" / "scores").exists()


def test_a_bad_baseline_is_met_before_any_row_is_scored(runs: Path, tmp_path: Path) -> None:
    """Also one that can't read these rows; the message says whose columns are not there."""
    moved = tmp_path / "moved"
    moved.mkdir()
    day = runs / "log" / "dt=2024-01-02" / "part-00000.parquet"
    other = write_config(
        config_tree(runs / "log", tmp_path / "runs") | _more_features(), tmp_path / "other.yaml"
    )
    write_days(tmp_path / "log", _days_with_more())
    ended = launch_train(other, f"data.path={tmp_path / 'log'}", "run.steps=2", num_ranks=1)
    assert codes(ended) == [0], ended[0].said
    shutil.copy(day, moved)
    [ended] = launch_evaluate(
        "--checkpoint", str(runs / "runs" / "a"), "--out", str(tmp_path / "out"),
        "--data", str(moved), "data.eval.dates=null", "--baseline", str(tmp_path / "runs" / "test"),
        faults=(AtBatch(0, 0, Raise(AssertionError("a row was scored"))),),
    )  # fmt: skip
    assert ended.code == 3, ended.said
    assert f"baseline {tmp_path / 'runs' / 'test'}" in ended.said
    assert "more" in ended.said


def _more_features() -> dict[str, Any]:
    tree = config_tree(Path("log"), Path("runs"))
    return {"features": [*tree["features"], {"name": "more", "kind": "dense"}]}


def _days_with_more() -> dict[str, pa.Table]:
    table = click_log(300)
    table = table.append_column("more", pa.array(np.ones(300)))
    return {"2024-01-01": table, "2024-01-02": table}


def test_what_others_keep_beside_the_report_stays(runs: Path, tmp_path: Path) -> None:
    kept = tmp_path / "out" / "scores" / "mine.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("precious")
    evaluate(runs, tmp_path / "out")
    assert kept.read_text() == "precious"
    assert [p.name for p in kept.parent.iterdir()] == ["mine.txt"]


def test_no_row_to_evaluate_on(runs: Path, tmp_path: Path) -> None:
    write_days(tmp_path / "log", {"2024-01-02": click_log(0)})
    [ended] = launch_evaluate(
        "--checkpoint", str(runs / "runs" / "a"), "--out", str(tmp_path / "out"),
        "--data", str(tmp_path / "log"),
    )  # fmt: skip
    assert ended.code == 3, ended.said
    assert "no row to evaluate on" in ended.said


def test_users_of_text_with_nulls(runs: Path, tmp_path: Path) -> None:
    """Users, items and slices may be text, be null, and mean nothing to training."""
    log = click_log(1500, seed=2)
    users = log["user"].to_pylist()
    names = [None if i % 5 == 0 else f"u{user}" for i, user in enumerate(users)]
    log = log.append_column("name", pa.array(names)).append_column("nothing", pa.nulls(1500))
    write_days(tmp_path / "log", {"2024-01-02": log})
    report = evaluate(
        runs, tmp_path / "out", "--data", str(tmp_path / "log"), "evaluation.user=name",
        "--slices", "name,nothing", num_ranks=2,
    )  # fmt: skip
    assert report["tasks"][0]["users"] == 300 + len({n for n in names if n is not None})
    assert any("300 of 1,500 rows have no name" in warning for warning in report["warnings"])
    slices = {(s["name"], s["value"]): s["rows"] for s in report["slices"] if s["task"] == "ctr"}
    assert slices["name", "missing"] == 300
    assert slices["nothing", "missing"] == 1500
