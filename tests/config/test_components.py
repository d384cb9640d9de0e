"""Components in the config: unknown names, and unknown settings of one, get the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from marigold_rec.config import dump_config
from marigold_rec.config.components import (
    ENCODERS,
    HEADS,
    INTERACTIONS,
    LOSSES,
    TRUNKS,
    component_class,
    component_name,
)
from tests.config.trees import SMALL, load, problems

_HISTORY = SMALL.replace("features:\n", "features:\n  - {name: history, kind: hash, rows: 9}\n")


def _task(settings: str) -> str:
    return SMALL.replace("label: click}", f"label: click, {settings}}}")


def _model(settings: str) -> str:
    return f"{_HISTORY}model: {settings}\n"


@pytest.mark.parametrize(
    ("text", "place", "near"),
    [
        (_model("{trunk: {name: mmo}}"), "model.trunk.name", "mmoe"),
        (_model("{interactions: [{name: dcn_v}]}"), "name", "dcn_v2"),
        (_model("{sequences: {history: {name: meen}}}"), "model.sequences.history.name", "mean"),
        (_task("head: {name: logistc}"), "head.name", "logistic"),
        (_task("loss: {name: observd}"), "loss.name", "observed"),
        (_model("{trunk: {name: mmoe, expert: 3}}"), "model.trunk.expert", "experts"),
        (_model("{trunk: {name: ple, level: 3}}"), "model.trunk.level", "levels"),
        (_model("{interactions: [{name: dcn_v2, layer: 3}]}"), "layer", "layers"),
        (_model("{sequences: {history: {name: mean, featur: a}}}"), "featur", "feature"),
    ],
)
def test_the_nearest_name_is_offered(tmp_path: Path, text: str, place: str, near: str) -> None:
    lines = problems(tmp_path, text=text)
    assert any(place in line and f"{near!r}" in line for line in lines), lines


@pytest.mark.parametrize("settings", ["{}", "{experts: 3}"])
def test_a_component_without_a_name_is_told_the_names(tmp_path: Path, settings: str) -> None:
    lines = problems(tmp_path, text=_model(f"{{trunk: {settings}}}"))
    assert any("model.trunk.name" in line and "mmoe" in line for line in lines), lines


@pytest.mark.parametrize("trunk", ["mmoe", "[mmoe]", "3"])
def test_a_component_that_is_no_mapping_is_refused(tmp_path: Path, trunk: str) -> None:
    assert any(
        "model.trunk" in line for line in problems(tmp_path, text=_model(f"{{trunk: {trunk}}}"))
    )


@pytest.mark.parametrize("table", [ENCODERS, INTERACTIONS, TRUNKS, HEADS, LOSSES])
def test_every_listed_component_says_its_settings_under_its_own_name(table: dict[str, str]) -> None:
    for name in table:
        settings = component_class(table, name).Settings
        assert settings.model_fields["name"].annotation.__args__ == (name,)


def test_settings_of_components_survive_the_effective_config(tmp_path: Path) -> None:
    text = _model("{trunk: {name: ple, levels: 1}, interactions: [{name: dcn_v2, layers: 1}], "
                  "sequences: {history: {name: mean}}}")  # fmt: skip
    config = load(tmp_path, text=text)
    assert load(tmp_path, text=dump_config(config)) == config
    assert component_name(config.model.trunk) == "ple"
