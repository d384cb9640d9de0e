"""Many small networks of one shape (experts, towers), computed as one.

E experts of width 64 are E small matrix products and E times the launch cost; stacked they are one
wide product (first layer, all reading one input) or one batched product (the layers after it).

Shapes: G networks of the stack, B rows, I and O widths of a layer's input and output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from marigold_rec.axes import Axis, state_axes


class StackedLinear(nn.Module):
    """G independent linear layers: weight_GOI and (if asked) bias_GO.

    `init`: "kaiming" for layers that a ReLU follows, "xavier" for others. Each of the G matrices is
    initialised by itself with its own fan-in I, exactly as G separate nn.Linear would be; a stack
    initialised whole would take G*I or G*O for a fan and start too small. Biases start at 0.

    `stack`, `reads` and `gives` say what the axes G, I and O mean (marigold_rec.axes).

    `columns_GI` (bool; None: all): the columns that each layer reads. Neither values nor gradients
    pass the others, at the price of one product of the weights' size.
    """

    def __init__(
        self,
        num_stacked: int,
        in_width: int,
        out_width: int,
        *,
        bias: bool = True,
        init: Literal["kaiming", "xavier"] = "kaiming",
        stack: Axis = None,
        reads: Axis = None,
        gives: Axis = None,
        is_shared: bool | None = None,
        columns_GI: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_stacked, out_width, in_width))
        state_axes(self, "weight", stack, gives, reads, is_shared=is_shared)
        self.bias = nn.Parameter(torch.empty(num_stacked, out_width)) if bias else None
        state_axes(self, "bias", stack, gives, is_shared=is_shared)
        self._init: Literal["kaiming", "xavier"] = init
        self.columns_GI: Tensor | None
        self.register_buffer("columns_GI", columns_GI, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for g, weight_OI in enumerate(self.weight.detach().unbind()):
            columns_I = None if self.columns_GI is None else self.columns_GI[g]
            read_OI = weight_OI if columns_I is None else weight_OI[:, columns_I]
            if self._init == "kaiming":
                nn.init.kaiming_uniform_(read_OI, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(read_OI)
            if columns_I is not None:
                weight_OI.zero_()[:, columns_I] = read_OI
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """y_GBO from x_BI (read by all G layers) or x_GBI (one input each)."""
        return self.split(self.wide(x)) if x.dim() == 2 else self.batched(x)

    def wide(self, x_BI: Tensor) -> Tensor:
        """All G layers on one input as one matrix product: [B, G*O]."""
        weight = self._read_weight().flatten(0, 1)
        return F.linear(x_BI, weight, None if self.bias is None else self.bias.flatten())

    def split(self, wide: Tensor) -> Tensor:
        """y_GBO, a view of `wide`'s result: dense in O, but not contiguous."""
        return wide.unflatten(1, self.weight.shape[:2]).transpose(0, 1)

    def batched(self, x_GBI: Tensor) -> Tensor:
        """y_GBO, each layer on an input of its own."""
        weight_GIO = self._read_weight().transpose(1, 2)
        if self.bias is None:
            return torch.bmm(x_GBI, weight_GIO)
        return torch.baddbmm(self.bias.unsqueeze(1), x_GBI, weight_GIO)

    def _read_weight(self) -> Tensor:
        """weight_GOI with zeros for the columns that a layer doesn't read."""
        columns = self.columns_GI
        return self.weight if columns is None else self.weight * columns[:, None, :]

    def extra_repr(self) -> str:
        num_stacked, out_width, in_width = self.weight.shape
        return f"{num_stacked} x ({in_width} -> {out_width}), bias={self.bias is not None}"


class StackedMLP(nn.Module):
    """G multi-layer perceptrons of one shape; ReLU, then dropout, after every layer.

    The last layer counts as hidden as well: an expert or tower is read by gates and heads, which
    bring their own linear layer. With no `widths` it is the identity of x_GBI.
    """

    def __init__(
        self,
        num_stacked: int,
        in_width: int,
        widths: Sequence[int],
        dropout: float = 0.0,
        *,
        stack: Axis = None,
        reads: Axis = None,
        is_shared: bool | None = None,
        columns_GI: Tensor | None = None,
    ) -> None:
        """`stack`: the meaning of G; `reads`: of the first layer's I (marigold_rec.axes);
        `columns_GI`: the columns that each reads (see StackedLinear)."""
        super().__init__()
        self.layers = nn.ModuleList(
            StackedLinear(
                num_stacked,
                i,
                o,
                stack=stack,
                reads=None if n else reads,
                is_shared=is_shared,
                columns_GI=None if n else columns_GI,
            )
            for n, (i, o) in enumerate(zip([in_width, *widths], widths, strict=False))
        )
        self.num_stacked = num_stacked
        self.out_width = widths[-1] if widths else in_width
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """y_GBO from x_BI (all G read it) or x_GBI (one input each); O = `out_width`."""
        for layer in self.layers:
            assert isinstance(layer, StackedLinear)
            if x.dim() == 3:
                x = self._activate(layer.batched(x))
            else:
                # Before the split: on its view, the ReLU's backward would walk mixed layouts.
                x = layer.split(self._activate(layer.wide(x)))
        return x if x.dim() == 3 else x.expand(self.num_stacked, -1, -1)

    def _activate(self, x: Tensor) -> Tensor:
        return F.dropout(F.relu(x, inplace=True), self.dropout, self.training)
