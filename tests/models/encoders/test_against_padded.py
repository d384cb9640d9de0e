"""Every encoder equals a reference in plain torch that takes one padded row after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from marigold_rec.config.components import ENCODERS, component_class
from marigold_rec.inputs import Jagged, SequenceSlot

WIDTH, QUERY = 8, 12
LENGTHS = [3, 0, 1, 7, 0, 4]
CASES: list[dict[str, Any]] = [
    {"name": "mean"},
    {"name": "target_attention", "query": ["item"]},
    {"name": "target_attention", "query": ["item"], "normalise": True, "layers": [5, 3]},
    {"name": "transformer"},
    {"name": "transformer", "query": ["item"], "newest_first": True, "heads": 4, "max_age": 3},
    {"name": "hstu", "query": ["item"], "blocks": 1},
    {"name": "hstu", "newest_first": True, "max_age": 2},
]


def encoder_of(case: dict[str, Any], query_width: int) -> Any:
    encoder_class = component_class(ENCODERS, case["name"])
    settings = encoder_class.Settings.model_validate(case)
    torch.manual_seed(1)
    encoder = encoder_class(settings, SequenceSlot("clicks", "clicks", WIDTH), query_width)
    for parameter in encoder.parameters():  # no bias or position may be left at zero
        nn.init.normal_(parameter, std=0.3)
    return encoder.double()


def inputs(lengths: list[int]) -> tuple[Jagged, Tensor]:
    random = torch.Generator().manual_seed(2)
    values = torch.randn(sum(lengths), WIDTH, generator=random, dtype=torch.float64)
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    query = torch.randn(len(lengths), QUERY, generator=random, dtype=torch.float64)
    return Jagged(values, offsets), query


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_a_loop_over_rows(case: dict[str, Any]) -> None:
    query_width = QUERY if "query" in case else 0
    encoder = encoder_of(case, query_width)
    sequence, query = inputs(LENGTHS)
    found = encoder(sequence, query if query_width else None)
    rows = sequence.values_NW.split(LENGTHS)
    expected = [
        REFERENCES[case["name"]](encoder, case, row, query[b] if query_width else None)
        for b, row in enumerate(rows)
    ]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-9, atol=1e-9)
    assert found.shape == (len(LENGTHS), encoder.out_width)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_batch_without_any_id(case: dict[str, Any]) -> None:
    query_width = QUERY if "query" in case else 0
    encoder = encoder_of(case, query_width)
    sequence, query = inputs([0, 0])
    found = encoder(sequence, query if query_width else None)
    assert found.shape == (2, WIDTH)
    assert bool(torch.isfinite(found).all())
    if not query_width or case["name"] == "target_attention":
        assert bool((found == 0).all()), "an empty sequence says nothing"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_row_does_not_depend_on_the_others(case: dict[str, Any]) -> None:
    query_width = QUERY if "query" in case else 0
    encoder = encoder_of(case, query_width)
    sequence, query = inputs(LENGTHS)
    whole = encoder(sequence, query if query_width else None)
    part = encoder(sequence.rows(4), query[:4] if query_width else None)
    torch.testing.assert_close(part, whole[:4], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c["name"] in ("transformer", "hstu")], ids=str
)
def test_no_token_sees_a_newer_one(case: dict[str, Any]) -> None:
    """The first two tokens' output is the same whether a third one follows or not."""
    encoder = encoder_of(case | {"newest_first": False, "max_age": 1}, 0)
    # Positions count from the end: without them only attention could look ahead.
    nn.init.zeros_(encoder.ages)
    sequence, _ = inputs([3])
    seen = []
    encoder.attend = _spy(encoder.attend, seen)
    encoder(sequence, None)
    encoder(Jagged(sequence.values_NW[:2], torch.tensor([0, 2])), None)
    torch.testing.assert_close(seen[0][:2], seen[1], rtol=1e-12, atol=1e-12)


def _spy(attend: Any, seen: list[Tensor]) -> Any:
    def spied(*arguments: Any) -> Tensor:
        seen.append(attend(*arguments))
        return seen[-1]

    return spied


def _mean(encoder: Any, case: dict[str, Any], row: Tensor, query: Tensor | None) -> Tensor:
    return row.mean(0) if len(row) else torch.zeros(WIDTH, dtype=row.dtype)


def _target_attention(encoder: Any, case: dict[str, Any], row: Tensor, query: Any) -> Tensor:
    q = encoder.project(query)
    if not len(row):
        return torch.zeros(WIDTH, dtype=row.dtype)
    a = torch.stack([encoder.score(torch.cat([v, q, v - q, v * q])) for v in row]).squeeze(1)
    if case.get("normalise"):
        a = a.softmax(0)
    return (a[:, None] * row).sum(0)


def _tokens(encoder: Any, case: dict[str, Any], row: Tensor, query: Any) -> Tensor:
    row = row.flip(0) if case.get("newest_first") else row
    if query is not None:
        row = torch.cat([row, encoder.project(query)[None]])
    age = torch.arange(len(row)).flip(0).clamp(max=len(encoder.ages) - 1)
    return row + encoder.ages[age]


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.view(len(x), heads, -1).transpose(0, 1)  # [H, L, E]


def _transformer(encoder: Any, case: dict[str, Any], row: Tensor, query: Any) -> Tensor:
    x, heads = _tokens(encoder, case, row, query), case.get("heads", 2)
    if not len(x):
        return torch.zeros(WIDTH, dtype=row.dtype)
    for block in encoder.blocks:
        qkv = block.qkv(block.attention_norm(x)).view(len(x), heads, 3, -1)
        q, k, v = (qkv[:, :, i].transpose(0, 1) for i in range(3))
        read = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + block.out(read.transpose(0, 1).flatten(1))
        x = x + block.mlp(block.mlp_norm(x))
    return encoder.norm(x)[-1]


def _hstu(encoder: Any, case: dict[str, Any], row: Tensor, query: Any) -> Tensor:
    x, heads = _tokens(encoder, case, row, query), case.get("heads", 2)
    if not len(x):
        return torch.zeros(WIDTH, dtype=row.dtype)
    position = torch.arange(len(x))
    age = (position[:, None] - position[None]).clamp(min=0)
    for block in encoder.blocks:
        u, v, q, k = F.silu(block.uvqk(block.norm(x))).chunk(4, dim=1)
        v, q, k = _heads(v, heads), _heads(q, heads), _heads(k, heads)
        bias = block.bias[age.clamp(max=len(block.bias) - 1)].permute(2, 0, 1)
        a = F.silu(q @ k.transpose(1, 2) * q.shape[2] ** -0.5 + bias).tril()
        read = (a @ v / (position + 1)[:, None]).transpose(0, 1).flatten(1)
        x = x + block.out(block.read_norm(read) * u)
    return x[-1]


REFERENCES: dict[str, Any] = {
    "mean": _mean,
    "target_attention": _target_attention,
    "transformer": _transformer,
    "hstu": _hstu,
}


def test_every_encoder_has_a_reference() -> None:
    assert set(REFERENCES) == set(ENCODERS) == {case["name"] for case in CASES}
