"""Numbers and names as a person reads them; the same in HTML and in Markdown."""

from __future__ import annotations

import math
import unicodedata

from marigold_rec.analysis.report import Figure
from marigold_rec.metrics import metric_of

NOTHING = "\u2013"  # an en dash
_MINUS = "\u2212"
_MOST_DECIMALS = 8
# Marks that turn the direction of the text around them, and could make a name read as another.
_TURNS = set("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def count(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def number(value: float | None, metric: str) -> str:
    """With the metric's decimals; more, where they would make a small value look like zero."""
    return NOTHING if value is None else _decimal(value, metric).replace("-", _MINUS)


def signed(value: float | None, metric: str) -> str:
    return NOTHING if value is None else _sign(value) + _decimal(abs(value), metric)


def interval(low: float | None, high: float | None, metric: str) -> str:
    """Empty where there is none."""
    if low is None or high is None:
        return ""
    return f"{number(low, metric)} to {number(high, metric)}"


def signed_interval(low: float | None, high: float | None, metric: str) -> str:
    if low is None or high is None:
        return ""
    # An end near zero keeps its sign, `-0.0000`: that is what one looks for.
    decimals = metric_of(metric).decimals
    low_text, high_text = (f"{_sign(end)}{abs(end):,.{decimals}f}" for end in (low, high))
    return f"{low_text} to {high_text}"


def probability(value: float | None) -> str:
    """A p or q value, `.003`, without the zero before the point that it cannot exceed."""
    if value is None:
        return NOTHING
    if value < 0.001:
        return "< .001"
    if value > 0.999:
        return "> .999"
    text = f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
    return text.removeprefix("0")


def p_equals(value: float | None, letter: str = "p") -> str:
    """`p = .003` or `p < .001`; empty where there is none."""
    if value is None:
        return ""
    text = probability(value)
    return f"{letter} {text}" if text[0] in "<>" else f"{letter} = {text}"


def shown(text: str) -> str:
    """One line, with nothing invisible in it: control characters and marks by their code."""
    if not text.strip():
        return "(empty)" if not text else f"({len(text)} blanks)"
    return "".join(_visible(c) for c in text)


def figure_sentence(figure: Figure, metric: str) -> str:
    """`AUC 0.7123 (0.7098 to 0.7148), +0.0021 against baseline, p = .003`."""
    label = metric_of(metric).label
    if figure.value is None:
        return f"no {label}: {shown(figure.reason or 'no reason given')}"
    parts = [f"{label} {number(figure.value, metric)}"]
    if between := interval(figure.low, figure.high, metric):
        parts[0] += f" ({between})"
    if figure.delta is not None:
        parts.append(f"{signed(figure.delta, metric)} against baseline")
        parts += [text for text in (p_equals(figure.p_value),) if text]
    return ", ".join(parts)


def _sign(value: float) -> str:
    return "" if value == 0 else "+" if value > 0 else _MINUS


def _decimal(value: float, metric: str) -> str:
    decimals = metric_of(metric).decimals
    if value != 0 and round(abs(value), decimals) == 0:
        decimals = 1 - math.floor(math.log10(abs(value)))
        if decimals > _MOST_DECIMALS:
            return f"{value:.1e}"
    if abs(value) >= 1e9:
        return f"{value:.4g}"
    return f"{value:,.{decimals}f}"


def _visible(character: str) -> str:
    if character in _TURNS or unicodedata.category(character) in ("Cc", "Zl", "Zp"):
        return f"\\u{ord(character):04x}" if ord(character) > 0xFF else f"\\x{ord(character):02x}"
    return character
