"""docs/config.md is what the code says, and says something of every setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.training.arguments import parse_arguments
from marigold_rec.config.components import HEADS, INTERACTIONS, TRUNKS
from marigold_rec.config.reference import reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "config.md"


def test_the_page_is_current() -> None:
    found = PAGE.read_text()
    assert found == reference(), "run: python -m marigold_rec.config.reference > docs/config.md"


def test_the_page_names_every_component_and_its_settings() -> None:
    text = reference()
    for name in [*HEADS, *INTERACTIONS, *TRUNKS]:
        assert f".name: {name}`" in text
    for setting in ("`data.batch_size`", "`task_experts`", "`balancer.probe.every_n_steps`"):
        assert setting in text
    assert max(map(len, text.splitlines())) <= 120


def test_help_config_needs_no_config(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments("a test", ["--help-config"])
    assert ended.value.code == 0
    assert "`run.seed`" in capsys.readouterr().out
