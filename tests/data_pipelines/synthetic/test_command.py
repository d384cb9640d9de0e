"""`python -m data_pipelines.synthetic`: its files, exit codes and messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipelines.synthetic.__main__ import main
from tests.data_pipelines.synthetic.logs import read


def test_writes_what_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "log"
    arguments = ["--days=2", "--rows-per-day=500", "--users=100", "--items=50", "--conflict=0.5"]
    assert main(["--out", str(out), *arguments]) == 0
    assert "wrote 2 days of 500 rows" in capsys.readouterr().out
    assert len(read(out)) == 1_000


def test_refuses_an_existing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)]) == 3
    assert "exists already" in capsys.readouterr().err


def test_lists_all_bad_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "log"), "--days", "0", "--conflict", "2"]) == 2
    message = capsys.readouterr().err
    assert "--days: Input should be greater than or equal to 1, found 0" in message
    assert "--conflict" in message
    assert not (tmp_path / "log").exists()
