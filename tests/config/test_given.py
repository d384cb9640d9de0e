"""`given`: the step before in a funnel. Chains of three, circles, wrong kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.trees import SMALL, load, problems


def _tasks(*tasks: str) -> str:
    return SMALL + "".join(f"  - {{{task}}}\n" for task in tasks)


def test_a_chain_of_three(tmp_path: Path) -> None:
    config = load(tmp_path, text=_tasks(
        "name: cart, kind: binary, label: carted, given: ctr",
        "name: buy, kind: binary, label: bought, given: cart",
        "name: stay, kind: duration, label: stay_s, given: buy",
    ))  # fmt: skip
    assert [task.given for task in config.tasks] == [None, "ctr", "cart", "buy"]


@pytest.mark.parametrize(
    ("tasks", "key", "found"),
    [
        (("name: a, kind: binary, label: x, given: a",), "tasks.a.given", "'a'"),
        (("name: a, kind: binary, label: x, given: b", "name: b, kind: binary, label: y, given: a"),
         "tasks.a.given", "'b'"),
        (("name: a, kind: binary, label: x, given: ctrr",), "tasks.a.given", "'ctr'"),
        (("name: w, kind: duration, label: s", "name: a, kind: binary, label: x, given: w"),
         "tasks.a.given", "duration"),
        (("name: a, kind: binary, label: x, given: ctr, observed_if: seen",),
         "tasks.a", "observed_if"),
    ],
    ids=["itself", "circle", "unknown", "kind", "two conditions"],
)  # fmt: skip
def test_what_is_given_must_be_an_earlier_yes_or_no(
    tmp_path: Path, tasks: tuple[str, ...], key: str, found: str
) -> None:
    lines = problems(tmp_path, text=_tasks(*tasks))
    assert any(key in line and found in line for line in lines), lines
