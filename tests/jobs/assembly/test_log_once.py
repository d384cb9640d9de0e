"""Lines about the data are said once, however many looks find the same."""

from __future__ import annotations

import logging

import pytest

from jobs.assembly.log_once import LogOnce
from marigold_rec.training import LOGGER


def test_several_looks_at_one_log_say_a_line_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LOGGER, "level", logging.INFO)
    log = LogOnce()
    for _ in range(3):
        log.info("100 % of it")
        log.warning("%d files are not read, e.g. %s", 2, "a")
    log.warning("%d files are not read, e.g. %s", 3, "a")
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("INFO", "100 % of it"),
        ("WARNING", "2 files are not read, e.g. a"),
        ("WARNING", "3 files are not read, e.g. a"),
    ]
