"""A checkpoint folder from somebody else, with a manifest that fits it: nothing of it is run."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata

from marigold_rec.checkpoint import read_manifest
from marigold_rec.checkpoint.dcp_metadata import read_dcp_metadata
from marigold_rec.errors import CheckpointError
from marigold_rec.file_entry import file_entry
from tests.checkpoint.phases import save_each, some_tensors, store_of
from tests.support.ranks import run_ranks
from tests.support.sealing import reseal, tree_of

_NAME = "step-000000003"
_FLAG = b"(X\x04\x00\x00\x00flagK\x01ub."
_BUILD = b"cpathlib\nPosixPath\nN}" + _FLAG.replace(b"ub.", b"u\x86b.")


class Evil:
    """Unpickling it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"mkdir '{self._trace}'",)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("saved") / "checkpoints"
    run_ranks(save_each, 2, root, [3], (), timeout_s=20)
    return root


@pytest.fixture
def checkpoint(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "checkpoints")) / _NAME


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "it was run"


def _change_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    tree = tree_of(path)
    change(tree)
    reseal(path, **tree)


def _fit(folder: Path) -> None:
    """Makes the manifest list the files as they are."""
    files = {
        p.name: file_entry(p).model_dump() for p in folder.iterdir() if p.name != "manifest.json"
    }
    _change_manifest(folder, lambda tree: tree.update(files=files))


def _metadata(folder: Path) -> Metadata:
    return pickle.loads((folder / ".metadata").read_bytes())


def _write_metadata(folder: Path, metadata: object) -> None:
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    _fit(folder)


def _refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_dcp_metadata(folder, read_manifest(folder))
    return str(caught.value)


def test_what_we_write_is_read(checkpoint: Path) -> None:
    found = read_dcp_metadata(checkpoint, read_manifest(checkpoint))
    assert set(found.state_dict_metadata) == set(some_tensors(3, 0)) | set(some_tensors(3, 1))


def _load(root: Path, wanted: str) -> str:
    store, ranks = store_of(root)
    try:
        found = store.find(wanted)
        assert found is not None
        store.load(found, some_tensors(0, ranks.rank))
    except CheckpointError as error:
        return str(error)
    return "loaded"


def _pure_evil(folder: Path, trace: Path) -> None:
    _write_metadata(folder, Evil(trace))


def _evil_inside(folder: Path, trace: Path) -> None:
    """All that DCP needs is there, so that a load would go through."""
    metadata = _metadata(folder)
    metadata.planner_data = Evil(trace)
    _write_metadata(folder, metadata)


def _evil_of_one_rank(folder: Path, trace: Path) -> None:
    """Where there is no .metadata, DCP falls back to one for each rank."""
    (folder / ".metadata").unlink()
    for rank in range(2):
        (folder / f"__{rank}.metadata").write_bytes(pickle.dumps(Evil(trace)))
    _fit(folder)


def _evil_value(folder: Path, trace: Path) -> None:
    """Bytes in place of a tensor, which DCP unpickles without restriction."""
    payload = io.BytesIO()
    torch.save(Evil(trace), payload)
    (folder / "__0_0.distcp").write_bytes(payload.getvalue())
    metadata = _metadata(folder)
    metadata.state_dict_metadata["shared"] = BytesStorageMetadata()
    index, place = next((i, p) for i, p in metadata.storage_data.items() if i.fqn == "shared")
    del metadata.storage_data[index]
    whole = dataclasses.replace(
        place, relative_path="__0_0.distcp", offset=0, length=len(payload.getvalue())
    )
    metadata.storage_data[dataclasses.replace(index, offset=None)] = whole
    _write_metadata(folder, metadata)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (_pure_evil, ".metadata: refused: it asks for posix.system, which no checkpoint needs"),
        (_evil_inside, ".metadata: refused: it asks for posix.system, which no checkpoint needs"),
        (_evil_of_one_rank, ".metadata: not listed in the manifest"),
        (
            _evil_value,
            ".metadata: refused: it asks for torch.distributed.checkpoint.metadata.Bytes",
        ),
    ],
)
def test_a_malicious_pickle_with_a_fitting_manifest_is_not_run(
    checkpoint: Path, trace: Path, attack: Callable[[Path, Path], None], message: str
) -> None:
    attack(checkpoint, trace)
    read_manifest(checkpoint)  # it does fit
    for found in run_ranks(_load, 2, checkpoint.parent, "auto", timeout_s=20):
        assert message in found
        assert str(checkpoint) in found
    assert not trace.exists()


@pytest.mark.parametrize("attack", [_pure_evil, _evil_inside])
def test_the_attack_is_real(
    checkpoint: Path, trace: Path, attack: Callable[[Path, Path], None]
) -> None:
    attack(checkpoint, trace)
    _metadata(checkpoint)
    assert trace.exists()


@pytest.mark.parametrize("path", ["../stolen", "/etc/hostname", "manifest.json", "__7_0.distcp"])
def test_metadata_that_leads_to_other_files_is_refused(checkpoint: Path, path: str) -> None:
    metadata = _metadata(checkpoint)
    index, place = next(iter(metadata.storage_data.items()))
    metadata.storage_data[index] = dataclasses.replace(place, relative_path=path)
    _write_metadata(checkpoint, metadata)
    assert f"it leads to the file {path!r}, which the manifest does not list" in _refused(
        checkpoint
    )


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "EOFError"),
        (b"not a pickle", "refused: "),
        (pickle.dumps({"a": 1}), "it holds a dict"),
        (pickle.dumps(Metadata({})), "it does not say where the tensors lie"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "it asks for builtins.eval"),
        (b"ctorch\nSize.__class__\n.", "it asks for torch.Size.__class__"),
        (b"ctorch\nload\n.", "it asks for torch.load"),
        (_BUILD, "it gives values to <class"),
        (b"ctorch.serialization\n_get_layout\n}" + _FLAG, "it gives values to <function"),
        (b"ctorch.distributed.checkpoint.metadata\nMetadata\n}" + _FLAG, "it gives values"),
        (b"ctorch.distributed.checkpoint.metadata\nMetadata\n)R(N}tb.", "asks|values|missing"),
        (b"(ipathlib\nPosixPath\n.", "an instruction"),
        (b"(cpathlib\nPosixPath\no.", "an instruction"),
        (b"\x82\x01.", "an instruction"),
        (b"Pname\n.", "an instruction"),
        (b"K\x01Q.", "an instruction"),
    ],
)
def test_other_pickles_are_refused(checkpoint: Path, payload: bytes, reason: str) -> None:
    (checkpoint / ".metadata").write_bytes(payload)
    _fit(checkpoint)
    assert re.search(reason, _refused(checkpoint))
    assert not hasattr(PosixPath, "flag")


def _absolute(folder: Path) -> None:
    entry = file_entry(Path("/etc/hostname")).model_dump()
    _change_manifest(folder, lambda tree: tree["files"].update({"/etc/hostname": entry}))


def _upwards(folder: Path) -> None:
    (folder.parent / "stolen").write_bytes(b"a file outside")
    entry = file_entry(folder.parent / "stolen").model_dump()
    _change_manifest(folder, lambda tree: tree["files"].update({"../stolen": entry}))


def _link(folder: Path) -> None:
    (folder / "__1_0.distcp").rename(folder.parent / "outside")
    (folder / "__1_0.distcp").symlink_to(folder.parent / "outside")


def _huge(folder: Path) -> None:
    os.truncate(folder / "manifest.json", 1 << 40)  # a hole: it takes no room on the disk


def _wrong_json(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (_absolute, "the file name '/etc/hostname' is not allowed"),
        (_upwards, "the file name '../stolen' is not allowed"),
        (_link, "the file name '__1_0.distcp' is not allowed"),
        (_huge, "1,099,511,627,776 bytes; not a manifest"),
        (_wrong_json, "not a manifest"),
    ],
)
@pytest.mark.parametrize("is_named", [True, False])
def test_five_hostile_manifests_are_refused_on_all_ranks(
    checkpoint: Path, attack: Callable[[Path], None], message: str, is_named: bool
) -> None:
    attack(checkpoint)
    wanted = str(checkpoint) if is_named else "auto"
    for found in run_ranks(_load, 2, checkpoint.parent, wanted, timeout_s=20):
        assert message in found
