"""A small config as YAML text, for the tests to spoil and change."""

from __future__ import annotations

from pathlib import Path

import pytest

from marigold_rec.config import Config, load_config
from marigold_rec.errors import ConfigError

SMALL = """\
run: {name: small, seed: 3}
data:
  path: /logs/clicks
  train: {dates: [2024-01-01, 2024-01-05]}
  eval: {dates: [2024-01-06, 2024-01-06]}
features:
  - {name: user, kind: hash, rows: 100}
  - {name: item, kind: id, rows: 50, dim: 8, table: goods}
  - {name: country, kind: vocab, values: [no, br]}
  - {name: price, kind: dense}
tasks:
  - {name: ctr, kind: binary, label: click}
"""


def load(folder: Path, *overrides: str, text: str = SMALL) -> Config:
    file = folder / "config.yaml"
    file.write_text(text)
    return load_config(file, overrides)


def problems(folder: Path, *overrides: str, text: str = SMALL) -> list[str]:
    """What is wrong, one line per problem."""
    with pytest.raises(ConfigError) as caught:
        load(folder, *overrides, text=text)
    return caught.value.problems
