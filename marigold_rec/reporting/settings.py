"""The settings that differ between configs, by their dotted path."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

ABSENT = "absent"


def differing_settings(configs: Sequence[Mapping[str, object] | None]) -> dict[str, list[str]]:
    """Path -> its value in each config, as text; empty when fewer than two are known.

    A config that is not known (None) has no text, and makes no difference.
    """
    known = [config for config in configs if config is not None]
    if len(known) < 2:
        return {}
    paths = sorted({path for config in known for path in config})
    rows = {}
    for path in paths:
        texts = [None if c is None else _text(c[path]) if path in c else ABSENT for c in configs]
        if len({text for text in texts if text is not None}) > 1:
            rows[path] = ["" if text is None else text for text in texts]
    return rows


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
