"""Only a checkpoint whose every byte is listed, and nothing else, is taken for one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from marigold_rec.batch import Cursor
from marigold_rec.checkpoint import Manifest, read_manifest
from marigold_rec.checkpoint.manifest import manifest_bytes, parse_manifest
from marigold_rec.errors import CheckpointError
from marigold_rec.file_entry import file_entry
from marigold_rec.sealed import sealed
from tests.support.sealing import reseal


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder with a good manifest."""
    folder = tmp_path / "step-000000007"
    folder.mkdir()
    (folder / "__0_0.distcp").write_bytes(b"tensors of rank 0")
    (folder / "__1_0.distcp").write_bytes(b"tensors of rank 1")
    (folder / ".metadata").write_bytes(b"where they lie")
    manifest = Manifest(
        step=7,
        world_size=2,
        cursors=(Cursor(0, 448), Cursor(0, 447)),
        has_begun=True,
        data="0123456789abcdef",
        config_hash="fedcba9876543210",
        config={"run": {"seed": 3}, "data": {"batch_size": 64}},
        versions={"torch": "2.13.0"},
        files={path.name: file_entry(path) for path in folder.iterdir()},
    )
    (folder / "manifest.json").write_bytes(manifest_bytes(manifest))
    return folder


def _change(folder: Path, **changes: Any) -> None:
    reseal(folder / "manifest.json", **changes)


def _list(folder: Path, name: str) -> None:
    """Adds `name` to the manifest's files, with the right size and sum if there is such a file."""
    path = folder / "manifest.json"
    files = json.loads(path.read_text())["files"]
    target = folder / name
    entry = file_entry(target).model_dump() if target.is_file() else files[".metadata"]
    _change(folder, files={**files, name: entry})


def _refused(folder: Path, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_manifest(folder)
    assert message in str(caught.value)
    assert str(folder) in str(caught.value), "the message does not say where"


def test_a_good_checkpoint_is_read(checkpoint: Path) -> None:
    found = read_manifest(checkpoint)
    assert (found.step, found.world_size) == (7, 2)
    assert found.cursors == (Cursor(0, 448), Cursor(0, 447))
    assert set(found.files) == {"__0_0.distcp", "__1_0.distcp", ".metadata"}


def test_a_missing_file_is_refused(checkpoint: Path) -> None:
    (checkpoint / "__1_0.distcp").unlink()
    _refused(checkpoint, "__1_0.distcp: missing, but listed in the manifest")


@pytest.mark.parametrize(
    "content",
    [b"tensors of rank!1", b"tensors of rank 1 ", b"tensors of rank", b""],
    ids=["one byte differs", "longer", "shorter", "empty"],
)
def test_a_changed_file_is_refused(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "__1_0.distcp").write_bytes(content)
    _refused(checkpoint, "__1_0.distcp: size or sha256 differs from the manifest's")


def test_a_file_that_is_not_listed_is_refused(checkpoint: Path) -> None:
    (checkpoint / "__2_0.distcp").write_bytes(b"")
    _refused(checkpoint, "holds files that its manifest does not list: ['__2_0.distcp']")


def test_a_folder_inside_is_refused(checkpoint: Path) -> None:
    (checkpoint / "more").mkdir()
    _refused(checkpoint, "['more']")
    _list(checkpoint, "more")
    _refused(checkpoint, "more: missing, but listed")


@pytest.mark.parametrize(
    "name",
    ["../stolen", "/etc/hostname", "a/b", "a/../.metadata", "./.metadata", "..", ".", "", "x/"],
)
def test_names_that_lead_elsewhere_are_refused(checkpoint: Path, name: str) -> None:
    (checkpoint.parent / "stolen").write_bytes(b"a file outside")
    _list(checkpoint, name)
    _refused(checkpoint, f"manifest.json: the file name {name!r} is not allowed")


def test_a_link_is_refused_even_if_its_target_has_the_right_bytes(checkpoint: Path) -> None:
    outside = checkpoint.parent / "outside"
    (checkpoint / ".metadata").rename(outside)
    (checkpoint / ".metadata").symlink_to(outside)
    _refused(checkpoint, "the file name '.metadata' is not allowed")


def test_another_format_is_refused(checkpoint: Path) -> None:
    _change(checkpoint, format=1)
    _refused(checkpoint, "manifest.json: format 1, this version reads 2")


def test_a_cursor_for_each_rank_is_required(checkpoint: Path) -> None:
    _change(checkpoint, world_size=3)
    _refused(checkpoint, "manifest.json: 2 cursors for 3 ranks")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a manifest"),
        ('{"format": 1', "not a manifest"),
        ("[]", "not a manifest"),
        (sealed({"format": 1}).decode(), "('step',): Field required"),
        ('{"format": 1, "step": 7}', "an earlier version"),
        (sealed({"config": json.loads("[" * 400 + "]" * 400)}).decode(), "not a manifest"),
        ("\udcff", "not a manifest"),
    ],
)
def test_what_is_no_manifest_is_refused(checkpoint: Path, text: str, message: str) -> None:
    (checkpoint / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    _refused(checkpoint, message)


def test_an_unknown_field_is_refused(checkpoint: Path) -> None:
    _change(checkpoint, extra=1)
    _refused(checkpoint, "('extra',): Extra inputs are not permitted")


def test_a_folder_without_a_manifest_is_no_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    os.remove(checkpoint / "manifest.json")
    _refused(checkpoint, "manifest.json: can't be read")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_manifest(tmp_path / "nowhere")


def test_a_folder_or_manifest_behind_a_link_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    link = tmp_path / "step-000000009"
    link.symlink_to(checkpoint)
    with pytest.raises(CheckpointError, match="symbolic link"):
        read_manifest(link)
    elsewhere = tmp_path / "elsewhere.json"
    (checkpoint / "manifest.json").rename(elsewhere)
    (checkpoint / "manifest.json").symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match="symbolic link"):
        read_manifest(checkpoint)


def test_a_folder_renamed_to_another_step_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is of step 7, not of its folder's name"):
        read_manifest(checkpoint.rename(tmp_path / "step-000000008"))


def test_a_huge_manifest_is_not_read(checkpoint: Path) -> None:
    with (checkpoint / "manifest.json").open("wb") as file:
        file.truncate(1 << 27)
    with pytest.raises(CheckpointError, match="134,217,728 bytes; not a manifest"):
        read_manifest(checkpoint)


def test_every_flip_of_a_bit_is_refused(checkpoint: Path) -> None:
    """Of the hash, of white space and of what has a default, too."""
    content = (checkpoint / "manifest.json").read_bytes()
    parse_manifest(content, "a good one")
    for at in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(CheckpointError):
            parse_manifest(bytes(flipped), "a damaged one")


@pytest.mark.parametrize("change", ["cut", "longer", "blank", "upper case", "earlier version"])
def test_other_damage_of_the_seal_is_refused(checkpoint: Path, change: str) -> None:
    content = (checkpoint / "manifest.json").read_bytes()
    changed = {
        "cut": content[:-1],
        "longer": content + b"\n",
        "blank": b" " + content,
        "upper case": content[:14] + content[14:78].upper() + content[78:],
        "earlier version": b"{\n" + content[content.index(b"\n", 3) + 1 :],
    }[change]
    with pytest.raises(CheckpointError, match=r"not a manifest.*--resume never"):
        parse_manifest(changed, "a damaged one")


@pytest.mark.parametrize(
    ("cursors", "step", "message"),
    [
        ([(0, 448), (0, 383)], 7, "differ by more than a batch"),
        ([(0, 449), (0, 448)], 7, "are 8 steps"),
        ([(0, 448), (0, 448)], 8, "are 7 steps"),
        ([(2, 448), (2, 448)], 6, "are 7 steps"),
        ([(0, -1), (0, 0)], 0, "below 0"),
        ([(0, 448), (1, 448)], 7, "one epoch"),
    ],
)
def test_ranks_that_contradict_each_other_or_the_step_are_refused(
    checkpoint: Path, cursors: list[tuple[int, int]], step: int, message: str
) -> None:
    folder = checkpoint.rename(checkpoint.parent / f"step-{step:09d}")
    trees = [{"epoch": epoch, "rows": rows, "legs": []} for epoch, rows in cursors]
    _change(folder, cursors=trees, step=step)
    _refused(folder, message)
