"""The embedded synthetic log is only for configs that name no log at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.assembly.data import find_train_files
from jobs.assembly.data_root import data_root, split_root
from jobs.assembly.log_once import LogOnce
from launch.nightly import main as nightly
from launch.train import main as train
from marigold_rec.config import dump_config
from marigold_rec.config.loading import config_from
from marigold_rec.errors import EXIT_CONFIG, ConfigError
from tests.support.parquet import log_config, write_log


def config_of(tmp_path: Path, **data: Any) -> Any:
    tree = log_config().model_dump(mode="json")
    tree["run"] |= {"name": "test", "dir": str(tmp_path / "runs")}
    tree["data"] |= {"path": None, **data}
    return config_from(tree, (), where="test")


def no_words(text: str) -> None:
    raise AssertionError(text)


def made(tmp_path: Path) -> bool:
    return (tmp_path / "runs/.synthetic").exists()


def test_a_split_of_its_own_path_asks_for_no_root(tmp_path: Path):
    write_log(tmp_path / "log", [30])
    config = config_of(tmp_path, train={"path": str(tmp_path / "log")})
    assert find_train_files(config, LogOnce()).num_rows == 30
    assert not made(tmp_path)


@pytest.mark.parametrize("named", ["train", "eval"])
def test_the_other_split_is_missed_and_nothing_is_made(tmp_path: Path, named: str):
    splits: dict[str, Any] = {"train": {}, "eval": {}, named: {"path": "/log"}}
    other = "eval" if named == "train" else "train"
    splits[other] = {"path": None}
    config = config_of(tmp_path, **splits)
    split = getattr(config.data, other)
    with pytest.raises(ConfigError, match=rf"set data.path or data\.{other}\.path"):
        split_root(other, split, config, no_words)
    with pytest.raises(ConfigError, match=r"set data\.path"):
        data_root(config, no_words)
    assert not made(tmp_path)


@pytest.mark.parametrize("flags", [["--dry-run"], []])
def test_a_run_refuses_it(tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch):
    write_log(tmp_path / "log", [30])
    config = config_of(tmp_path, train={"path": str(tmp_path / "log")}, eval={"path": None})
    (tmp_path / "config.yaml").write_text(dump_config(config))
    monkeypatch.setattr("sys.argv", ["train.py", "--config", str(tmp_path / "config.yaml"), *flags])
    with pytest.raises(SystemExit) as ended:
        train()
    assert ended.value.code == EXIT_CONFIG
    assert not made(tmp_path)


def test_a_night_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_log(tmp_path / "log/dt=2024-01-01", [30])
    config = config_of(tmp_path, train={"path": str(tmp_path / "log")})
    (tmp_path / "config.yaml").write_text(dump_config(config))
    words = ["nightly.py", "--config", str(tmp_path / "config.yaml"), "--date", "auto"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        nightly()
    assert ended.value.code == EXIT_CONFIG
    assert not made(tmp_path)
