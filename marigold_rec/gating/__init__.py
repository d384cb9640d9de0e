"""The gate: what a night must pass before its model is published (docs/gate.md)."""

from marigold_rec.gating.judge import judge_data, judge_night
from marigold_rec.gating.page import verdict_html, verdict_markdown
from marigold_rec.gating.verdict import Check, Verdict
from marigold_rec.profile import Profile

__all__ = [
    "Check",
    "Profile",
    "Verdict",
    "judge_data",
    "judge_night",
    "verdict_html",
    "verdict_markdown",
]
