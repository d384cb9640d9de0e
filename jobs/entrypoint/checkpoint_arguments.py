"""Parses the flags that all commands on a checkpoint share."""

from __future__ import annotations

import argparse
from pathlib import Path

from jobs.entrypoint.first_rank import Parser


def checkpoint_parser(description: str) -> argparse.ArgumentParser:
    """Makes a parser with --checkpoint; it exits with 2, like a config error, on wrong flags."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        metavar="RUN_OR_STEP",
        help="a run's folder (its newest good checkpoint), or one step-... folder",
    )
    return parser
