"""Reads DCP's `.metadata`, a pickle, without trusting it.

The manifest's hash proves that a checkpoint has not changed since it was saved, but not who saved
it: a hostile folder brings a manifest of its own. A plain `pickle.load` would run whatever it says.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from marigold_rec.checkpoint.manifest import Manifest
from marigold_rec.errors import CheckpointError

METADATA_NAME = ".metadata"

# All that DCP's own metadata of tensors is made of. None of these runs what it is given.
_ALLOWED = {
    ("pathlib", "PosixPath"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        )
    ),
}


def read_dcp_metadata(folder: Path, manifest: Manifest) -> Metadata:
    """The metadata of a checkpoint whose files have been verified against `manifest`.

    Raises CheckpointError for anything that a save of ours does not write: other classes, values
    that are no tensors (DCP would unpickle those without restriction), files that the manifest
    does not list.
    """
    path = folder / METADATA_NAME
    if METADATA_NAME not in manifest.files:
        raise CheckpointError(f"{path}: not listed in the manifest, so that nothing can be loaded")
    try:
        metadata = _RestrictedUnpickler(io.BytesIO(path.read_bytes())).load()
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error})") from error
    except Exception as error:  # a broken pickle raises nearly anything
        what = str(error) or type(error).__name__
        raise CheckpointError(f"{path}: refused: {what}") from error
    if problem := _problem(metadata, manifest):
        raise CheckpointError(f"{path}: refused: {problem}")
    return metadata


class VerifiedReader(FileSystemReader):
    """DCP's reader of files, which takes the metadata that has been read already.

    DCP's own would unpickle `.metadata` again, or `__0.metadata` where there is none.
    """

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        super().__init__(folder)
        self._metadata = metadata

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        return self._metadata


# DCP's own classes, whose instances may be given values; nothing else, and never a class itself.
_BUILT = (
    Metadata, MetadataIndex, ChunkStorageMetadata, StorageMeta, TensorProperties,
    TensorStorageMetadata, _StorageInfo,
)  # fmt: skip


def _build(unpickler: Any) -> None:
    """BUILD, of instances of DCP's classes: of a class it would change the class for all."""
    # The last on the stack is the state, before it lies what is given it.
    given, state = unpickler.stack[-2], unpickler.stack[-1]
    # A pair may hold attributes that are set one by one, `__class__` too.
    is_own = type(given) is TensorProperties and type(state) is tuple and len(state) == 5
    if type(given) not in _BUILT or not (is_own or type(state) is dict):
        raise pickle.UnpicklingError(f"it gives values to {given!r:.80}, which no checkpoint needs")
    _PYTHON.dispatch[pickle.BUILD[0]](unpickler)


_PYTHON: Any = getattr(pickle, "_Unpickler")  # noqa: B009 - the one whose opcodes can be chosen
# What a save of ours writes: no INST, OBJ, EXT, persistent ids, NEWOBJ_EX or buffers.
_OPCODES = (
    pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.MEMOIZE, pickle.BINPUT,
    pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET, pickle.GLOBAL, pickle.STACK_GLOBAL,
    pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2,
    pickle.LONG1, pickle.BINFLOAT, pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.EMPTY_TUPLE,
    pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_LIST, pickle.APPEND,
    pickle.APPENDS, pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS, pickle.NEWOBJ,
    pickle.REDUCE,
)  # fmt: skip


def _refused_opcode(unpickler: Any) -> None:
    raise pickle.UnpicklingError("it holds an instruction that no checkpoint needs")


class _RestrictedUnpickler(_PYTHON):
    dispatch = (
        dict.fromkeys(range(256), _refused_opcode)
        | {code[0]: _PYTHON.dispatch[code[0]] for code in _OPCODES}
        | {pickle.BUILD[0]: _build}
    )

    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_dtype or (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no checkpoint needs")


def _problem(metadata: object, manifest: Manifest) -> str | None:
    if not isinstance(metadata, Metadata):
        return f"it holds a {type(metadata).__name__}"
    places = metadata.storage_data
    if not isinstance(places, dict) or not isinstance(metadata.state_dict_metadata, dict):
        return "it does not say where the tensors lie"
    for name, entry in metadata.state_dict_metadata.items():
        if not isinstance(entry, TensorStorageMetadata):
            return f"{name} is no tensor but a {type(entry).__name__}"
    for place in places.values():
        file = getattr(place, "relative_path", None)
        if not isinstance(file, str) or file not in manifest.files:
            return f"it leads to the file {file!r}, which the manifest does not list"
        if getattr(place, "transform_descriptors", None):
            return f"{file!r} would have to be decoded"
    return None
