"""JSON files that vouch for themselves: their first field is the sha256 of every byte after it.

The seal is of bytes, not of values, so that a flip is found wherever it lies: in white space, an
escape, a field with a default, or the hash itself. It finds damage, not malice: who can write the
file can seal it, too.
"""

from __future__ import annotations

import hashlib
import json
import re

_HEAD = re.compile(rb'\{\n "sha256": "([0-9a-f]{64})",\n')


def sealed(tree: dict[str, object]) -> bytes:
    """The text of `tree`, which isn't empty, as a file that `unsealed` takes."""
    rest = json.dumps(tree, indent=1).removeprefix("{\n").encode()
    return b'{\n "sha256": "%s",\n' % hashlib.sha256(rest).hexdigest().encode() + rest


def unsealed(content: bytes) -> bytes:
    """The JSON text without its seal. Raises ValueError, which says what is wrong with the seal."""
    head = _HEAD.match(content)
    if head is None:
        raise ValueError(
            "does not begin with the sha256 of its content: it is damaged, or an earlier version "
            "wrote it, which this one does not read"
        )
    rest = content[head.end() :]
    if hashlib.sha256(rest).hexdigest().encode() != head[1]:
        raise ValueError("its sha256 differs from its content's: it was changed or damaged")
    return b"{\n" + rest
