"""Artefacts of untrained models, made without the training stack: for tests of serving alone."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from pydantic import ValidationError
from torch import nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from jobs.export.dense import DenseProgram, export_dense
from jobs.export.outputs import outputs_of
from marigold_rec.config import Config
from marigold_rec.config.loading import config_from
from marigold_rec.file_entry import file_entry
from marigold_rec.sealed import sealed
from marigold_rec.serving.artefact import ARTEFACT_NAME, Artefact, Precision
from marigold_rec.serving.inputs import column_kinds
from marigold_rec.serving.writing import write_artefact
from marigold_rec.transforms import FeatureTransforms
from models import build_embeddings, build_network
from tests.support.runs import click_log, config_tree
from tests.support.sealing import tree_of


def small_config(**sections: Any) -> Config:
    """Of `tests.support.runs.click_log`."""
    tree = config_tree(Path("/nowhere"), Path("/nowhere")) | sections
    return config_from(tree, (), where="a test")


class Model:
    """A config's model with random values: embeddings (plain torch), network, and an artefact."""

    def __init__(self, config: Config, seed: int = 5) -> None:
        torch.manual_seed(seed)
        self.config = config
        self.tables = config.tables
        self.embeddings = build_embeddings(config, "cpu")
        self.network = build_network(config)
        with torch.no_grad():
            for parameter in self.embeddings.parameters():
                nn.init.normal_(parameter)
            for head in self.network.task_heads:
                nn.init.normal_(cast(nn.Linear, cast(nn.Module, head).linear).bias)

    @property
    def dense(self) -> nn.Module:
        return DenseProgram(self.network).eval()

    def weight(self, table: str) -> torch.Tensor:
        embeddings = self.embeddings
        bags = {} if embeddings.ebc is None else dict(embeddings.ebc.embedding_bags.items())
        bags |= {} if embeddings.ec is None else dict(embeddings.ec.embeddings.items())
        return cast(torch.Tensor, bags[table].weight).detach()

    def export(
        self, out: Path, precision: Precision = "fp32", schema: pa.Schema | None = None
    ) -> Path:
        """`schema`: of the log that it is said to be trained on; None: of `click_log`."""
        config = self.config
        trained_on = click_log(1).schema if schema is None else schema
        described = Artefact(
            predictions=self.network.prediction_columns,
            outputs=outputs_of(config.tasks, self.network.extra_columns),
            sequences=config.sequence_features,
            features=config.features,
            columns=column_kinds(trained_on, [c for f in config.features for c in f.columns]),
            tables={}, step=3, run="test", config_hash="0", schema_hash=None, versions={}, files={},
        )  # fmt: skip
        program = export_dense(self.network)
        write_artefact(
            out,
            described,
            program,
            {table: lambda name=table.name: self.weight(name) for table in self.tables},
            precision=precision,
            quantize=torch.ops.fbgemm.FloatToFused8BitRowwiseQuantized,
        )
        return out


def eager(model: Model, log: pa.Table) -> np.ndarray:
    """predictions_BT of the training's own modules: EmbeddingBagCollection, network, heads."""
    found = FeatureTransforms(model.config.features, model.tables)(log)
    names = [feature.name for feature in model.config.sparse_features]
    unpooled = {f for table in model.tables if table.is_unpooled for f in table.features}

    def jagged(wanted: list[str]) -> KeyedJaggedTensor:
        ids = [found.sparse[names.index(name)] for name in wanted]
        lengths = [
            np.ones(found.num_rows, np.int32) if i.lengths is None else i.lengths for i in ids
        ]
        return KeyedJaggedTensor(
            keys=wanted,
            values=torch.from_numpy(np.concatenate([i.values for i in ids])),
            lengths=torch.from_numpy(np.concatenate(lengths)),
        )

    pooled = jagged([name for name in names if name not in unpooled])
    sequences = jagged([name for name in names if name in unpooled]) if unpooled else None
    with torch.no_grad():
        inputs = model.embeddings(pooled, sequences, torch.from_numpy(found.dense_BD))
        return model.network.eval().predict(model.network(inputs)).numpy()


def rewrite(folder: Path, **changes: Any) -> None:
    """Changes artefact.json as somebody would who means it: all hashes are made to fit."""
    path = folder / ARTEFACT_NAME
    tree = tree_of(path)
    tree["files"] = {
        name: file_entry(folder / name).model_dump() if (folder / name).is_file() else entry
        for name, entry in tree["files"].items()
    }
    tree |= changes
    with contextlib.suppress(ValidationError):
        tree = Artefact.model_validate_json(json.dumps(tree)).model_dump(mode="json")
    path.write_bytes(sealed(tree))
