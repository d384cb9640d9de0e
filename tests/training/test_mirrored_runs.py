"""Real runs with a mirror: a machine that is gone, a kill between payload and marker, a full stop.

Each is held against a run without a mirror, to the bit.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from torch import Tensor

from tests.checkpoint.buckets import Bucket
from tests.checkpoint.buckets import Fault as AtPut
from tests.support.launches import (
    PATIENT,
    Ended,
    assert_same_tensors,
    checkpoint_tensors,
    checkpoints,
    codes,
    launch_train,
    summary,
    train_main,
)
from tests.support.ranks import RankDiedError, rank_outcomes
from tests.support.runs import default_setup

_STEPS = 8
_LAST = f"checkpoints/step-{_STEPS:09d}"
_SETTINGS = (
    "model.dropout=0.2",
    "checkpoint.every_n_steps=2",
    "checkpoint.keep=2",
    "sharding.tables={user: row_wise, item: table_wise, price_band: column_wise}",
    PATIENT,
)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The end of a run that has no mirror and is left alone."""
    folder = tmp_path_factory.mktemp("straight")
    assert codes(launch_train(default_setup(folder, rows=1000), *_SETTINGS)) == [0, 0]
    return checkpoint_tensors(folder / "runs/test" / _LAST, folder)


def _mirrored(folder: Path) -> tuple[str, ...]:
    return (*_SETTINGS, f"checkpoint.mirror=bucket://{folder}/bucket")


def _train(config: Path, *more: str, fault: AtPut | None = None) -> list[Ended]:
    settings = _mirrored(config.parent)
    return launch_train(config, *settings, *more, faults=(Bucket(fault),), timeout_s=25)


def _of_mirror(run: Path) -> list[str]:
    """The summary's warnings about copies; a run of a few steps has others, too."""
    return [text for text in summary(run)["warnings"] if text.startswith("checkpoint.mirror")]


def _copies(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("bucket/test/step-*/manifest.json"))


def test_a_run_whose_machine_is_gone_goes_on_from_the_mirror(
    tmp_path: Path, straight: dict[str, Tensor]
) -> None:
    config = default_setup(tmp_path, rows=1000)
    ended = _train(config, "run.steps=5")
    assert codes(ended) == [0, 0]
    # Of 2, 4 and 5 the one of 2 or 4 may have given way to a newer one; keep is 2.
    assert _copies(tmp_path)[-1] == "step-000000005"
    assert len(_copies(tmp_path)) <= 2
    assert _of_mirror(tmp_path / "runs/test") == []
    shutil.rmtree(tmp_path / "runs")

    ended = _train(config)
    assert codes(ended) == [0, 0]
    url = f"bucket://{tmp_path}/bucket/test"
    assert f"fetched step-000000005 from the mirror {url}\n" in ended[0].said
    assert "/step-000000005 at step 5\n" in ended[0].said
    run = tmp_path / "runs/test"
    assert summary(run)["step"] == _STEPS
    assert _copies(tmp_path)[-1] == "step-000000008"
    assert_same_tensors(checkpoint_tensors(run / _LAST, tmp_path), straight)
    # The copy is the checkpoint, file by file.
    for path in (run / _LAST).iterdir():
        assert (tmp_path / f"bucket/test/step-{_STEPS:09d}" / path.name).read_bytes() == (
            path.read_bytes()
        )


def test_a_kill_between_payload_and_marker_leaves_the_copy_before(
    tmp_path: Path, straight: dict[str, Tensor]
) -> None:
    config = default_setup(tmp_path, rows=1000)
    assert codes(_train(config, "run.steps=3")) == [0, 0]
    assert _copies(tmp_path)[-1] == "step-000000003"
    # No save beside the steps: the copy that dies is then the last one, of step 6.
    arguments = ("--config", str(config), *_mirrored(tmp_path), "run.steps=6")
    arguments = (*arguments, "checkpoint.every_n_steps=null")
    kill = AtPut("kill", name="step-000000006/manifest.json")
    outcomes = rank_outcomes(
        train_main, 2, arguments, (Bucket(kill),), timeout_s=25, init_group=False
    )
    assert isinstance(outcomes[0].error, RankDiedError)
    assert "SIGKILL" in str(outcomes[0].error)
    assert checkpoints(tmp_path / "runs/test")[-1] == "step-000000006"
    half = {path.name for path in (tmp_path / "bucket/test/step-000000006").iterdir()}
    assert ".metadata" in half
    assert "manifest.json" not in half
    assert _copies(tmp_path)[-1] == "step-000000003"

    shutil.rmtree(tmp_path / "runs")
    ended = _train(config)
    assert codes(ended) == [0, 0]
    assert "fetched step-000000003 from the mirror" in ended[0].said
    assert "mirror: deleted 1 unfinished or abandoned copies" in ended[0].said
    assert_same_tensors(checkpoint_tensors(tmp_path / "runs/test" / _LAST, tmp_path), straight)


def test_a_start_copies_what_the_one_before_could_not(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    ended = _train(config, "run.steps=4", fault=AtPut("fail", name=".distcp"))
    assert codes(ended) == [0, 0]
    assert _copies(tmp_path) == []
    run = tmp_path / "runs/test"
    assert "ERROR copy of step-000000004 to the mirror FAILED (failed copies: 2)" in ended[0].said
    last, count = _of_mirror(run)
    assert last.startswith("checkpoint.mirror: step-000000004 is not mirrored: ")
    assert "503 Slow Down" in last
    assert "2 copies" in count
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    failed_copies = [
        line["checkpoint/failed_mirror_copies"]
        for line in lines
        if "checkpoint/failed_mirror_copies" in line
    ]
    assert failed_copies[0] == 0.0
    # A run that has nothing left to do brings the copy after.
    assert codes(_train(config, "run.steps=4")) == [0, 0]
    assert _copies(tmp_path) == ["step-000000004"]
    assert _of_mirror(run) == []


def test_a_slow_mirror_holds_up_nothing_but_the_end(tmp_path: Path) -> None:
    """Steps are taken and saved while the first copy is under way; the end waits for its own."""
    config = default_setup(tmp_path, rows=1000)
    ended = _train(config, "checkpoint.keep=9", fault=AtPut("pause", at_put=1))
    assert codes(ended) == [0, 0]
    said = ended[0].said
    assert said.index("/step-000000006") < said.index("mirrored step-000000002")
    assert said.index("mirrored step-000000008") < said.index("done at step 8")
    assert _copies(tmp_path) == ["step-000000002", "step-000000008"]
    assert "step-000000004 is not mirrored: a newer one has come" in said


def test_a_run_that_begins_anew_is_refused_and_the_old_run_left_alone(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    assert codes(_train(config, "run.steps=2")) == [0, 0]
    before = sorted(path.name for path in (tmp_path / "runs/test").iterdir())
    ended = _train(config, "--resume", "never")
    assert codes(ended) == [2, 2]
    assert "holds checkpoints of an earlier run of this name (steps 2)" in ended[0].said
    assert sorted(path.name for path in (tmp_path / "runs/test").iterdir()) == before
