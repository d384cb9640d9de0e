"""A zip that two readers could read differently is refused, whatever its checksums say."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import torch

from marigold_rec.plain_zip import require_plain_zip

_CONTENTS = {"a/one": b"first", "a/two": b"second"}


def _zip(members: list[tuple[str, bytes]], comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two members of one name
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members:
                archive.writestr(name, content)
            archive.comment = comment
    return buffer.getvalue()


def _good() -> bytes:
    return _zip(list(_CONTENTS.items()))


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, rows=np.arange(1000))
    return buffer.getvalue()


def _of_torch() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("make", [_good, _npz, _of_torch, lambda: _zip([])])
def test_what_our_writers_write_is_taken(make: Callable[[], bytes]) -> None:
    require_plain_zip(io.BytesIO(make()))


@pytest.mark.parametrize(
    "name",
    ["a/one", "A/ONE", "/a/x", "../x", "a/../x", "a/./x", "a\\x", "a\x00.x", "a//x", "a/x/", "é"],
)
def test_names_that_are_there_twice_or_odd_are_refused(name: str) -> None:
    if "\x00" in name:  # Python's writer would cut it there
        content = _zip([*_CONTENTS.items(), ("a/N.x", b"")]).replace(b"a/N.x", b"a\x00N.x")
    else:
        content = _zip([*_CONTENTS.items(), (name, b"other")])
    if "\\" in name:
        assert b"a\\x" in content
    with pytest.raises(zipfile.BadZipFile, match="named"):
        require_plain_zip(io.BytesIO(content))


def _local_name(good: bytes) -> bytes:
    return good.replace(b"a/one", b"a/eno", 1)


def _local_size(good: bytes) -> bytes:
    return good[:22] + struct.pack("<I", 4) + good[26:]


def _hidden_member(good: bytes) -> bytes:
    """A member that only the headers beside the data tell of."""
    at = good.index(b"PK\x01\x02")
    hidden = _zip([("a/three", b"hidden")])
    hidden = hidden[: hidden.index(b"PK\x01\x02")]
    end = bytearray(good[at:])
    end[-6:-2] = struct.pack("<I", at + len(hidden))
    return good[:at] + hidden + bytes(end)


@pytest.mark.parametrize(
    "damage",
    [
        _local_name,
        _local_size,
        _hidden_member,
        lambda good: b"before" + good,
        lambda good: good + b"after",
        lambda good: good + good,
        lambda good: _zip(list(_CONTENTS.items()), comment=b"PK\x05\x06"),
        lambda good: good[:-1],
        lambda good: b"",
    ],
)
def test_headers_that_contradict_and_bytes_of_no_member_are_refused(
    damage: Callable[[bytes], bytes],
) -> None:
    with pytest.raises(zipfile.BadZipFile):
        require_plain_zip(io.BytesIO(damage(_good())))
