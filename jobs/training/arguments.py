"""Parses the few command-line flags; everything else is in the config."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from jobs.entrypoint.exit_codes import exit_with
from jobs.entrypoint.first_rank import Parser
from marigold_rec.config.loading import load_config
from marigold_rec.config.schema import Config
from marigold_rec.errors import ConfigError


@dataclass(frozen=True)
class Arguments:
    config: str
    overrides: tuple[str, ...]
    dry_run: bool
    print_config: bool
    resume: str


class _HelpConfig(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from marigold_rec.config.reference import reference  # needed by nobody else

        print(reference())
        parser.exit()


def parse_arguments(description: str, argv: list[str] | None = None) -> Arguments:
    """Parses the command line; exits with 2, like a config error, on wrong flags."""
    parser = Parser(description=description)
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML config")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key.path=value",
        help="override a setting; a list's entry by index or name: features.user_id.rows=1000",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check config, data, labels and sharding plan, take one step, write nothing",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the effective config and stop"
    )
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="auto|never|PATH",
        help="auto (default): from the run's newest good checkpoint, if there is one; "
        "never: start again, the old run's files are moved aside; PATH: that checkpoint",
    )
    parser.add_argument(
        "--help-config", action=_HelpConfig, nargs=0, help="describe every setting and stop"
    )
    # Overrides may stand between and after the flags.
    found = parser.parse_intermixed_args(argv)
    return Arguments(
        found.config, tuple(found.overrides), found.dry_run, found.print_config, found.resume
    )


def load_config_or_exit(arguments: Arguments) -> Config:
    """Loads the config, or exits with 2 and every problem on stderr (once, from rank 0)."""
    try:
        return load_config(arguments.config, arguments.overrides)
    except ConfigError as error:
        exit_with(error)
