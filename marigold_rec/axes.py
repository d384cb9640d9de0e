"""What the axes of a parameter mean, stated where the parameter is made.

From these statements follow which parameters several tasks share (a balancer's probe may move
those) and how a warm start finds the values of a feature or a task in an older parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

Axis = Literal["output", "input"] | None
"""output: one entry, or the same number of entries, per output of the network (so per task);
input: the columns that the stage reads; None: nothing that an entry could be named by."""


@dataclass(frozen=True)
class Axes:
    """The meaning of each axis of one parameter."""

    names: tuple[Axis, ...]
    is_shared: bool
    """Whether the gradients of more than one task flow through it."""


_ATTRIBUTE = "parameter_axes"


def state_axes(module: nn.Module, name: str, *axes: Axis, is_shared: bool | None = None) -> None:
    """States the axes of `module`'s own parameter `name`.

    `is_shared` None: it is shared unless it has an entry per output.
    """
    stated: dict[str, Axes] = module.__dict__.setdefault(_ATTRIBUTE, {})
    stated[name] = Axes(axes, "output" not in axes if is_shared is None else is_shared)


def axes_of(root: nn.Module) -> Mapping[str, Axes]:
    """The axes of every parameter below `root`, by its name there.

    A parameter without a statement is shared, and none of its axes has a meaning.
    """
    found: dict[str, Axes] = {}
    for path, module in root.named_modules():
        stated: dict[str, Axes] = module.__dict__.get(_ATTRIBUTE, {})
        for name, parameter in module.named_parameters(recurse=False):
            unstated = Axes((None,) * parameter.dim(), is_shared=True)
            found[f"{path}.{name}" if path else name] = stated.get(name, unstated)
    return found
