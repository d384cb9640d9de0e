"""A module's parameters by the parts that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn


def parameters_below(module: nn.Module, parts: Sequence[str]) -> Mapping[str, nn.Parameter]:
    """Name in `module` -> parameter, of the submodules `parts` (dotted names)."""
    return {
        f"{part}.{name}": parameter
        for part in parts
        for name, parameter in module.get_submodule(part).named_parameters()
    }
