"""A schema kept beside the config, so that tonight's files are held against those of all nights.

A small JSON file, written by `python -m data_pipelines.validate ... --write-schema FILE`:

    {"columns": [{"name": "user", "type": "int64", "needed": true}, ...]}

`needed` is what the config read when it was written: for people; a run goes by its own config.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from marigold_rec.errors import ConfigError


@dataclass(frozen=True)
class PinnedSchema:
    path: str
    types: Mapping[str, str]
    """Column -> type, as `column_types` writes it."""


def read_schema(path: str) -> PinnedSchema:
    """Raises ConfigError: no such file, or it is not what `write_schema` writes."""
    try:
        columns = json.loads(Path(path).read_text(encoding="utf-8"))["columns"]
        types = {column["name"]: column["type"] for column in columns}
        if not all(isinstance(text, str) for text in [*types, *types.values()]):
            raise TypeError("a name or a type is not text")
    except OSError as error:
        raise ConfigError(f"data.schema_file: {path} can't be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"data.schema_file: {path} is not a schema ({type(error).__name__}: {error}); write it "
            "with python -m data_pipelines.validate ... --write-schema"
        ) from error
    return PinnedSchema(path, types)


def write_schema(path: Path, types: Mapping[str, str], needed: Collection[str]) -> None:
    """Raises ConfigError when it can't be written."""
    columns = [{"name": n, "type": kind, "needed": n in needed} for n, kind in types.items()]
    lines = ",\n".join(f"  {json.dumps(column, ensure_ascii=False)}" for column in columns)
    try:
        path.write_text(f'{{"columns": [\n{lines}\n]}}\n', encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--write-schema: can't write {path} ({error.strerror})") from error


def hash_of_types(types: Mapping[str, str]) -> str:
    """16 hex digits; the order of columns does not matter."""
    return hashlib.sha256(json.dumps(sorted(types.items())).encode()).hexdigest()[:16]
