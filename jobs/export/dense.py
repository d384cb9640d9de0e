"""Exports the dense part with torch.export: pooled embeddings, dense features and sequences in,
predictions in the labels' units out, for any number of rows.

Shapes: B rows, N ids of a sequence, P prediction columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from marigold_rec.inputs import InputLayout, Inputs
from marigold_rec.network import Network

_DROPPED = (torch.ops.aten.dropout.default, torch.ops.aten.to.dtype)
"""Operations without effect here: dropout in eval mode, float32 to float32."""


class DenseProgram(nn.Module):
    """A network's predictions as a function of flat tensors (`Inputs.flat`)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self._sequences = tuple(slot.name for slot in network.input_layout.sequences)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Returns predictions_BP, float32."""
        inputs = Inputs.from_flat(tensors, self._sequences)
        return self.network.predict(self.network(inputs))


def export_dense(network: Network) -> ExportedProgram:
    """Exports `network` with its present values, on CPU."""
    dense = DenseProgram(network).eval()
    with torch.no_grad():
        program = _export(dense, network.input_layout)
        plain = cast(fx.GraphModule, program.module(check_guards=False))
        _simplify(plain)
        return _export(plain, network.input_layout)


def _export(module: nn.Module, layout: InputLayout) -> ExportedProgram:
    rows = Dim("B")
    tensors = [torch.zeros(3, layout.pooled_width), torch.zeros(3, layout.num_dense)]
    shapes: list[Any] = [{0: rows}, {0: rows}]
    for i, slot in enumerate(layout.sequences):
        tensors += [torch.zeros(5, slot.width), torch.tensor([0, 2, 2, 5])]
        shapes += [{0: Dim(f"N{i}")}, {0: rows + 1}]
    # Positional arguments of *tensors are one entry: a tuple of shapes.
    dynamic = (tuple(shapes),) if isinstance(module, DenseProgram) else tuple(shapes)
    return torch.export.export(module, tuple(tensors), dynamic_shapes=dynamic)


def _simplify(program: fx.GraphModule) -> None:
    """Removes operations that cost time without effect, in place.

    The heads switch autocast off around their linear layer: serving does not use autocast, and one
    such region costs more time than the layer.
    """
    graph = program.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.higher_order.wrap_with_autocast:
            _inline(program, node)
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            graph.erase_node(node)
        elif node.target in _DROPPED and _does_nothing(node):
            node.replace_all_uses_with(cast(fx.Node, node.args[0]))
            graph.erase_node(node)
    graph.lint()
    program.recompile()


def _does_nothing(node: fx.Node) -> bool:
    if node.target is torch.ops.aten.dropout.default:
        return not node.args[2]  # not in training
    source = cast(fx.Node, node.args[0])
    known: Mapping[str, Any] = source.meta
    return "val" in known and known["val"].dtype == node.args[1]


def _inline(program: fx.GraphModule, node: fx.Node) -> None:
    """Replaces a region (device, dtype, enabled, cache, inside, *inputs) by its inside."""
    enabled, place = node.args[2], cast(fx.Node, node.args[4])
    assert enabled is False, "the dense part would serve in another precision than it was evaluated"
    inside = cast(fx.GraphModule, program.get_submodule(str(place.target)))
    inputs = [n for n in inside.graph.nodes if n.op == "placeholder"]
    copies = dict(zip(inputs, cast(tuple[fx.Node, ...], node.args[5:]), strict=True))
    with program.graph.inserting_before(node):
        results = program.graph.graph_copy(inside.graph, copies)
    for use in list(node.users):  # the region's result is a tuple
        assert isinstance(results, tuple | list)
        use.replace_all_uses_with(cast(fx.Node, results[cast(int, use.args[1])]))
        program.graph.erase_node(use)
    program.graph.erase_node(node)
    if not place.users:
        program.graph.erase_node(place)
