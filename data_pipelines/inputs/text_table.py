"""A table of text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Text to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    is_text = [all(not _is_number(row[i]) for row in rows) for i in range(len(head))]
    for row in [head, *rows]:
        cells = zip(row, widths, is_text, strict=True)
        yield "  ".join(c.ljust(w) if left else c.rjust(w) for c, w, left in cells).rstrip()


def _is_number(text: str) -> bool:
    text = text.removeprefix("-")
    return text[:1].isdigit() and "-" not in text[1:5]
