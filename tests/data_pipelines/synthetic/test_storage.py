"""A log is there whole or not at all, and is made once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from data_pipelines.synthetic import ensure_log, storage, write_log, writing
from data_pipelines.synthetic.storage import log_name
from marigold_rec.config.data import SyntheticConfig
from tests.data_pipelines.synthetic.logs import contents

ROOT = Path(__file__).parents[3]
CONFIG = SyntheticConfig(days=2, rows_per_day=1_000, users=100, items=50)
CHILD = """
import os, sys
from pathlib import Path
from data_pipelines.synthetic import ensure_log, writing
from marigold_rec.config.data import SyntheticConfig
write, left = writing._write, [int(sys.argv[3])]
def write_or_die(table, folder):
    if not left[0]:
        os._exit(9)  # as a kill: no cleaning up
    left[0] -= 1
    write(table, folder)
writing._write = write_or_die
print(ensure_log(SyntheticConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]))[1])
"""


def _child(parent: Path, files_before_death: int) -> subprocess.Popen[str]:
    arguments = [CONFIG.model_dump_json(), str(parent), str(files_before_death)]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def _visible(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir() if not path.name.startswith("."))


def test_made_once_and_found_again(tmp_path: Path) -> None:
    folder, made = ensure_log(CONFIG, tmp_path / "data")
    before = contents(folder)
    assert made
    assert ensure_log(CONFIG, tmp_path / "data") == (folder, False)
    assert contents(folder) == before
    write_log(CONFIG, tmp_path / "plain")
    assert before == contents(tmp_path / "plain")


def test_the_name_follows_content(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {log_name(CONFIG), log_name(CONFIG.model_copy(update={"seed": 2}))}
    monkeypatch.setattr(storage, "GENERATOR_VERSION", writing.GENERATOR_VERSION + 1)
    names.add(log_name(CONFIG))
    assert len(names) == 3


@pytest.mark.parametrize("files_before_death", [0, 1, 3])
def test_a_killed_writer_leaves_no_log(files_before_death: int, tmp_path: Path) -> None:
    child = _child(tmp_path, files_before_death)
    child.communicate(timeout=60)
    assert child.returncode == 9
    assert _visible(tmp_path) == []
    folder, made = ensure_log(CONFIG, tmp_path)
    assert made
    assert _visible(tmp_path) == [folder.name]
    assert not list(tmp_path.glob(".*.partial"))
    write_log(CONFIG, tmp_path / "plain")
    assert contents(folder) == contents(tmp_path / "plain")


def test_processes_at_the_same_time_make_it_once(tmp_path: Path) -> None:
    children = [_child(tmp_path, files_before_death=99) for _ in range(3)]
    answers = [child.communicate(timeout=60)[0].strip() for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert sorted(answers) == ["False", "False", "True"]
    assert _visible(tmp_path) == [log_name(CONFIG)]


def test_a_failed_write_is_cleaned_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing, "_write", full_disk)
        with pytest.raises(OSError, match="No space left"):
            ensure_log(CONFIG, tmp_path)
    assert not list(tmp_path.glob(".*.partial"))
    assert ensure_log(CONFIG, tmp_path)[1]
