"""The flags of launch/export.py."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ExportArguments:
    checkpoint: Path
    out: Path
    tables: Literal["fp32", "fp16", "int8"]
    overrides: tuple[str, ...]


def parse_arguments(description: str, argv: list[str] | None = None) -> ExportArguments:
    """Exits with 2 (as every config error does) when the flags are wrong."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        metavar="RUN_OR_STEP",
        help="a run's folder (its newest good checkpoint), or one step-... folder",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="ARTEFACT", help="a folder")
    parser.add_argument(
        "--tables",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="precision of the embedding tables (default: fp32); the dense part stays in float32",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key.path=value",
        help="override a setting that does not change the model, data.path say",
    )
    found = parser.parse_intermixed_args(argv)
    return ExportArguments(found.checkpoint, found.out, found.tables, tuple(found.overrides))
