"""Sums, softmaxes and pairs within rows of different lengths, without padding.

The cost follows the number of ids (or of pairs of ids), never rows x the longest row. Sizes are
read from `shape`: `len` would fix them in an exported program.

Shapes: N tokens of all rows, B rows, P pairs of tokens, H attention heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from marigold_rec.inputs import Jagged


def segment_softmax(logits_NH: Tensor, segment_N: Tensor, num_segments: int) -> Tensor:
    """[N, H]: softmax over the entries of each segment; `segment_N` holds numbers of segments."""
    index_NH = segment_N[:, None].expand_as(logits_NH)
    lowest_SH = logits_NH.new_full((num_segments, logits_NH.shape[1]), -torch.inf)
    # The largest is subtracted for stability only: it needs no gradient.
    largest_SH = lowest_SH.scatter_reduce(0, index_NH, logits_NH.detach(), "amax")
    weights_NH = (logits_NH - largest_SH.index_select(0, segment_N)).exp()
    sums_SH = segment_sum(weights_NH, segment_N, num_segments)
    return weights_NH / sums_SH.index_select(0, segment_N)


def segment_sum(values_NW: Tensor, segment_N: Tensor, num_segments: int) -> Tensor:
    """[S, W]; zeros for a segment without entries."""
    zeros_SW = values_NW.new_zeros(num_segments, values_NW.shape[1])
    return zeros_SW.index_add(0, segment_N, values_NW)


class CausalPairs(NamedTuple):
    """Every pair of a token and one that is not newer, itself included, within each row."""

    query_P: Tensor
    key_P: Tensor
    age_P: Tensor
    """How many tokens the key is older than the query: 0 for the token itself."""


def causal_pairs(offsets: Tensor, num_tokens: int) -> CausalPairs:
    """Of rows whose tokens stand oldest first; `offsets` [B + 1] as in `Jagged`."""
    token_N = torch.arange(num_tokens, device=offsets.device)
    row_N = torch.bucketize(token_N, offsets[1:], right=True)
    num_keys_N = token_N - offsets.index_select(0, row_N) + 1
    query_P = torch.repeat_interleave(token_N, num_keys_N)
    first_N = num_keys_N.cumsum(0) - num_keys_N
    age_P = torch.arange(query_P.shape[0], device=offsets.device) - first_N.index_select(0, query_P)
    return CausalPairs(query_P, query_P - age_P, age_P)


def oldest_first(sequence: Jagged) -> Jagged:
    """The same rows with their tokens in reverse."""
    token_N = torch.arange(sequence.values_NW.shape[0], device=sequence.offsets.device)
    row_N = sequence.row_of_value()
    first_N = sequence.offsets.index_select(0, row_N)
    last_N = sequence.offsets.index_select(0, row_N + 1) - 1
    return Jagged(sequence.values_NW.index_select(0, first_N + last_N - token_N), sequence.offsets)


def append_token(sequence: Jagged, token_BW: Tensor) -> Jagged:
    """One more token at the end of each row."""
    num_rows = sequence.num_rows
    rows_B = torch.arange(num_rows + 1, device=sequence.offsets.device)
    offsets = sequence.offsets + rows_B
    token_N = torch.arange(sequence.values_NW.shape[0], device=offsets.device)
    place_N = token_N + sequence.row_of_value()
    values = sequence.values_NW.new_zeros(token_N.shape[0] + num_rows, token_BW.shape[1])
    values = values.index_copy(0, place_N, sequence.values_NW)
    return Jagged(values.index_copy(0, offsets[1:] - 1, token_BW), offsets)
