"""The artefact: a folder that holds all that predictions need, and `artefact.json`, which vouches
for every byte of it.

  artefact.json      what is described here, sealed (`sealed.py`); read first
  dense.pt2          the dense part, a program of torch.export (`program.py`)
  tables/<name>.bin  an embedding table's rows, raw (`tables.py`)
  admitted.npz       which rows are in use, where rare ids share one (`transforms/admission.py`)

The hashes find damage. They don't find malice: who can write into the folder can also write
another artefact.json, so that an artefact is to be trusted as far as the place it lies in.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from marigold_rec.config.components import Features
from marigold_rec.config.features import SparseFeature
from marigold_rec.config.label_kinds import Kind
from marigold_rec.config.names import NAME_PATTERN
from marigold_rec.config.tables import Table, resolve_tables
from marigold_rec.errors import CheckpointError
from marigold_rec.file_entry import FileEntry, file_entry
from marigold_rec.record import Record
from marigold_rec.sealed import sealed, unsealed
from marigold_rec.transforms.row_bits import ADMITTED_NAME

ARTEFACT_NAME = "artefact.json"
DENSE_NAME = "dense.pt2"
KIND = "marigold_rec artefact"
FORMAT = 2

Precision = Literal["fp32", "fp16", "int8"]

_FILE_NAME = re.compile(r"^(dense\.pt2|admitted\.npz|tables/[A-Za-z_][A-Za-z0-9_]*\.bin)$")
_MOST_BYTES = 1 << 26
"""Of artefact.json: a vocabulary of a million values fits."""


class TableEntry(Record):
    rows: int = Field(ge=1)
    dim: int = Field(ge=4, multiple_of=4)
    dtype: Precision
    file: str


class Output(Record):
    """One thing that is predicted, as the evaluation judges it: a product of predictions."""

    name: str
    kind: Kind
    """binary: a probability; duration: seconds."""
    space: Literal["observed", "all"]
    """Of which rows it speaks: those where `observed_if` is 1, or all."""
    observed_if: str | None
    factors: tuple[str, ...] = Field(min_length=1)


class Artefact(Record):
    """What artefact.json says."""

    kind: Literal["marigold_rec artefact"] = KIND
    format: int = FORMAT
    predictions: tuple[str, ...]
    """What the dense part predicts, in its order: a task's expected value by the task's name, then
    its head's other columns."""
    outputs: tuple[Output, ...]
    features: Features
    """The config's: the transforms are made from them."""
    sequences: dict[str, str]
    """Sequence -> the feature that the dense part reads unpooled, in the dense part's order."""
    columns: dict[str, str] | None
    """Column -> what training found there (`inputs.column_kind`); None: not known any more."""
    tables: dict[str, TableEntry]
    step: int
    """Of the checkpoint."""
    run: str
    config_hash: str
    schema_hash: str | None
    """Of the training files' columns."""
    versions: dict[str, str]
    files: dict[str, FileEntry]

    @property
    def sparse_features(self) -> tuple[SparseFeature, ...]:
        return tuple(f for f in self.features if isinstance(f, SparseFeature))

    @property
    def config_tables(self) -> tuple[Table, ...]:
        return resolve_tables(self.sparse_features, self.sequences.values())


def read_artefact(folder: Path) -> Artefact:
    """What the artefact in `folder` holds, every file of it verified. Reads every byte.

    Raises CheckpointError that says which file is missing, foreign or changed.
    """
    artefact = _read(folder)
    try:
        _verify_files(folder, artefact)
    except OSError as error:  # replaced or deleted under us, or a disk that fails
        raise CheckpointError(
            f"{folder}: can't be read ({error}); was it replaced or deleted meanwhile? open it "
            "again, or name another artefact"
        ) from error
    _require_whole(folder / ARTEFACT_NAME, artefact)
    return artefact


def _verify_files(folder: Path, artefact: Artefact) -> None:
    path = folder / ARTEFACT_NAME
    if (folder / "tables").is_symlink():
        raise CheckpointError(f"{folder / 'tables'}: is a symbolic link, which is not followed")
    for name, expected in artefact.files.items():
        file = folder / name
        if not _FILE_NAME.fullmatch(name) or file.is_symlink():
            raise CheckpointError(f"{path}: the file name {name!r} is not allowed")
        if not file.is_file():
            raise CheckpointError(f"{file}: missing, but listed in {ARTEFACT_NAME}")
        if file_entry(file) != expected:
            raise CheckpointError(f"{file}: size or sha256 differs from {ARTEFACT_NAME}'s")
    present = {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}
    if unlisted := sorted(present - set(artefact.files) - {ARTEFACT_NAME}):
        raise CheckpointError(f"{folder}: holds files that artefact.json does not list: {unlisted}")


def artefact_bytes(artefact: Artefact) -> bytes:
    """The content of artefact.json."""
    # Not model_dump(mode="json"): it would write a number that is not finite otherwise.
    return sealed(json.loads(artefact.model_dump_json()))


def is_artefact(folder: Path) -> bool:
    """Whether `folder` holds what an export once made, damaged or not."""
    try:
        text = (folder / ARTEFACT_NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return f'"{KIND}"' in text


def _read(folder: Path) -> Artefact:
    path = folder / ARTEFACT_NAME
    if path.is_symlink():
        raise CheckpointError(f"{path}: is a symbolic link, which is not followed")
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise CheckpointError(f"{path}: {size:,} bytes; not an artefact's")
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path}: can't be read ({error}); expected a folder that launch/export.py has written"
        ) from error
    try:
        text = unsealed(content)
        # Another version's file may have other fields: its number has to be seen first.
        number = _Format.model_validate_json(text).format
        if number != FORMAT:
            raise CheckpointError(
                f"{path}: format {number}, this version reads {FORMAT}; export the checkpoint "
                "with this version, or serve with the one that exported it"
            )
        return Artefact.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(f"{path}: not an artefact: {first['loc']}: {first['msg']}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}; export the checkpoint again") from error


class _Format(BaseModel):
    format: int


def _require_whole(path: Path, artefact: Artefact) -> None:
    """The parts fit each other: tables to features, files to tables, outputs to tasks."""
    try:
        expected = {table.name: (table.rows, table.dim) for table in artefact.config_tables}
    except ValueError as error:
        raise CheckpointError(f"{path}: its features contradict each other: {error}") from error
    found = {name: (entry.rows, entry.dim) for name, entry in artefact.tables.items()}
    files = [entry.file for entry in artefact.tables.values()] + [DENSE_NAME]
    files += [ADMITTED_NAME] if ADMITTED_NAME in artefact.files else []
    factors = {factor for output in artefact.outputs for factor in output.factors}
    unknown = factors - set(artefact.predictions)
    unread = set(artefact.sequences.values()) - {f.name for f in artefact.sparse_features}
    if found != expected:
        raise CheckpointError(f"{path}: tables {found}, but the features need {expected}")
    if sorted(files) != sorted(artefact.files):
        raise CheckpointError(f"{path}: its parts are {files}, its files {list(artefact.files)}")
    if unknown or not all(re.fullmatch(NAME_PATTERN, name) for name in artefact.predictions):
        raise CheckpointError(f"{path}: outputs of unknown predictions {sorted(unknown)}")
    if unread:
        raise CheckpointError(f"{path}: sequences of unknown features {sorted(unread)}")
