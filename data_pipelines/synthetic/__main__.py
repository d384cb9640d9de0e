"""`python -m data_pipelines.synthetic --out DIR [--days 6 --rows-per-day 40000 ...]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from data_pipelines.synthetic.storage import publish_log
from marigold_rec.config.data import SyntheticConfig
from marigold_rec.errors import ConfigError, DataError, MarigoldError


def main(arguments: list[str] | None = None) -> int:
    """Writes one log; returns the exit code (0 done, 2 bad setting, 3 the folder exists)."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipelines.synthetic", description="Writes a click log of known truth."
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    for name, field in SyntheticConfig.model_fields.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=float if field.annotation is float else int,
            default=field.default,
            help=f"{field.description or ''} (default: {field.default})".strip(),
        )
    settings = vars(parser.parse_args(arguments))
    folder: Path = settings.pop("out")
    try:
        config = _config(settings)
        if not publish_log(config, folder):
            raise DataError(f"{folder}: exists already; give another folder or remove this one")
    except MarigoldError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return error.exit_code
    print(f"wrote {config.days} days of {config.rows_per_day} rows to {folder}")  # noqa: T201
    return 0


def _config(settings: dict[str, object]) -> SyntheticConfig:
    try:
        return SyntheticConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(
            [
                f"--{'.'.join(str(part) for part in e['loc']).replace('_', '-')}: {e['msg']}, "
                f"found {e['input']}"
                for e in error.errors()
            ]
        ) from None


if __name__ == "__main__":
    sys.exit(main())
