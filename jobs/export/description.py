"""Describes the artefact of a checkpoint: outputs, features, and what their columns held."""

from __future__ import annotations

from pathlib import Path

from data_pipelines.catalog.catalog import schema_hash
from data_pipelines.synthetic.storage import log_name
from jobs.assembly.data import find_train_files
from jobs.assembly.data_root import names_no_log
from jobs.assembly.log_once import LogOnce
from jobs.export.outputs import outputs_of
from marigold_rec.checkpoint.finding import Found
from marigold_rec.config.schema import Config
from marigold_rec.errors import ConfigError, DataError
from marigold_rec.network import Network
from marigold_rec.serving.artefact import Artefact
from marigold_rec.serving.inputs import column_kinds
from marigold_rec.training.monitoring.run_log import LOGGER
from marigold_rec.transforms.feature_transforms import FeatureTransforms
from marigold_rec.versions import installed_versions


def describe(config: Config, found: Found, network: Network) -> Artefact:
    """Returns the artefact's description without its tables and files, which come last."""
    return Artefact(
        predictions=network.prediction_columns,
        sequences=config.sequence_features,
        outputs=outputs_of(config.tasks, network.extra_columns),
        features=config.features,
        columns=_columns(config, found),
        tables={},
        step=found.manifest.step,
        run=config.run.name,
        config_hash=found.manifest.config_hash,
        schema_hash=found.manifest.schema_hash,
        versions=installed_versions(),
        files={},
    )


def _columns(config: Config, found: Found) -> dict[str, str] | None:
    """Returns the types of the features' columns in the training files, if they can be read.

    With them the predictor tells the number 7 from the text "7", which a hash feature would
    silently map to different ids.
    """
    data = config.data
    if names_no_log(config):
        log = Path(config.run.dir) / ".synthetic" / log_name(data.synthetic)
        if not log.exists():  # an export does not make it
            return _unknown("the embedded log was deleted")
    try:
        catalog = find_train_files(config, LogOnce())
    except (DataError, ConfigError) as error:
        return _unknown(f"the training files can't be read ({error})")
    if found.manifest.schema_hash not in (None, schema_hash(catalog)):
        return _unknown("the training files have another schema now")
    transforms = FeatureTransforms(config.features, config.tables)
    names = [name for name in transforms.columns if name not in catalog.all_null]
    return column_kinds(catalog.schema, names)


def _unknown(why: str) -> None:
    LOGGER.warning(
        "%s: the artefact does not know whether a column held numbers or text in training; give "
        "the files with data.path=..., and the predictor will refuse the other type",
        why,
    )
