"""Parses the flags of launch/evaluate.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.entrypoint.checkpoint_arguments import checkpoint_parser


@dataclass(frozen=True)
class EvaluateArguments:
    checkpoint: Path
    baseline: Path | None
    out: Path
    overrides: tuple[str, ...]
    keep_scores: bool


def parse_arguments(description: str, argv: list[str] | None = None) -> EvaluateArguments:
    """Parses the command line; exits with 2, like a config error, on wrong flags."""
    parser = checkpoint_parser(description)
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="log to evaluate on: folder, file or URL (default: that of the run's data.eval); "
        "days as in the run's config, or data.eval.dates='[first, last]', or data.eval.dates=null",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="for the report")
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="RUN_OR_STEP",
        help="another checkpoint: every metric also as a paired difference from it",
    )
    parser.add_argument(
        "--slices",
        metavar="COLUMN,COLUMN",
        help="columns to slice by (default: the config's evaluation.slices)",
    )
    parser.add_argument(
        "--keep-scores", action="store_true", help="leave the scored rows in DIR/scores (Parquet)"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="override a setting of the config"
    )
    found = parser.parse_intermixed_args(argv)
    overrides: list[str] = []
    if found.data is not None:
        overrides += ["data.eval.path=" + _yaml_text(found.data)]
    if found.slices is not None:
        names = [name.strip() for name in found.slices.split(",") if name.strip()]
        overrides += ["evaluation.slices=[" + ", ".join(map(_yaml_text, names)) + "]"]
    overrides += found.overrides
    return EvaluateArguments(
        found.checkpoint, found.baseline, found.out, tuple(overrides), found.keep_scores
    )


def _yaml_text(text: str) -> str:
    """Puts `text` in single quotes, so that YAML reads no number, list or tag in it."""
    return "'" + text.replace("'", "''") + "'"
