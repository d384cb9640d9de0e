"""The dense part's file: what torch.export.save writes, held to what holds no pickle.

A .pt2 file is a zip of JSON (the graph, the weights' shapes) and raw weights. In three places
torch may put a pickle, and would load it with all that a pickle may do: sample inputs, weights of a
tensor subclass, constants. `save_program` writes none, and `load_program` refuses a file that has
one. The graph itself is only as trustworthy as its source: torch reads its shapes with sympy, which
evaluates text. That is why the hash is verified first.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from marigold_rec.errors import CheckpointError
from marigold_rec.plain_zip import require_plain_zip

Dense = Callable[..., Tensor]
"""The tensors of `Inputs.flat` -> predictions_BP."""

_WEIGHTS = "data/weights/model_weights_config.json"
_CONSTANTS = "data/constants/model_constants_config.json"
_SAMPLES = "data/sample_inputs/model.pt"
_MEMBERS = re.compile(
    r"^(data/weights/weight_\d+|models/model\.json|archive_format|archive_version|byteorder"
    r"|\.data/version|\.data/serialization_id"
    rf"|{re.escape(_WEIGHTS)}|{re.escape(_CONSTANTS)}|{re.escape(_SAMPLES)})$"
)


def save_program(program: ExportedProgram, path: Path) -> None:
    program._example_inputs = None  # they would be written as a pickle
    torch.export.save(program, path)
    _require_no_pickle(path)


def load_program(path: Path) -> Dense:
    """The program of a file whose hash has been verified. Safe in threads.

    Raises CheckpointError: it is not such a file, or holds what `save_program` never writes.
    """
    _require_no_pickle(path)
    try:
        module = torch.export.load(path).module(check_guards=False)
    except Exception as error:  # a foreign parser's
        raise CheckpointError(
            f"{path}: torch {torch.__version__} can't read it ({type(error).__name__}: {error}); "
            "export the checkpoint again with this version"
        ) from error
    # Not module(...): its hooks hold the inputs' shapes against the graph's, and take longer than a
    # row's predictions. The predictor makes the inputs, and their shapes, itself.
    return module.forward


def _require_no_pickle(path: Path) -> None:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            require_plain_zip(file)  # torch has another reader
            tops = {name.partition("/")[0] for name in archive.namelist()}
            packed = [m.filename for m in archive.infolist() if m.compress_type]
            if len(tops) != 1 or packed:
                raise zipfile.BadZipFile(f"top folders {sorted(tops)[:3]}, packed {packed[:3]}")
            sizes = {name.partition("/")[2]: archive.getinfo(name) for name in archive.namelist()}
            foreign = [name for name in sizes if not _MEMBERS.fullmatch(name)]
            if _SAMPLES in sizes and sizes[_SAMPLES].file_size:
                foreign.append(_SAMPLES)
            weights = json.loads(archive.read(sizes[_WEIGHTS]))["config"]
            foreign += [name for name, entry in weights.items() if entry["use_pickle"] is not False]
            foreign += json.loads(archive.read(sizes[_CONSTANTS]))["config"]
    except (
        OSError, zipfile.BadZipFile, NotImplementedError, RecursionError, ValueError, KeyError,
        TypeError, AttributeError,
    ) as error:  # fmt: skip
        raise CheckpointError(
            f"{path}: not a program of torch.export ({type(error).__name__}: {error})"
        ) from error
    if foreign:
        raise CheckpointError(
            f"{path}: holds {foreign[:3]}, which no export of ours writes and which may be a "
            "pickle; it is not loaded"
        )
