"""The flags that commands on a split share: which rows, under which config."""

from __future__ import annotations

import argparse
import datetime

Dates = tuple[datetime.date, datetime.date]


def split_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """PATH, overrides, --config and --dates; see `split_dates`."""
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", metavar="PATH", help="a file, a folder or any fsspec URL of one")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="of the config")
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML config")
    parser.add_argument(
        "--dates",
        nargs=2,
        type=datetime.date.fromisoformat,
        metavar=("FIRST", "LAST"),
        help="days (both included) of dt=YYYY-MM-DD folders",
    )
    return parser


def split_dates(parser: argparse.ArgumentParser, found: argparse.Namespace) -> Dates | None:
    """Of --dates. Exits with 2 where they run backwards."""
    if found.dates is None:
        return None
    first, last = found.dates
    if first > last:
        parser.error(f"--dates run backwards: {first} is after {last}; swap them")
    return first, last
