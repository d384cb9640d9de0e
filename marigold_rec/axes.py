"""What the axes of a parameter, and the members of a list of modules, mean: stated where they are
made.

From these statements follow which parameters several tasks share (a balancer's probe may move
those) and how a warm start finds the values of a feature or a task in an older parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class ExpertsOf:
    """An axis of experts: `each` of every output in turn, then `shared` ones."""

    each: int
    shared: int


Axis = Literal["output", "input"] | ExpertsOf | None
"""output: one entry, or the same number of entries, per output of the network (so per task);
input: the columns that the stage reads; None: nothing that an entry could be named by."""


@dataclass(frozen=True)
class Axes:
    """The meaning of each axis of one parameter."""

    names: tuple[Axis, ...]
    is_shared: bool
    """Whether the gradients of more than one task flow through it."""


_ATTRIBUTE = "parameter_axes"
_MEMBERS = "member_names"


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


def state_members(modules: nn.ModuleList, names: Sequence[str]) -> nn.ModuleList:
    """States what the members of `modules` are called, so that a warm start finds them by that and
    not by their numbers. Returns `modules`."""
    assert len(set(names)) == len(names) == len(modules)
    modules.__dict__[_MEMBERS] = tuple(names)
    return modules


def members_of(root: nn.Module) -> Mapping[str, tuple[str, ...]]:
    """The names of the members of every list below `root` that states them, by its path there."""
    return {
        path: module.__dict__[_MEMBERS]
        for path, module in root.named_modules()
        if _MEMBERS in module.__dict__
    }
