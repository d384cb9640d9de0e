"""Everything that is wrong with a split, in one full read.

  python -m data_pipelines.validate /logs/clicks --config configs/clicks.yaml
      --dates 2024-01-01 2024-01-06 [key.path=value ...] [--json FILE] [--write-schema FILE]

The last line says "good" where nothing is refused and nothing in the values would ruin a model.
Exit codes: 0 training would take it, 2 config, 3 data that training would refuse.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data_pipelines.arguments import split_dates, split_parser
from data_pipelines.catalog.pinned_schema import write_schema
from data_pipelines.catalog.schema_drift import column_types
from data_pipelines.preflight.columns import needed_columns
from data_pipelines.validate.split import validate_split
from marigold_rec.config.data import SplitConfig
from marigold_rec.config.loading import load_config
from marigold_rec.errors import EXIT_DATA, EXIT_DONE, MarigoldError


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    found = parser.parse_intermixed_args(arguments)
    dates = split_dates(parser, found)
    try:
        config = load_config(found.config, found.overrides)
        split = SplitConfig(path=found.path, dates=dates)
        report, catalog = validate_split(
            config, split, all_columns=found.all_columns, progress=_say_progress
        )
        if found.json is not None:
            report.write_json(found.json)
        # A schema of files that don't fit each other would refuse the good ones later.
        if found.write_schema is not None and catalog is not None and not report.is_refused:
            types = column_types(catalog.schema)
            write_schema(found.write_schema, types, needed_columns(config))
    except MarigoldError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return error.exit_code
    print("\n".join(report.lines()))  # noqa: T201
    return EXIT_DATA if report.is_refused else EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = split_parser("python -m data_pipelines.validate", __doc__)
    parser.add_argument(
        "--all-columns", action="store_true", help="read the columns that training leaves too"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="the report for machines")
    parser.add_argument(
        "--write-schema",
        type=Path,
        metavar="FILE",
        help="if all is good, pin the schema: for data.schema_file",
    )
    return parser


def _say_progress(rows: int, of: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if rows == of else ""
        print(f"\r{rows:,} of {of:,} rows", end=end, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
