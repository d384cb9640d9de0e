"""Whole nights with a life cycle of rows: evicted in training, admitted alike wherever rows are
looked up.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_pipelines.id_counts.row_history import RowHistory
from marigold_rec.analysis.score_files import ScoreFiles
from marigold_rec.checkpoint.manifest import read_manifest
from marigold_rec.config.loading import config_from
from marigold_rec.serving import Predictor
from marigold_rec.sharding.initialize import table_rows
from marigold_rec.transforms import FeatureTransforms
from marigold_rec.transforms.file_list import write_file_list
from marigold_rec.transforms.hashing import HashRows
from marigold_rec.transforms.row_bits import read_row_bits
from tests.jobs.nightly.test_nightly import (
    NIGHTLY,
    ROOT,
    assert_same_night,
    copy_of,
    day,
    night,
    nightly,
)
from tests.support.launches import checkpoint_tensors
from tests.support.runs import click_log, config_tree, write_config, write_days

# The nights take minutes where others use the machine too.
pytestmark = pytest.mark.timeout(900)

ROWS = 401
WEIGHT = "model/embeddings.ebc.embedding_bags.user.weight"
OFF = {
    "data": {"min_rows_share": None, "max_label_shift": None, "max_observed_shift": None},
    "drift": {"max_psi": None, "max_score_psi": None, "max_score_ratio": None},
    "defaults": {"binary": {"auc": None, "ne": None, "calibration": None},
                 "duration": {"xauc": None}},
}  # fmt: skip


def day_log(number: int) -> pa.Table:
    """Makes a day's log: all users on the first day, later some groups only; some ids are rare."""
    table = click_log(1000, seed=number)
    if number == 1:
        return table
    return table.filter(pa.array(table["user"].to_numpy() % 8 < 2 + number))


def users(number: int) -> np.ndarray:
    """Returns the rows of the day's users."""
    return HashRows("user", ROWS)(day_log(number)["user"].combine_chunks()).rows_V


@pytest.fixture(scope="module")
def two_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes runs that train on day 1, then the days 2 and 3; not to be changed."""
    folder = tmp_path_factory.mktemp("life")
    tree = config_tree(
        write_days(folder / "log", {day(n): day_log(n) for n in range(1, 5)}), folder / "runs"
    )
    tree |= {
        "nightly": NIGHTLY | {"gate": OFF},
        "evaluation": {"user": "user", "item": "item"},
        "life_cycle": {"tables": {"user": {"evict_after_days": 1, "admit_after": 3}}},
    }
    del tree["data"]["train"], tree["data"]["eval"]
    config = write_config(tree, folder / "config.yaml")
    for number in (2, 4):
        ended = nightly(config, "--date", day(number))
        assert ended.returncode == 0, ended.stderr
    return config


def step_of(config: Path, number: int) -> Path:
    (step,) = (night(config, number) / "train" / "checkpoints").glob("step-*")
    return step


def expected() -> dict[str, Any]:
    """Computes the second run's history in plain Python."""
    one, new = users(1), np.concatenate([users(2), users(3)])
    evicted = [
        row for row in range(1, ROWS)
        if row in one and row not in users(2)  # came back on day 3 or not at all: more than a day
    ]  # fmt: skip
    seen = np.bincount(new, minlength=ROWS) + np.where(
        np.isin(np.arange(ROWS), evicted), 0, np.bincount(one, minlength=ROWS)
    )
    admitted = seen >= 3
    admitted[0] = True
    return {"evicted": evicted, "seen": seen, "admitted": admitted}


def test_the_history_and_what_is_said_of_it(two_nights: Path) -> None:
    wanted, folder = expected(), night(two_nights, 4)
    history = RowHistory.read(folder / "rows" / "user.npz")
    assert history.seen_N.tolist() == wanted["seen"].tolist()
    facts = json.loads((folder / "night.json").read_text())["rows"]["user"]
    assert facts["evicted"] == len(wanted["evicted"]) > 50
    rare = int((~wanted["admitted"] & (wanted["seen"] > 0)).sum())
    assert facts["rare"] == rare > 20
    said = f"{facts['evicted']} ({facts['evicted'] / ROWS:.1%}) evicted after more than 1 days"
    assert said in (folder / "night.html").read_text()
    log = (folder / "logs" / "train.log").read_text()
    assert f"evicted  tables.user: {facts['evicted']} rows begin anew" in log
    summary = json.loads((folder / "train" / "summary.json").read_text())
    assert summary["warm_start/evicted_rows"] == {"user": facts["evicted"]}
    first = json.loads((night(two_nights, 2) / "night.json").read_text())["rows"]["user"]
    assert first["evicted"] == 0


def test_rows_that_are_evicted_and_not_trained_again_have_their_initial_values(
    two_nights: Path, tmp_path: Path
) -> None:
    wanted = expected()
    then = checkpoint_tensors(step_of(two_nights, 2), tmp_path)
    now = checkpoint_tensors(step_of(two_nights, 4), tmp_path)
    new = set(users(2)) | set(users(3))
    # Also those that came back, but too rarely to be admitted: they train the shared row.
    alone = {r for r in new if wanted["admitted"][r]} | {0}
    resting = [row for row in wanted["evicted"] if row not in alone]
    config = config_from(read_manifest(step_of(two_nights, 4)).config, (), where="a test")
    [table] = [t for t in config.tables if t.name == "user"]
    fresh = table_rows(table, config.run.seed, 0, ROWS)
    assert len(resting) > 50
    assert torch.equal(now[WEIGHT][resting], fresh[resting])
    assert not torch.equal(then[WEIGHT][resting], fresh[resting]), "they had been trained"
    [sums] = [t for n, t in now.items() if n.endswith("/user.momentum1")]
    assert (sums[resting] == 0).all()
    unseen = sorted(set(range(1, ROWS)) - set(wanted["evicted"]) - alone)
    assert unseen
    assert torch.equal(now[WEIGHT][unseen], then[WEIGHT][unseen])
    assert not torch.equal(now[WEIGHT][0], then[WEIGHT][0]), "the shared row is trained"


def test_training_evaluation_and_artefact_look_up_the_same_rows(
    two_nights: Path, tmp_path: Path
) -> None:
    admitted, folder = expected()["admitted"], night(two_nights, 4)
    trained = np.concatenate([users(2), users(3)])
    summary = json.loads((folder / "train" / "summary.json").read_text())
    assert summary["data/counts"]["rare/user"] == np.count_nonzero(~admitted[trained]) > 0

    judged = users(4)
    rare = np.count_nonzero(~admitted[judged])
    assert rare > 0
    scores = tmp_path / "again"
    ended = python(
        "launch/evaluate.py", "--checkpoint", str(step_of(two_nights, 4)), "--out", str(scores),
        "--keep-scores", f"data.eval.dates=[{day(4)}, {day(4)}]",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found = Predictor(folder / "artefact").predict_counted(day_log(4))
    assert found.counts["rare/user"] == rare
    score = ScoreFiles(scores / "scores" / "model").score("ctr")
    np.testing.assert_allclose(found.values["ctr"], score, rtol=1e-5, atol=1e-6)
    auc = auc_of(scores)
    assert auc_of(folder / "evaluation") == auc

    # As the training evaluates it: another run of the night's config, to the bit.
    ended = python(
        "launch/train.py", "--config", str(folder / "train.yaml"), f"run.dir={tmp_path}",
        "run.name=own", f"data.eval.dates=[{day(4)}, {day(4)}]",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    own = json.loads((tmp_path / "own" / "summary.json").read_text())
    assert own["eval/counts"]["rare/user"] == rare
    assert own["eval/auc/ctr"] == pytest.approx(auc, rel=1e-9)

    # The rows without admission are others, or the above would prove little.
    plain = Predictor(folder / "artefact")
    described = plain.artefact
    plain._transforms = FeatureTransforms(described.features, described.config_tables)
    without = plain.predict(day_log(4))["ctr"]
    assert np.array_equal(without != found.values["ctr"], ~admitted[judged])


def auc_of(report: Path) -> float:
    tasks = json.loads((report / "report.json").read_text())["tasks"]
    return next(task for task in tasks if task["name"] == "ctr")["figures"]["auc"]["value"]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300,
        check=False, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_the_bits_go_with_the_checkpoint_and_others_are_refused(
    two_nights: Path, tmp_path: Path
) -> None:
    step, rows = step_of(two_nights, 4), night(two_nights, 4) / "rows"
    manifest = read_manifest(step)
    assert (step / "admitted.npz").read_bytes() == (rows / "admitted.npz").read_bytes()
    assert "admitted.npz" in manifest.files
    config = copy_of(two_nights, tmp_path / "a", nights=2)
    folder = night(config, 4)
    # The rows of the first night: the run must not go on with them.
    own = folder / "rows" / "admitted.npz"
    own.write_bytes((night(config, 2) / "rows" / "admitted.npz").read_bytes())
    write_file_list(own.parent)
    tables = config_from(manifest.config, (), where="").tables
    assert read_row_bits(own, tables)["user"].count != expected()["admitted"].sum()
    ended = python(
        "launch/train.py", "--config", str(folder / "train.yaml"), f"run.dir={folder}",
        f"life_cycle.rows={folder / 'rows'}",
    )  # fmt: skip
    assert ended.returncode == 5, ended.stderr
    assert "was saved with other admitted rows than those of life_cycle.rows" in ended.stderr


@pytest.mark.slow
def test_a_night_that_is_killed_in_the_stage_ends_as_if_it_had_not_been(
    two_nights: Path, tmp_path: Path
) -> None:
    config = copy_of(two_nights, tmp_path / "a", nights=1)
    for point in ("rows:begin", "rows:written", "rows:end"):
        ended = nightly(config, "--date", day(4), killed_at=point)
        assert ended.returncode == -signal.SIGKILL, (point, ended.stderr)
    ended = nightly(config, "--date", day(4))
    assert ended.returncode == 0, ended.stderr
    found, whole = night(config, 4), night(two_nights, 4)
    assert_same_night(found, whole, tmp_path)
    for file in (whole / "rows").iterdir():
        assert (found / "rows" / file.name).read_bytes() == file.read_bytes(), file.name
    assert not (found / ".rows.partial").exists()
