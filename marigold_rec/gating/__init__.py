"""The gate: what a night must pass before its model is published (docs/gate.md)."""

from marigold_rec.gating.judge import judge_data, judge_night
from marigold_rec.gating.page import verdict_html, verdict_markdown
from marigold_rec.gating.profile import Profile
from marigold_rec.gating.verdict import Check, Verdict

__all__ = [
    "Check",
    "Profile",
    "Verdict",
    "judge_data",
    "judge_night",
    "verdict_html",
    "verdict_markdown",
]
