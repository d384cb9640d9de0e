"""The colours can be told from the paper, in light and dark mode (WCAG 2 AA)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import marigold_rec.reporting

CSS = (Path(marigold_rec.reporting.__file__).parent / "templates/style.css").read_text()
TEXT = ("ink", "muted", "link", "good", "bad", "warn")
LINES = ("model", "baseline", "positive", "negative", "c0", "c1", "c2", "c3", "c4", "c5")


def palettes() -> list[dict[str, str]]:
    """Light, dark and print."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, flags=re.DOTALL)
    return [dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{3,6});", block)) for block in blocks]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    shares = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_measure_is_right() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["light", "dark", "print"])
def test_text_and_lines_can_be_told_from_the_paper(which: int) -> None:
    palette = palettes()[which]
    for name in TEXT:
        for paper in ("paper", "raised", "warn-paper"):
            assert contrast(palette[name], palette[paper]) >= 4.5, (name, paper)
    for name in LINES:
        assert contrast(palette[name], palette["paper"]) >= 3, name


def test_each_palette_has_the_same_colours() -> None:
    light, dark, paper = palettes()
    assert light.keys() == dark.keys() >= paper.keys() - {"shade"}
