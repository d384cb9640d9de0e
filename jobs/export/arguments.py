"""Parses the flags of launch/export.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.entrypoint.checkpoint_arguments import checkpoint_parser


@dataclass(frozen=True)
class ExportArguments:
    checkpoint: Path
    out: Path
    tables: Literal["fp32", "fp16", "int8"]
    overrides: tuple[str, ...]


def parse_arguments(description: str, argv: list[str] | None = None) -> ExportArguments:
    """Parses the command line; exits with 2, like a config error, on wrong flags."""
    parser = checkpoint_parser(description)
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
        help="override a setting that does not change the model, e.g. data.path",
    )
    found = parser.parse_intermixed_args(argv)
    return ExportArguments(found.checkpoint, found.out, found.tables, tuple(found.overrides))
