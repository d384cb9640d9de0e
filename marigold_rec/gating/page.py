"""A verdict for people: a page of its own, and Markdown for a ticket. Every name stays text."""

from __future__ import annotations

from jinja2 import ChoiceLoader, PackageLoader

from marigold_rec.gating.verdict import Check, Verdict
from marigold_rec.reporting.markdown import escaped, markdown_table
from marigold_rec.reporting.page import environment
from marigold_rec.reporting.wording import NOTHING

_PLACES = {"data": "Data", "evaluation": "The next days", "holdout": "The hold-out"}
_WORDS = {"passed": "passed", "failed": "refused", "not_judged": "not judged"}


def headline(verdict: Verdict) -> str:
    """`Published`, `Not published: 2 reasons` or, of the data alone, `Data accepted`."""
    if verdict.publish:
        return "Published" if verdict.stage == "night" else "Data accepted"
    count = len(verdict.reasons)
    what = "Not published" if verdict.stage == "night" else "Not trained"
    return f"{what}: {count} reason{'s' if count > 1 else ''}"


def counted(verdict: Verdict) -> str:
    """`41 rules passed, 2 refused, 3 not judged`."""
    of = {word: sum(c.result == word for c in verdict.checks) for word in _WORDS}
    return f"{of['passed']} rules passed, {of['failed']} refused, {of['not_judged']} not judged" + (
        "; the first night, so that only fixed limits hold" if verdict.is_first else ""
    )


def verdict_markdown(verdict: Verdict) -> str:
    parts = [
        f"## {escaped(headline(verdict))}{escaped(_days(verdict))}",
        "\n".join(f"- {escaped(reason)}" for reason in verdict.reasons),
        escaped(counted(verdict)) + ".",
    ]
    if rows := [_row(check) for check in verdict.checks if check.result == "failed"]:
        heading = ["rule", "on", "about", "found", "allowed"]
        parts.append(markdown_table(heading, rows))
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict_html(verdict: Verdict) -> str:
    """One file that loads nothing: the reasons, then every rule."""
    made = environment()
    packages = ("marigold_rec.gating", "marigold_rec.reporting")
    made.loader = ChoiceLoader([PackageLoader(package, "templates") for package in packages])
    made.filters |= {"found": _found, "allowed": _allowed}
    return made.get_template("verdict.html.j2").render(
        verdict=verdict,
        headline=headline(verdict),
        days=_days(verdict),
        counted=counted(verdict),
        words=_WORDS,
        places=[
            (title, checks)
            for where, title in _PLACES.items()
            if (checks := _worst_first([c for c in verdict.checks if c.on == where]))
        ],
    )


def _worst_first(checks: list[Check]) -> list[Check]:
    order = ["failed", "passed", "not_judged"]
    return sorted(checks, key=lambda check: order.index(check.result))


def _days(verdict: Verdict) -> str:
    if verdict.dates is None:
        return ""
    first, last = verdict.dates
    return f", {first}" if first == last else f", {first} to {last}"


def _row(check: Check) -> list[str]:
    about = NOTHING if check.about is None else escaped(check.about)
    return [escaped(check.rule), check.on, about, _found(check), _allowed(check)]


def _found(check: Check) -> str:
    if check.found is None:
        return NOTHING
    if check.found_low is None or check.found_high is None:
        return f"{check.found:.5g}"
    return f"{check.found:.5g} ({check.found_low:.5g} to {check.found_high:.5g})"


def _allowed(check: Check) -> str:
    low, high = check.limit_low, check.limit_high
    if low is None and high is None:
        return NOTHING
    if low is None:
        return f"at most {high:.5g}"
    return f"at least {low:.5g}" if high is None else f"{low:.5g} to {high:.5g}"
