"""What all pages share: jinja2 that escapes everything and refuses what a template misspells."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from marigold_rec.metrics import metric_of
from marigold_rec.reporting import wording


def environment() -> Environment:
    """Templates and style.css of this package; filters are the words of `wording`."""
    made = Environment(
        loader=PackageLoader("marigold_rec.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "count": wording.count,
        "number": wording.number,
        "signed": wording.signed,
        "probability": wording.probability,
        "shown": wording.shown,
        "metric": metric_of,
    }
    made.globals |= {
        "interval": wording.interval,
        "signed_interval": wording.signed_interval,
        "p_equals": wording.p_equals,
        "nothing": wording.NOTHING,
    }
    return made
