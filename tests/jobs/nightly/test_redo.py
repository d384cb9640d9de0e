"""--from and --rollback: a refused command changes nothing, an unpublished model is not served."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.jobs.nightly.test_nightly import (
    assert_same_night,
    copy_of,
    day,
    history,
    in_use,
    night,
    nightly,
    poison,
    times,
    two_nights,
)

__all__ = ["two_nights"]  # the fixture

pytestmark = pytest.mark.timeout(900)


def unchanged(before: dict[str, int], config: Path) -> bool:
    return times(config) == before


@pytest.mark.parametrize("stage", ["data", "train", "gate", "export", "publish"])
def test_a_published_night_stays_as_it_was_published(
    two_nights: Path, tmp_path: Path, stage: str
) -> None:
    """This holds for the one in use, and for the older one that a rollback returns to."""
    config = copy_of(two_nights, tmp_path / "a", nights=2)
    nightly(config, "--status")
    for number in (2, 3):
        before = times(config)
        ended = nightly(config, "--date", day(number), "--from", stage)
        assert ended.returncode == 2, ended.stderr
        assert "(--rollback)" in ended.stderr
        found = times(config)
        assert {path for path in before if found.get(path) != before[path]} <= changed_by_settling(
            config
        )
    assert nightly(config, "--rollback").returncode == 0
    assert in_use(config) == day(2)
    assert_same_night(night(config, 2), night(two_nights, 2), tmp_path)


def changed_by_settling(config: Path) -> set[str]:
    """Returns the paths of the pointer, which is rebuilt in a copy that has none."""
    root = config.parent / "runs" / "test"
    return {str(root / "published"), str(root / "published" / "current"), str(root)}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--from", "train", "optimizer.dense.lr=0.5"), 2, "--from data"),
        (("--from", "data", "nightly.train_from=2024-02-01"), 2, "nothing to train on"),
        (("--from", "data", "nightly.eval_days=2"), 2, "nothing to train on"),
        (("--from", "data", "nightly.holdout=[2024-01-09, 2024-01-09]"), 3, day(9)),
        (("--from", "gate", "nightly.gate.tasks.ctrr={auc: null}"), 2, "did you mean 'ctr'"),
    ],
)
def test_a_command_that_is_refused_has_changed_nothing(
    two_nights: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    config = copy_of(two_nights, tmp_path / "a", nights=2)
    assert nightly(config, "--rollback").returncode == 0  # the night of the third may be redone
    before = times(config)
    ended = nightly(config, "--date", day(3), *arguments)
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr
    assert unchanged(before, config)
    assert (night(config, 3) / "train" / "checkpoints").is_dir()


def test_a_night_goes_on_only_from_what_is_in_use(two_nights: Path, tmp_path: Path) -> None:
    """It started from a model that is then rolled back: publishing it would bring that back."""
    config = copy_of(two_nights, tmp_path / "a", nights=2)
    log = config.parent / "log"
    shutil.copytree(log / f"dt={day(1)}", log / f"dt={day(4)}")
    off = ("nightly.gate.data.max_repeated_rows=null",)
    assert nightly(config, "--date", day(4), *off, killed_at="train:begin").returncode == -9
    assert nightly(config, "--rollback").returncode == 0
    before = times(config)
    ended = nightly(config, "--date", day(4), *off)
    assert ended.returncode == 2, ended.stderr
    [line] = [line for line in ended.stderr.splitlines() if "ConfigError" in line]
    assert all(text in line for text in (day(4), day(3), day(2), "--from data"))
    assert unchanged(before, config)


@pytest.mark.slow
def test_a_redo_that_is_refused_shows_nothing_of_the_time_before(
    two_nights: Path, tmp_path: Path
) -> None:
    config = copy_of(two_nights, tmp_path / "a", nights=2)
    assert nightly(config, "--rollback").returncode == 0
    strict = "nightly.gate.tasks.ctr.auc={min: 0.999, by: value}"
    for point in ("redo:begun", "redo:cleared", "train:end"):
        ended = nightly(config, "--date", day(3), "--from", "data", strict, killed_at=point)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    ended = nightly(config, "--date", day(3), strict)
    assert ended.returncode == 6, ended.stderr
    assert not (night(config, 3) / "artefact").exists()
    assert in_use(config) == day(2)
    assert nightly(config, "--rollback").returncode == 2
    assert in_use(config) == day(2)
    assert history(config) == [
        ("published", day(2)), ("published", day(3)), ("rolled back", day(2)),
    ]  # fmt: skip


def test_a_lost_history_is_no_first_night(two_nights: Path, tmp_path: Path) -> None:
    config = copy_of(two_nights, tmp_path / "a", nights=2)
    file = config.parent / "runs" / "test" / "published" / "history.json"
    for text in ("[]", "{}", None):
        file.unlink() if text is None else file.write_text(text)
        for command in (("--date", day(4)), ("--rollback",), ("--status",)):
            ended = nightly(config, *command)
            assert ended.returncode == 5, ended.stderr
            assert "from a backup" in ended.stderr
    assert not night(config, 4).exists()


@pytest.mark.parametrize("number", [3])
def test_a_judged_day_that_was_just_learned_is_refused(
    two_nights: Path, tmp_path: Path, number: int
) -> None:
    config = copy_of(two_nights, tmp_path / "a", nights=1)
    log = config.parent / "log"
    shutil.rmtree(log / f"dt={day(number)}")
    shutil.copytree(log / f"dt={day(number - 1)}", log / f"dt={day(number)}")
    poison(config, number, lambda table: table.take(list(range(len(table) - 1, -1, -1))))
    ended = nightly(config, "--date", day(number))
    assert ended.returncode == 6, ended.stderr
    verdict = json.loads((night(config, number) / "verdict.json").read_text())
    failed = {check["rule"] for check in verdict["checks"] if check["result"] == "failed"}
    assert "data.max_repeated_rows" in failed
    assert day(number - 1) in verdict["reasons"][0]
    assert not (night(config, number) / "train").exists()
    line = next(
        line for line in nightly(config, "--status").stdout.splitlines() if day(number) in line
    )
    assert len(line) < 200
