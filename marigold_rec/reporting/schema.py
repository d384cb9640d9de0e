"""docs/report.schema.json: python -m marigold_rec.reporting.schema > docs/report.schema.json."""

from __future__ import annotations

import json
import sys

from marigold_rec.analysis.report import Report


def schema_text() -> str:
    """The JSON schema of report.json, for programs that read it."""
    schema = json.dumps(Report.model_json_schema(mode="serialization"), indent=1)
    return schema.replace("\\n", " ") + "\n"  # a description goes over several lines of source


if __name__ == "__main__":
    sys.stdout.write(schema_text())
