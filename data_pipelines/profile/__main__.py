"""A profile of some days: their rows, labels and columns, in one pass.

  python -m data_pipelines.profile /logs/clicks --config configs/clicks.yaml
      --dates 2024-01-06 2024-01-06 --out profile.json [key.path=value ...]

Exit codes: 0 done, 2 config, 3 data that can't be read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data_pipelines.arguments import split_dates, split_parser
from data_pipelines.profile.split import profile_split
from marigold_rec.atomic_io import write_atomically
from marigold_rec.config.loading import load_config
from marigold_rec.errors import EXIT_DONE, ConfigError, MarigoldError


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    found = parser.parse_intermixed_args(arguments)
    dates = split_dates(parser, found)
    try:
        profile = profile_split(load_config(found.config, found.overrides), found.path, dates)
        _write(found.out, profile.json_text())
    except MarigoldError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return error.exit_code
    columns = f"{len(profile.columns)} columns"
    print(f"{profile.name}: {profile.rows:,} rows, {columns}; see {found.out}")  # noqa: T201
    return EXIT_DONE


def _write(file: Path, text: str) -> None:
    try:
        write_atomically(file, text)
    except OSError as error:
        raise ConfigError(f"--out: can't write {file} ({error.strerror})") from error


def _parser() -> argparse.ArgumentParser:
    parser = split_parser("python -m data_pipelines.profile", __doc__)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the profile")
    return parser


if __name__ == "__main__":
    sys.exit(main())
