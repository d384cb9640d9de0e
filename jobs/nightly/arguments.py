"""Parses the flags of launch/nightly.py."""

from __future__ import annotations

import argparse
import datetime
from dataclasses import dataclass


@dataclass(frozen=True)
class NightlyArguments:
    config: str
    overrides: tuple[str, ...]
    date: datetime.date | None
    """None: the newest complete partition."""
    until: datetime.date | None
    again_from: str | None
    roll_back: bool
    status: bool


def parse_arguments(
    description: str, stages: tuple[str, ...], argv: list[str] | None = None
) -> NightlyArguments:
    """Parses the command line; exits with 2, like a config error, on wrong flags."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML config")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--date",
        type=_date_or_auto,
        metavar="YYYY-MM-DD|auto",
        help="the newest day, to evaluate on; auto: the newest complete one",
    )
    what.add_argument(
        "--rollback", action="store_true", help="return to the model that was published before"
    )
    what.add_argument("--status", action="store_true", help="list all nightly runs")
    parser.add_argument(
        "--until",
        type=datetime.date.fromisoformat,
        metavar="YYYY-MM-DD",
        help="run all days from --date to this one, in order",
    )
    parser.add_argument(
        "--from",
        dest="again_from",
        choices=stages,
        metavar="STAGE",
        help="repeat a nightly run from this stage on: " + ", ".join(stages),
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="override a setting of the config"
    )
    found = parser.parse_intermixed_args(argv)
    if found.until is not None and not isinstance(found.date, datetime.date):
        parser.error("--until needs the first day: --date YYYY-MM-DD")
    if found.until is not None and found.until < found.date:
        parser.error(f"--until {found.until} is before --date {found.date}")
    if found.again_from is not None and found.date is None:
        parser.error("--from needs the day: --date YYYY-MM-DD")
    return NightlyArguments(
        config=found.config,
        overrides=tuple(found.overrides),
        date=found.date if isinstance(found.date, datetime.date) else None,
        until=found.until,
        again_from=found.again_from,
        roll_back=found.rollback,
        status=found.status,
    )


def _date_or_auto(text: str) -> datetime.date | str:
    return text if text == "auto" else datetime.date.fromisoformat(text)
