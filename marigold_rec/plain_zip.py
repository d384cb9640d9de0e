"""Zip files that every reader reads alike.

A zip says in several places what it holds. Readers that believe different ones (Python's zipfile
takes the last of two members of one name, torch the first; some look only at the headers beside the
data) see different files, so that what one has checked is not what the other loads. Only archives
without such room are taken: each name once, headers that agree, and no byte that no member owns.
"""

from __future__ import annotations

import re
import struct
import zipfile
from typing import Any, BinaryIO

_NAME = re.compile(r"[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*")
_LOCAL = struct.Struct("<4s5H3I2H")
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_FULL = 0xFFFFFFFF
_HAS_DESCRIPTOR = 0x08
_MOST_MEMBERS = 100_000


def require_plain_zip(file: BinaryIO) -> None:
    """Raises zipfile.BadZipFile where two readers could see two things; the file's place is as any
    read leaves it."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        start = archive.start_dir
    if len(members) > _MOST_MEMBERS:
        raise zipfile.BadZipFile(f"{len(members):,} members")
    seen: set[str] = set()
    for member in members:
        name = member.orig_filename  # `filename` ends at a NUL
        if not _NAME.fullmatch(name) or {".", ".."} & set(name.split("/")):
            raise zipfile.BadZipFile(f"a member is named {name!r:.80}")
        if name.casefold() in seen:
            raise zipfile.BadZipFile(f"two members are named {name!r:.80}")
        seen.add(name.casefold())
    at = 0
    for member in sorted(members, key=lambda m: m.header_offset):
        if member.header_offset != at:
            raise zipfile.BadZipFile(f"bytes that belong to no member lie at {at:,}")
        at = _end_of(file, member)
    if at != start:
        raise zipfile.BadZipFile(f"bytes that belong to no member lie at {at:,}")
    _require_plain_end(file, start, len(members))


def _end_of(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Where the member ends, whose header beside the data agrees with the directory's."""
    local = _unpack(file, _LOCAL, member.header_offset)
    magic, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = local
    name = file.read(name_bytes)
    extra = file.read(extra_bytes)
    told = (member.CRC, member.compress_size, member.file_size)
    if flags & _HAS_DESCRIPTOR:
        agrees = all(
            here in (0, _FULL, there) for here, there in zip(local[6:9], told, strict=True)
        )
    elif packed == _FULL or size == _FULL:
        wide = struct.pack("<HHQQ", 1, 16, member.file_size, member.compress_size)
        agrees = crc == member.CRC and extra.startswith(wide)
    else:
        agrees = (crc, packed, size) == told
    if (
        magic != b"PK\x03\x04"
        or name != member.orig_filename.encode()
        or (flags, method) != (member.flag_bits, member.compress_type)
        or not agrees
    ):
        raise zipfile.BadZipFile(f"two headers of {member.orig_filename!r:.80} contradict")
    end = member.header_offset + _LOCAL.size + name_bytes + extra_bytes + member.compress_size
    if not flags & _HAS_DESCRIPTOR:
        return end
    file.seek(end)
    descriptor = file.read(24)
    for layout in ("<4s3I", "<4sI2Q"):
        expected = _packed(layout, b"PK\x07\x08", *told)
        if expected is not None and descriptor.startswith(expected):
            return end + len(expected)
    raise zipfile.BadZipFile(f"no sizes follow {member.orig_filename!r:.80}")


def _require_plain_end(file: BinaryIO, start: int, num_members: int) -> None:
    """The file ends with its directory and one record of where that lies; no comment."""
    length = file.seek(0, 2)
    end = _unpack(file, _END, length - _END.size)
    size = end[5]
    record = (b"PK\x05\x06", 0, 0, num_members, num_members, size, start, 0)
    if end == record and start + size + _END.size == length:
        return
    at = length - _END.size - _LOCATOR.size - _END_64.size
    if at >= 0:
        wide = _unpack(file, _END_64, at)
        agrees = (
            wide[0] == b"PK\x06\x06"
            and wide[1] == _END_64.size - 12
            and wide[4:8] == (0, 0, num_members, num_members)
            and wide[9] == start
            and start + wide[8] == at
            and _unpack(file, _LOCATOR, at + _END_64.size) == (b"PK\x06\x07", 0, at, 1)
            and end[0] == b"PK\x05\x06"
            and end[1:3] == (0, 0)
            and end[7] == 0
            and all(n in (0xFFFF, num_members) for n in end[3:5])
            and end[5] in (_FULL, wide[8])
            and end[6] in (_FULL, start)
        )
        if agrees:
            return
    raise zipfile.BadZipFile("its end does not say where its directory lies, and nothing else")


def _unpack(file: BinaryIO, layout: struct.Struct, at: int) -> tuple[Any, ...]:
    if at < 0:
        raise zipfile.BadZipFile("it is too short")
    file.seek(at)
    content = file.read(layout.size)
    if len(content) != layout.size:
        raise zipfile.BadZipFile("it is too short")
    return layout.unpack(content)


def _packed(layout: str, *values: int | bytes) -> bytes | None:
    try:
        return struct.pack(layout, *values)
    except struct.error:  # a size that needs the wider layout
        return None
