"""HSTU blocks over a sequence (Zhai et al., ICML 2024, arXiv:2402.17152, eq. 1 to 3), over jagged
rows.

Shapes: N tokens of all rows, W width of a token, P pairs of tokens, H heads, E = W / H.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from marigold_rec.inputs import SequenceSlot
from models.encoders.causal import CausalEncoder, CausalSettings
from models.encoders.segments import CausalPairs, segment_sum


class HSTUSettings(CausalSettings):
    name: Literal["hstu"]


class HSTU(CausalEncoder):
    """U, V, Q, K = SiLU(f1(norm(x))); A V = sum SiLU(Q K^T / sqrt(E) + rab) V / n;
    x += f2(norm(A V) * U).

    n is the number of tokens that a token attends to (the paper divides by the longest sequence,
    which would make a row's output depend on the others of its batch), and the relative bias is of
    positions only.
    """

    Settings = HSTUSettings

    def __init__(self, settings: HSTUSettings, slot: SequenceSlot, query_width: int) -> None:
        super().__init__(settings, slot, query_width)
        self.blocks = nn.ModuleList(
            _Block(slot.width, settings.heads, settings.max_age) for _ in range(settings.blocks)
        )

    def attend(self, x_NW: Tensor, pairs: CausalPairs) -> Tensor:
        for block in self.blocks:
            x_NW = block(x_NW, pairs)
        return x_NW


class _Block(nn.Module):
    def __init__(self, width: int, num_heads: int, max_age: int) -> None:
        super().__init__()
        self.norm, self.read_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.uvqk = nn.Linear(width, 4 * width)
        self.out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(max_age + 1, num_heads))
        self._heads = num_heads

    def forward(self, x_NW: Tensor, pairs: CausalPairs) -> Tensor:
        num_tokens = x_NW.shape[0]
        u_NW, v_NW, q_NW, k_NW = F.silu(self.uvqk(self.norm(x_NW))).chunk(4, dim=1)
        v_NHE, q_NHE, k_NHE = (t.unflatten(1, (self._heads, -1)) for t in (v_NW, q_NW, k_NW))
        q_PHE = q_NHE.index_select(0, pairs.query_P)
        logits_PH = (q_PHE * k_NHE.index_select(0, pairs.key_P)).sum(2) * q_NHE.shape[2] ** -0.5
        age_P = pairs.age_P.clamp(max=len(self.bias) - 1)
        weights_PH = F.silu(logits_PH + self.bias.index_select(0, age_P))
        read_PHE = weights_PH[:, :, None] * v_NHE.index_select(0, pairs.key_P)
        read_NW = segment_sum(read_PHE.flatten(1), pairs.query_P, num_tokens)
        num_keys_N1 = segment_sum(
            torch.ones_like(logits_PH[:, :1]), pairs.query_P, num_tokens
        ).clamp(min=1.0)
        return x_NW + self.out(self.read_norm(read_NW / num_keys_N1) * u_NW)
