"""Values as messages show them."""

from __future__ import annotations


def exact(value: float) -> str:
    """As many digits as tell the number from every other: 0.9999999 is never shown as 1.

    A number that is one in a log must read as it stands there, or the reader looks for the error at
    the wrong place.
    """
    value = float(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
