"""Nightly runs as people start them: published, refused, killed at every stage, and run twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.nightly.stages import STAGES
from marigold_rec.serving import Predictor
from tests.jobs.nightly.killed import IN_TRAINING
from tests.support.launches import assert_same_tensors, checkpoint_tensors
from tests.support.nightly import Nightly
from tests.support.runs import click_log, config_tree, write_config, write_days

# A nightly run is half a dozen programs, one after the other, each of which imports torch.
pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).resolve().parents[3]
ROWS = 3000
# For small days: the gate has tests of its own.
NIGHTLY = {"launcher": [sys.executable], "first_days": 3, "export": "fp32"}


def day(number: int) -> str:
    return f"2024-01-{number:02d}"


def set_up(folder: Path, days: int) -> Path:
    """Writes a log of so many days and a nightly config; returns the config's path."""
    log = {day(n): click_log(ROWS, seed=n) for n in range(1, days + 1)}
    tree = config_tree(write_days(folder / "log", log), folder / "runs")
    tree |= {
        "nightly": NIGHTLY,
        "evaluation": {"user": "user", "item": "item"},
        "checkpoint": {"every_n_steps": 10},
    }
    del tree["data"]["train"], tree["data"]["eval"]
    return write_config(tree, folder / "config.yaml")


def nightly(
    config: Path, *arguments: str, killed_at: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the job forked (tests/support/nightly.py). All its output is both stdout and stderr."""
    log = config.parent / f"said-{time.monotonic_ns()}.log"
    started = Nightly(config, *arguments, log=log, killed_at=killed_at)
    code = started.wait(300)
    return subprocess.CompletedProcess(arguments, code, log.read_text(), log.read_text())


def bare_nightly(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the job in a bare interpreter, as people start it."""
    return subprocess.run(
        [sys.executable, "launch/nightly.py", "--config", str(config), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def night(config: Path, number: int) -> Path:
    return config.parent / "runs" / "test" / "nights" / day(number)


def in_use(config: Path) -> str:
    return (config.parent / "runs" / "test" / "published" / "current").resolve().name


@pytest.fixture(scope="module")
def two_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes three days; the runs of the second and the third are done. Not to be changed."""
    config = set_up(tmp_path_factory.mktemp("nights"), 3)
    ended = nightly(config, "--date", day(2), "--until", day(3))
    assert ended.returncode == 0, ended.stderr
    return config


def copy_of(config: Path, folder: Path, *, nights: int) -> Path:
    """Copies a setting, with the first `nights` runs done."""
    shutil.copytree(config.parent, folder, symlinks=True, dirs_exist_ok=True)
    text = config.read_text().replace(str(config.parent), str(folder))
    (folder / "config.yaml").write_text(text)
    root = folder / "runs" / "test"
    for gone in sorted((root / "nights").iterdir())[nights:]:
        shutil.rmtree(gone)
    history = root / "published" / "history.json"
    history.write_text(json.dumps(json.loads(history.read_text())[:nights]))
    (root / "published" / "current").unlink()
    return folder / "config.yaml"


def test_a_night_learns_the_new_day_from_the_published_model(two_nights: Path) -> None:
    plan = json.loads((night(two_nights, 3) / "plan.json").read_text())
    assert plan["train"] == [day(2), day(2)]
    assert plan["base"]["night"] == day(2)
    log = (night(two_nights, 3) / "logs" / "train.log").read_text()
    assert f"warm start from {night(two_nights, 2)}" in log
    report = json.loads((night(two_nights, 3) / "evaluation" / "report.json").read_text())
    assert report["data"]["dates"] == [day(3), day(3)]
    assert Path(report["baseline"]["checkpoint"]).is_relative_to(night(two_nights, 2))
    assert in_use(two_nights) == day(3)
    page = (night(two_nights, 3) / "night.html").read_text()
    assert f"{day(3)}: published" in page
    assert (night(two_nights, 3) / "artefact" / "artefact.json").exists()


def test_a_night_that_is_done_is_left_as_it_is(two_nights: Path) -> None:
    before = times(two_nights)
    ended = nightly(two_nights, "--date", "auto")
    assert ended.returncode == 0
    assert f"{day(3)} is done: its model is published" in ended.stderr
    assert times(two_nights) == before


def times(config: Path) -> dict[str, int]:
    root = config.parent / "runs" / "test"
    return {str(p): p.lstat().st_mtime_ns for p in root.rglob("*") if p.name != ".lock"}


def test_the_status_has_a_line_for_each_night(two_nights: Path) -> None:
    ended = nightly(two_nights, "--status")
    assert ended.returncode == 0
    assert f"  {day(2)}  its model is published\n* {day(3)}  its" in ended.stdout


def test_a_second_process_is_refused(two_nights: Path, tmp_path: Path) -> None:
    config = copy_of(two_nights, tmp_path / "a", nights=1)
    waiting = subprocess.Popen(
        [sys.executable, "launch/nightly.py", "--config", str(config), "--date", day(9),
         "nightly.wait_s=600"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with waiting:
        assert waiting.stderr is not None
        for line in waiting.stderr:
            if "waiting for" in line:
                break
        ended = nightly(config, "--date", day(3))
        assert ended.returncode == 2
        assert "another process is writing to" in ended.stderr
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait(timeout=30) == 143


def test_a_missing_day_fails_clearly(two_nights: Path, tmp_path: Path) -> None:
    config = copy_of(two_nights, tmp_path / "a", nights=1)
    ended = nightly(config, "--date", day(5), "nightly.wait_s=0.2")
    assert ended.returncode == 3
    assert f"no Parquet file for {day(4)}, {day(5)} after 0 s" in ended.stderr
    assert in_use(config) == day(2)


def test_another_config_in_the_middle_of_a_night_is_refused(
    two_nights: Path, tmp_path: Path
) -> None:
    config = copy_of(two_nights, tmp_path / "a", nights=1)
    ended = nightly(config, "--date", day(3), killed_at="train:begin")
    assert ended.returncode == -signal.SIGKILL
    ended = nightly(config, "--date", day(3), "optimizer.dense.lr=0.5")
    assert ended.returncode == 2
    assert f"nightly run {day(3)} was started under another config" in ended.stderr
    assert "--from data" in ended.stderr


def test_rolling_back(two_nights: Path, tmp_path: Path) -> None:
    config = copy_of(two_nights, tmp_path / "a", nights=2)
    ended = nightly(config, "--rollback")
    assert ended.returncode == 0, ended.stderr
    assert in_use(config) == day(2)
    assert nightly(config, "--rollback").returncode == 2
    assert in_use(config) == day(2)


# --- refused -------------------------------------------------------------------------------------


def flipped(table: pa.Table) -> pa.Table:
    """Flips every tenth label."""
    click = table["click"].to_numpy().copy()
    click[::10] = 1 - click[::10]
    return _with(table, "click", pa.array(click))


def mostly_inverted(table: pa.Table) -> pa.Table:
    """Flips four of five labels: nothing that a model should learn."""
    click = table["click"].to_numpy()
    return _with(table, "click", pa.array(np.where(np.arange(len(click)) % 5, 1 - click, click)))


def halved(table: pa.Table) -> pa.Table:
    return table.slice(0, len(table) // 2)


def constant(table: pa.Table) -> pa.Table:
    return _with(table, "item", pa.array([7] * len(table), pa.int64()))


def _with(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)


def poison(config: Path, number: int, change: Callable[[pa.Table], pa.Table]) -> None:
    file = config.parent / "log" / f"dt={day(number)}" / "part-00000.parquet"
    table = pq.ParquetFile(file).read()
    pq.write_table(change(table), file, row_group_size=700, write_page_checksum=True)


@pytest.mark.parametrize(
    ("change", "reason"), [(halved, "rows"), (constant, "item"), (flipped, "ctr")]
)
def test_a_poisoned_day_is_refused_before_training(
    two_nights: Path, tmp_path: Path, change: Callable[[pa.Table], pa.Table], reason: str
) -> None:
    config = copy_of(two_nights, tmp_path / "a", nights=1)
    if change is flipped:  # where half of the rows are clicked, a flip does not move their mean
        _make_clicks_rare(config)
    poison(config, 3, change)
    ended = nightly(config, "--date", day(3))
    assert ended.returncode == 6, ended.stderr
    verdict = json.loads((night(config, 3) / "verdict.json").read_text())
    assert not verdict["publish"]
    assert any(reason in text for text in verdict["reasons"]), verdict["reasons"]
    assert "NOT published" in ended.stderr
    assert in_use(config) == day(2)
    assert not (night(config, 3) / "train").exists()
    assert "not published" in (night(config, 3) / "night.html").read_text()
    assert nightly(config, "--date", day(3)).returncode == 6, "and so it stays"
    untrained = nightly(config, "--date", day(3), "--from", "gate")
    assert untrained.returncode == 2
    assert "--from data" in untrained.stderr


def _make_clicks_rare(config: Path) -> None:
    def thinned(table: pa.Table) -> pa.Table:
        kept = (table["click"].to_numpy() == 0) | (table["row"].to_numpy() < 600)
        return table.filter(pa.array(kept))

    for number in (1, 2, 3):
        poison(config, number, thinned)


@pytest.mark.slow
def test_a_model_of_poisoned_labels_is_refused_and_the_night_can_be_judged_again(
    two_nights: Path, tmp_path: Path
) -> None:
    config = copy_of(two_nights, tmp_path / "a", nights=1)
    poison(config, 2, mostly_inverted)
    off = [
        "nightly.gate.data={min_rows_share: null, max_label_shift: null, max_observed_shift: null}",
        "nightly.gate.drift.max_psi=null",
        "optimizer.dense.lr=0.01",  # so that one small night does harm
    ]
    ended = nightly(config, "--date", day(3), *off)
    assert ended.returncode == 6, ended.stderr
    assert "ctr" in ended.stderr
    assert in_use(config) == day(2)
    trained = (night(config, 3) / "train" / "summary.json").stat().st_mtime_ns
    ended = nightly(
        config, "--date", day(3), "--from", "gate", *off,
        "nightly.gate.defaults={binary: {auc: null, ne: null, calibration: null}, "
        "duration: {xauc: null}}",
        "nightly.gate.drift={max_psi: null, max_score_ratio: null, max_score_psi: null}",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert (night(config, 3) / "train" / "summary.json").stat().st_mtime_ns == trained
    assert in_use(config) == day(3)


# --- killed --------------------------------------------------------------------------------------

BEGINS = [f"{stage.name}:begin" for stage in STAGES]
BEGINS.insert(BEGINS.index("publish:begin") + 1, "publish:history")
ENDS = [f"{stage.name}:end" for stage in STAGES]
ENDS.insert(ENDS.index("train:end"), IN_TRAINING)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "points"),
    [(2, BEGINS), (3, ENDS)],
    ids=["begins", "ends"],
)
def test_a_night_that_is_killed_ends_as_if_it_had_not_been(
    two_nights: Path, tmp_path: Path, number: int, points: list[str]
) -> None:
    config = copy_of(two_nights, tmp_path / "a", nights=number - 2)
    before = None if number == 2 else day(number - 1)
    for point in points:
        ended = nightly(config, "--date", day(number), killed_at=point)
        assert ended.returncode == -signal.SIGKILL, (point, ended.stderr)
        is_published = points.index(point) >= points.index(
            "publish:history" if number == 2 else "publish:end"
        )
        if before is not None and not is_published:
            assert in_use(config) in (before, "current"), point
    ended = nightly(config, "--date", day(number))
    assert ended.returncode == 0, ended.stderr
    assert in_use(config) == day(number)
    assert_same_night(night(config, number), night(two_nights, number), tmp_path)
    assert history(config)[:number] == history(two_nights)[: number - 1]


def history(config: Path) -> list[tuple[str, str]]:
    file = config.parent / "runs" / "test" / "published" / "history.json"
    return [(entry["what"], entry["night"]) for entry in json.loads(file.read_text())]


def assert_same_night(found: Path, expected: Path, scratch: Path) -> None:
    """Model, artefact and verdict are equal to the bit."""
    step = max((expected / "train" / "checkpoints").glob("step-*"))
    again = found / "train" / "checkpoints" / step.name
    assert_same_tensors(checkpoint_tensors(again, scratch), checkpoint_tensors(step, scratch))
    assert (found / "verdict.json").read_text() == (expected / "verdict.json").read_text()
    # Not the files of the artefact: torch.export numbers its symbols by what came before.
    rows = click_log(200, seed=9)
    served = [Predictor(folder / "artefact").predict(rows) for folder in (found, expected)]
    assert all(np.array_equal(served[0][task], served[1][task]) for task in served[1])
    reports = [_report(folder / "evaluation" / "report.json") for folder in (found, expected)]
    assert reports[0]["tasks"] == reports[1]["tasks"]


def _report(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def test_a_signal_stops_a_night_and_the_next_start_goes_on(
    two_nights: Path, tmp_path: Path
) -> None:
    config = copy_of(two_nights, tmp_path / "a", nights=1)
    with subprocess.Popen(
        [sys.executable, "launch/nightly.py", "--config", str(config), "--date", day(3)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        deadline = time.monotonic() + 120
        while not list((night(config, 3) / "train").glob("checkpoints/step-*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=120)
        assert running.returncode == 143, said
    assert "run the same command again" in said
    ended = nightly(config, "--date", day(3))
    assert ended.returncode == 0, ended.stderr
    assert_same_night(night(config, 3), night(two_nights, 3), tmp_path)
