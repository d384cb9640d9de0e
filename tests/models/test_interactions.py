"""Interactions against their formulae, written as loops."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from marigold_rec.axes import axes_of
from marigold_rec.config.components import INTERACTIONS, component_class
from marigold_rec.inputs import slots_of, width_of

SLOTS = slots_of([("user", 4), ("item", 4), ("hour", 3), ("price", 1)])
CASES: list[dict[str, Any]] = [
    {"name": "dcn_v2", "layers": 3, "rank": 2},
    {"name": "fm", "width": 4},
    {"name": "dot", "width": 4},
]


def interaction_of(case: dict[str, Any]) -> Any:
    interaction_class = component_class(INTERACTIONS, case["name"])
    torch.manual_seed(1)
    found = interaction_class(interaction_class.Settings.model_validate(case), SLOTS)
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.5)
    return found.double()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_its_formula(case: dict[str, Any]) -> None:
    interaction = interaction_of(case)
    x_BI = torch.randn(5, width_of(SLOTS), dtype=torch.float64)
    found = interaction(x_BI)
    expected = torch.stack([REFERENCES[case["name"]](interaction, x) for x in x_BI])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert found.shape[1] == width_of(interaction.slots)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_input_s_own_columns_keep_their_slots(case: dict[str, Any]) -> None:
    assert interaction_of(case).slots[: len(SLOTS)] == SLOTS


def test_a_parameter_as_wide_as_the_input_says_so() -> None:
    """Else a warm start under other features would take over permuted columns in silence."""
    for case in CASES:
        interaction = interaction_of(case)
        for name, parameter in interaction.named_parameters():
            for size, axis in zip(parameter.shape, axes_of(interaction)[name].names, strict=True):
                assert (axis == "input") == (size == width_of(SLOTS)), (case["name"], name)


def _dcn_v2(interaction: Any, x: Tensor) -> Tensor:
    x0 = x
    for layer in interaction.layers:
        x = x0 * (layer.u @ (layer.v @ x) + layer.bias) + x
    return x


def _vectors(interaction: Any, x: Tensor) -> list[Tensor]:
    wide = [slot for slot in SLOTS if slot.width > 1]
    return [
        project(x[slot.start : slot.stop])
        for slot, project in zip(wide, interaction.fields.project, strict=True)
    ]


def _fm(interaction: Any, x: Tensor) -> Tensor:
    pairs = [a * b for a, b in combinations(_vectors(interaction, x), 2)]
    return torch.cat([x, torch.stack(pairs).sum(0)])


def _dot(interaction: Any, x: Tensor) -> Tensor:
    vectors = _vectors(interaction, x)
    dots = [vectors[i] @ vectors[j] for i in range(len(vectors)) for j in range(i)]
    return torch.cat([x, torch.stack(dots)])


REFERENCES: dict[str, Any] = {"dcn_v2": _dcn_v2, "fm": _fm, "dot": _dot}


def test_every_interaction_has_a_reference() -> None:
    assert set(REFERENCES) == set(INTERACTIONS) == {case["name"] for case in CASES}
