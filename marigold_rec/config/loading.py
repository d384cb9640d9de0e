"""From a YAML file and `key.path=value` overrides to a checked Config, or one error that lists all.

Defaults < YAML < overrides.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from marigold_rec.config.checks import cross_field_problems
from marigold_rec.config.moved import moved_settings
from marigold_rec.config.overrides import apply_override
from marigold_rec.config.problems import describe_all
from marigold_rec.config.schema import Config
from marigold_rec.config.yaml_text import read_yaml
from marigold_rec.errors import ConfigError


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The checked config of a YAML file with `key.path=value` overrides on top.

    Raises ConfigError with every problem found: full path, value found, what is allowed and the
    nearest known name.
    """
    file = Path(path)
    return config_from(read_yaml(file, "config file"), overrides, where=str(file))


def config_from(tree: Mapping[str, Any], overrides: Sequence[str], *, where: str) -> Config:
    """The checked config of a tree of plain values (a checkpoint's, say) with overrides on top.

    Raises ConfigError with every problem found; `where` is what the tree was read from.
    """
    own = copy.deepcopy(dict(tree))
    problems: list[str] = []
    for override in overrides:
        try:
            apply_override(own, override)
        except ConfigError as error:
            problems += error.problems
    return _validate(own, problems, where)


def _validate(tree: dict[str, Any], problems: list[str], where: str) -> Config:
    if moved := moved_settings(tree):
        raise ConfigError(
            [f"{where}: was written for an earlier version of marigold_rec; change it:", *moved]
        )
    # Through JSON: pydantic's strict mode then takes lists for tuples and text for dates, and still
    # refuses "12" for a number or 1 for a boolean.
    try:
        text = json.dumps(tree)
    except TypeError as error:
        raise ConfigError(
            f"{where}: holds a value of a !!tag; a config holds text, numbers, true, false, null, "
            f"lists and mappings ({error})"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: an &anchor must not hold its own *alias") from error
    try:
        config = Config.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError(problems + describe_all(Config, error.errors(), tree)) from None
    problems += cross_field_problems(config)
    if problems:
        raise ConfigError(problems)
    return config
