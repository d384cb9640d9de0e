"""launch/train.py: exit codes, messages, --resume, --dry-run, the lock."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

import pytest

from data_pipelines.catalog.catalog import schema_hash
from data_pipelines.catalog.scan import scan
from marigold_rec.checkpoint import read_manifest
from tests.support.launches import (
    PATIENT,
    checkpoints,
    codes,
    launch_train,
    strict_json,
    summary,
    train_main,
)
from tests.support.ranks import run_ranks
from tests.support.runs import click_log, default_setup, write_days

_FEW = ("run.steps=4", "data.eval=null", PATIENT)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return default_setup(tmp_path, rows=1000)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a config whose run of 4 steps on two ranks has ended; not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    config = default_setup(folder, rows=1000)
    assert codes(launch_train(config, *_FEW, "checkpoint.every_n_steps=2")) == [0, 0]
    return folder


@pytest.fixture
def again(finished: Path, tmp_path: Path) -> Path:
    """A config of the finished run, over a copy of its files; reads the same data."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    text = (finished / "config.yaml").read_text()
    config = tmp_path / "config.yaml"
    config.write_text(text.replace(str(finished / "runs"), str(tmp_path / "runs")))
    return config


def _files(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_a_dry_run_tells_the_plan_and_writes_nothing(config: Path) -> None:
    before = _files(config.parent)
    ended = launch_train(config, "--dry-run", "sharding.tables={user: row_wise}", PATIENT)
    assert codes(ended) == [0, 0]
    assert _files(config.parent) == before
    said = ended[0].said
    for line in (
        "train: 1,000 rows in 1 files and 2 row groups, days 2024-01-01 to 2024-01-01",
        "eval: 500 rows in 1 files and 1 row groups",
        "task cvr (binary): label conversion where click = 1: observed in ",
        "table user: 401 x 8, row_wise on ranks 0, 1",
        "rank 1: tables 0.0 MiB, their optimizer 0.0 MiB",
        "one step: ok, ctr loss ",
        "a run takes 8 steps of 2 ranks x 64 rows",
    ):
        assert line in said
    assert ended[1].said == "", "one rank speaks for all"


def test_printing_the_config_starts_nothing(config: Path) -> None:
    [ended] = launch_train(config, "--print-config", "run.seed=11", num_ranks=1)
    assert ended.code == 0
    assert "seed: 11" in ended.said
    assert not (config.parent / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--resum", "never", "--wrong"), 2, "unrecognized arguments: --wrong"),
        (("data.path=/nowhere/at/all",), 3, "DataError: "),
        (("--resume", "/nowhere/at/all"), 5, "CheckpointError: /nowhere/at/all/manifest.json"),
    ],
    ids=["unknown flag", "no data", "no checkpoint there"],
)
def test_each_error_has_its_exit_code(
    config: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ended = launch_train(config, *arguments, PATIENT)
    assert codes(ended) == [code, code]
    assert message in ended[0].said
    if code > 2:
        assert "Traceback" not in ended[0].said
        assert summary(config.parent / "runs/test")["exit_code"] == code


def test_a_start_that_fails_after_one_that_was_done_says_so(again: Path) -> None:
    run = again.parent / "runs/test"
    assert summary(run)["status"] == "done"
    assert codes(launch_train(again, *_FEW, "data.path=/nowhere/at/all")) == [3, 3]
    assert (summary(run)["status"], summary(run)["exit_code"]) == ("failed", 3)
    assert codes(launch_train(again, *_FEW, "run.seed=77")) == [5, 5]
    assert (summary(run)["status"], summary(run)["exit_code"]) == ("failed", 5)


def test_a_second_writer_is_refused(config: Path) -> None:
    run = config.parent / "runs/test"
    run.mkdir(parents=True)
    with (run / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ended = launch_train(config, *_FEW)
    assert codes(ended) == [2, 2]
    assert f"ConfigError: run.name: another process is writing to {run}" in ended[0].said
    assert {p.name for p in run.iterdir()} <= {".lock", "logs"}, "it wrote nevertheless"
    assert codes(launch_train(config, *_FEW)) == [0, 0], "the lock outlived its holder"


def test_a_folder_that_cannot_be_made_is_a_config_error(config: Path) -> None:
    (config.parent / "runs").write_text("a file")
    ended = launch_train(config, *_FEW)
    assert codes(ended) == [2, 2]
    assert "ConfigError: run.dir: " in ended[0].said


def test_resume_never_moves_the_old_run_aside(again: Path) -> None:
    run = again.parent / "runs/test"
    old = summary(run)
    for number in (1, 2):
        ended = launch_train(again, *_FEW, "--resume", "never")
        assert codes(ended) == [0, 0]
        assert f"the earlier run's files are now in {run}/previous-{number}" in ended[0].said
        assert "resumed" not in ended[0].said
        aside = run / f"previous-{number}"
        assert {"checkpoints", "metrics.jsonl", "summary.json"} <= {p.name for p in aside.iterdir()}
        assert summary(run)["status"] == "done"
        lines = [json.loads(x)["step"] for x in (run / "metrics.jsonl").read_text().splitlines()]
        assert lines == [1, 4], "the old run's metrics were carried on"
        assert "training test" in (run / "logs/rank-1.log").read_text()
    assert summary(run / "previous-1")["wall_s"] == old["wall_s"]


def test_resume_never_in_a_new_folder_has_nothing_to_move(config: Path) -> None:
    assert codes(launch_train(config, *_FEW, "--resume", "never")) == [0, 0]
    assert not list((config.parent / "runs/test").glob("previous-*"))


def test_resume_from_a_path_goes_on_from_there(again: Path) -> None:
    run = again.parent / "runs/test"
    older = run / "checkpoints/step-000000002"
    ended = launch_train(again, *_FEW, "run.steps=6", "--resume", str(older))
    assert codes(ended) == [0, 0]
    assert f"resumed from {older} at step 2\n" in ended[0].said
    assert "step-000000006" in checkpoints(run)


_OF_EVERY_START = (".lock", "logs/rank-1.log", "summary.json")
"""What a start writes even if it is refused: summary.json says how the last one ended."""


def test_another_config_is_refused_and_named(again: Path) -> None:
    run = again.parent / "runs/test"
    before = {n: t for n, t in _files(run).items() if n not in _OF_EVERY_START}
    for resume in ("auto", str(run / "checkpoints/step-000000002")):
        ended = launch_train(
            again, *_FEW, "model.trunk.experts=5", "features.user.rows=400",
            "logging.every_n_steps=1",
            "--resume", resume,
        )  # fmt: skip
        assert codes(ended) == [5, 5]
        assert "was saved under another config:\n" in ended[0].said
        assert "\nfeatures.user.rows: 401 then, 400 now\nmodel.trunk.experts: 3 then, 5 now\n" in (
            ended[0].said
        )
        assert "logging" not in ended[0].said, "a setting that is free to change"
        assert _files(run).items() >= before.items(), "the refused start has touched the run"
        summary = strict_json((run / "summary.json").read_text())
        assert (summary["status"], summary["exit_code"]) == ("failed", 5)


def test_other_training_files_are_refused(config: Path) -> None:
    assert codes(launch_train(config, *_FEW)) == [0, 0]
    write_days(config.parent / "log", {"2024-01-01": click_log(1001)})
    ended = launch_train(config, *_FEW)
    assert codes(ended) == [5, 5]
    assert "the training files are not those of its run" in ended[0].said


def test_another_number_of_ranks_goes_on(again: Path) -> None:
    for num_ranks, steps in ((1, 6), (3, 8)):
        ended = launch_train(again, *_FEW, f"run.steps={steps}", num_ranks=num_ranks)
        assert codes(ended) == [0] * num_ranks, ended[0].said
        assert f"goes on with {num_ranks}: " in ended[0].said
        assert summary(again.parent / "runs/test")["step"] == steps


def test_without_torchrun_there_is_one_rank(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = run_ranks(_without_torchrun, 1, config, init_group=False, timeout_s=25)
    assert ended == [(0, 1)]


def _without_torchrun(config: Path) -> tuple[int, int]:
    import os

    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"):
        del os.environ[name]
    ended = train_main(("--config", str(config), *_FEW))
    return ended.code, summary(config.parent / "runs/test")["world_size"]


def test_the_manifest_notes_schema_and_plan(config: Path) -> None:
    ended = launch_train(config, *_FEW, "sharding={default: table_wise, tables: {user: row_wise}}")
    assert codes(ended) == [0, 0], ended[0].said
    [step] = (config.parent / "runs/test/checkpoints").iterdir()
    manifest = read_manifest(step)
    assert manifest.plan == {"user": "row_wise", "item": "table_wise", "price_band": "table_wise"}
    day = config.parent / "log/dt=2024-01-01"
    assert manifest.schema_hash == schema_hash(scan(str(day)))
