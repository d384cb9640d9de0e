"""The base of what is kept in files and read again: configs, reports, plans, manifests."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen model that refuses unknown keys; the text below a field is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def json_text(self) -> str:
        """Returns the file's content. The same record has the same bytes; NaN is a ValueError."""
        return json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
