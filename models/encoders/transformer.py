"""A causal pre-norm transformer over a sequence (Vaswani et al. 2017; pre-norm as in Xiong et al.
2020), over jagged rows.

Shapes: N tokens of all rows, W width of a token, P pairs of tokens, H heads, E = W / H.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from marigold_rec.inputs import SequenceSlot
from models.encoders.causal import CausalEncoder, CausalSettings
from models.encoders.segments import CausalPairs, segment_softmax, segment_sum


class TransformerSettings(CausalSettings):
    name: Literal["transformer"]


class Transformer(CausalEncoder):
    """`blocks` of x += attention(norm(x)), x += MLP(norm(x)), and a last norm."""

    Settings = TransformerSettings

    def __init__(self, settings: TransformerSettings, slot: SequenceSlot, query_width: int) -> None:
        super().__init__(settings, slot, query_width)
        self.blocks = nn.ModuleList(
            _Block(slot.width, settings.heads) for _ in range(settings.blocks)
        )
        self.norm = nn.LayerNorm(slot.width)

    def attend(self, x_NW: Tensor, pairs: CausalPairs) -> Tensor:
        for block in self.blocks:
            x_NW = block(x_NW, pairs)
        return self.norm(x_NW)


class _Block(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self._heads = num_heads

    def forward(self, x_NW: Tensor, pairs: CausalPairs) -> Tensor:
        num_tokens = x_NW.shape[0]
        qkv_NHF = self.qkv(self.attention_norm(x_NW)).unflatten(1, (self._heads, -1))
        q_NHE, k_NHE, v_NHE = qkv_NHF.chunk(3, dim=2)
        q_PHE = q_NHE.index_select(0, pairs.query_P)
        logits_PH = (q_PHE * k_NHE.index_select(0, pairs.key_P)).sum(2) * q_NHE.shape[2] ** -0.5
        weights_PH = segment_softmax(logits_PH, pairs.query_P, num_tokens)
        read_PHE = weights_PH[:, :, None] * v_NHE.index_select(0, pairs.key_P)
        read_NW = segment_sum(read_PHE.flatten(1), pairs.query_P, num_tokens)
        x_NW = x_NW + self.out(read_NW)
        return x_NW + self.mlp(self.mlp_norm(x_NW))
