"""The verdict's pages: the reasons first, every rule after, nothing loaded."""

from __future__ import annotations

import json
import re

import pytest

from marigold_rec.config.gate import GateConfig
from marigold_rec.gating import (
    Verdict,
    judge_data,
    judge_night,
    verdict_html,
    verdict_markdown,
)
from tests.gating.made import figure, night, report

BEFORE = [night(day) for day in range(7)]
GOOD = judge_night(GateConfig(), report(), None, night(7), BEFORE)
BAD = judge_night(GateConfig(), report(auc=figure(0.7, -0.1)), None, night(7, 400_000), BEFORE)


@pytest.mark.parametrize(
    ("verdict", "title"),
    [
        (GOOD, "Published, 2024-01-08"),
        (BAD, "Not published: 2 reasons, 2024-01-08"),
        (judge_data(GateConfig(), night(7), BEFORE), "Data accepted, 2024-01-08"),
        (judge_data(GateConfig(), night(7, 300_000), BEFORE), "Not trained: 1 reason, 2024-01-08"),
    ],
)
def test_the_headline(verdict: Verdict, title: str):
    assert f"<title>{title}</title>" in verdict_html(verdict)
    assert verdict_markdown(verdict).startswith(f"## {title}\n")


def test_every_rule_stands_on_the_page_and_refused_ones_first():
    page = verdict_html(BAD)
    found = re.findall(r"<code><bdi>(.*?)</bdi></code>", page)
    assert sorted(found) == sorted(check.rule for check in BAD.checks)
    assert found[0] == "data.min_rows_share"
    assert page.count('<td class="worse">refused</td>') == 2
    for reason in BAD.reasons:
        assert reason.replace("'", "&#39;") in page


def test_the_page_loads_nothing():
    page = verdict_html(BAD)
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!data:,)", page)
    assert "default-src 'none'" in page


def test_markdown_has_the_reasons_and_the_limits():
    text = verdict_markdown(BAD)
    assert text.count("\n- ") == 2
    assert "| data.min_rows_share | data | \u2013 | 0.4 | at least 0.6 |" in text
    assert "2 refused" in text
    assert "| rule |" not in verdict_markdown(GOOD)


def test_verdict_json_is_stable_and_comes_back():
    text = BAD.json_text()
    assert Verdict.model_validate_json(text) == BAD
    again = judge_night(
        GateConfig(), report(auc=figure(0.7, -0.1)), None, night(7, 400_000), BEFORE[::-1]
    )
    assert again.json_text() == text
    tree = json.loads(text)
    assert tree["format"] == 1
    assert tree["publish"] is False
    assert list(tree) == ["format", "stage", "publish", "is_first", "dates", "reasons", "checks"]


def test_the_first_night_is_told():
    first = judge_night(GateConfig(), report(is_first=True), None, night(0), [])
    assert first.publish
    assert "the first night" in verdict_html(first)
    assert "the first night" not in verdict_html(GOOD)
