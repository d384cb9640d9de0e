"""A Dockerfile as stages of instructions, read by Docker's own parser (package `dockerfile`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dockerfile


class RecipeError(ValueError):
    """The Dockerfile, or one of its steps, does not work: says which line and why."""


@dataclass(frozen=True)
class Step:
    """One instruction: `RUN` has its command as the only word, `CMD [...]` a word per argument."""

    line: int
    name: str
    words: tuple[str, ...]
    flags: tuple[str, ...]
    is_json: bool
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


@dataclass(frozen=True)
class Stage:
    """What lies between two FROMs; `base` is another stage's name or an image's."""

    name: str
    base: str
    steps: tuple[Step, ...]


def read_stages(text: str) -> dict[str, Stage]:
    """Every stage by its name, in the order of the file."""
    found: dict[str, tuple[str, list[Step]]] = {}
    steps: list[Step] | None = None
    for command in dockerfile.parse_string(text):
        step = _step(command)
        if step.name == "FROM":
            if len(step.words) != 3 or step.words[1].upper() != "AS":
                raise RecipeError(f"{step}: expected FROM image AS name")
            steps = []
            found[step.words[2]] = (step.words[0], steps)
        elif steps is None:
            raise RecipeError(f"{step}: expected FROM first")
        else:
            steps.append(step)
    return {name: Stage(name, base, tuple(own)) for name, (base, own) in found.items()}


def chain_to(target: str, stages: Mapping[str, Stage]) -> tuple[str, list[Stage]]:
    """The image that `target` begins with, and the stages from there to it."""
    chain: list[Stage] = []
    name = target
    while name in stages:
        chain.insert(0, stages[name])
        name = stages[name].base
    if not chain:
        raise RecipeError(f"no stage {target!r}; there are {', '.join(stages)}")
    return name, chain


def expand(word: str, values: Mapping[str, str]) -> str:
    """$NAME and ${NAME} as Docker replaces them; an unset one is empty."""
    if odd := re.search(r"\\\$|\$\{\w+[^\w}]", word):
        raise RecipeError(
            f"{word!r}: {odd[0]!r} is not understood here, expected $NAME or ${{NAME}}"
        )
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: values.get(m[1] or m[2], ""), word)


def _step(command: Any) -> Step:
    if command.heredocs:
        raise RecipeError(f"line {command.start_line}: heredocs are not understood here")
    return Step(
        line=command.start_line,
        name=command.cmd.upper(),
        words=tuple(command.value),
        flags=tuple(command.flags),
        is_json=command.json,
        text=re.sub(r"\s+", " ", command.original),
    )
