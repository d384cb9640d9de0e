"""Losses, task weights and final metrics of short runs are those that were recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.golden.record import ROOT, RUNS, command, kept
from tests.support.torchrun import Torchrun

_GLOBO = ROOT / ".." / "shared" / "data" / "globo"
_RTOL = 1e-4
"""Another processor sums in another order."""


def _recorded(name: str, ranks: int) -> list[dict[str, Any]]:
    return json.loads((ROOT / "tests" / "golden" / f"{name}_{ranks}.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_gives_the_recorded_figures(
    name: str, ranks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.startswith("globo") and not _GLOBO.exists():
        pytest.skip("needs ../shared/data/globo")
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    process = Torchrun(*command(name, ranks, tmp_path), log=tmp_path / "log")
    try:
        assert process.wait(300) == 0
    finally:
        process.kill()
    found, expected = kept(tmp_path), _recorded(name, ranks)
    assert [line.keys() for line in found] == [line.keys() for line in expected]
    for line, of_then in zip(found, expected, strict=True):
        assert line == pytest.approx(of_then, rel=_RTOL, nan_ok=True), line["step"]
