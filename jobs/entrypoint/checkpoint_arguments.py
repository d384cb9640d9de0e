"""The flags that commands on a checkpoint share."""

from __future__ import annotations

import argparse
from pathlib import Path

from jobs.entrypoint.first_rank import Parser


def checkpoint_parser(description: str) -> argparse.ArgumentParser:
    """--checkpoint; it exits with 2 (as every config error does) when the flags are wrong."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        metavar="RUN_OR_STEP",
        help="a run's folder (its newest good checkpoint), or one step-... folder",
    )
    return parser
