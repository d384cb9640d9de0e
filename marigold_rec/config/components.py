"""The components that a config can name, and the config fields that hold their settings.

A new component is one file with a class and its `Settings`, and one line in a table here. The
tables hold import paths, so that a config can be read without importing torch modules that it does
not name, and so that this layer depends on none of them. A class is imported when a config names
it; only names of these tables ever are.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, SerializeAsAny, ValidationInfo, WrapValidator
from pydantic_core import PydanticCustomError

from marigold_rec.config.features import FeatureSettings
from marigold_rec.config.section import Section
from marigold_rec.config.sequences import EncoderSettings

FEATURES = {
    "hash": "marigold_rec.transforms.hashing:Hash",
    "id": "marigold_rec.transforms.ids:Id",
    "bucketize": "marigold_rec.transforms.buckets:Bucketize",
    "vocab": "marigold_rec.transforms.vocabulary:Vocab",
    "cross": "marigold_rec.transforms.crosses:Cross",
    "dense": "marigold_rec.transforms.dense:Dense",
    "overlap": "marigold_rec.transforms.overlaps:Overlap",
}
ENCODERS = {
    "mean": "models.encoders.mean:MeanEncoder",
    "target_attention": "models.encoders.target_attention:TargetAttention",
    "transformer": "models.encoders.transformer:Transformer",
    "hstu": "models.encoders.hstu:HSTU",
}
INTERACTIONS = {
    "dcn_v2": "models.interactions.dcn_v2:DCNv2",
    "fm": "models.interactions.fm:FM",
    "dot": "models.interactions.dot:Dot",
}
TRUNKS = {
    "shared_bottom": "models.shared_bottom:SharedBottom",
    "mmoe": "models.mmoe:MMoE",
    "ple": "models.ple:PLE",
}
HEADS = {
    "logistic": "models.heads.logistic:LogisticHead",
    "log_mse": "models.heads.log_duration:LogMSEHead",
    "log_huber": "models.heads.log_duration:LogHuberHead",
}
LOSSES = {
    "observed": "models.losses.observed:Observed",
}


def component_class(table: Mapping[str, str], name: str) -> Any:
    """The class that `table` lists under `name`."""
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def component_name(settings: Section) -> str:
    """The name by which a component's settings stand in the config."""
    return str(settings.model_dump(include={"name"})["name"])


def _settings(
    table: Mapping[str, str], key: str, value: Any, handler: Any, info: ValidationInfo
) -> Any:
    if isinstance(value, Section):
        return value
    if not isinstance(value, dict):
        return handler(value)  # tells that it must be a mapping
    if key not in value:
        context = {"discriminator": f"'{key}'", "known": list(table)}
        raise PydanticCustomError("union_tag_not_found", "has no name", context)
    name = value[key]
    if not isinstance(name, str) or name not in table:
        context = {"discriminator": f"'{key}'", "tag": str(name), "known": list(table)}
        raise PydanticCustomError("union_tag_invalid", "is unknown", context)
    settings: type[Section] = component_class(table, name).Settings
    if info.mode == "json":
        # Strict as the rest of the tree, but lists for tuples, which only JSON input allows.
        return settings.model_validate_json(json.dumps(value), strict=True)
    return settings.model_validate(value)


@dataclass(frozen=True)
class OneOf:
    """Marks a config field whose settings are those of a component of `table`, named by `key`."""

    table: Mapping[str, str]
    key: str = "name"

    def settings(self, name: Any) -> type[Section] | None:
        """The settings' class of the component `name`; None: there is no such component."""
        known = isinstance(name, str) and name in self.table
        return component_class(self.table, name).Settings if known else None

    def validate(self, value: Any, handler: Any, info: ValidationInfo) -> Any:
        """A field's value as the settings of the component that it names."""
        return _settings(self.table, self.key, value, handler, info)

    @property
    def validator(self) -> WrapValidator:
        return WrapValidator(self.validate)


def with_parts(features: tuple[FeatureSettings, ...]) -> tuple[FeatureSettings, ...]:
    """The same features; those that name others know their settings."""
    by_name = {feature.name: feature for feature in features}
    return tuple(feature.with_parts(by_name) for feature in features)


_ENCODER, _INTERACTION, _TRUNK = OneOf(ENCODERS), OneOf(INTERACTIONS), OneOf(TRUNKS)
_HEAD, _LOSS, _FEATURE = OneOf(HEADS), OneOf(LOSSES), OneOf(FEATURES, "kind")

Feature = Annotated[SerializeAsAny[FeatureSettings], _FEATURE.validator, _FEATURE]
Features = Annotated[tuple[Feature, ...], AfterValidator(with_parts)]
"""All features of a config, those that name others with their settings."""

EncoderField = Annotated[SerializeAsAny[EncoderSettings], _ENCODER.validator, _ENCODER]
InteractionField = Annotated[SerializeAsAny[Section], _INTERACTION.validator, _INTERACTION]
TrunkField = Annotated[SerializeAsAny[Section], _TRUNK.validator, _TRUNK]
HeadField = Annotated[SerializeAsAny[Section], _HEAD.validator, _HEAD]
LossField = Annotated[SerializeAsAny[Section], _LOSS.validator, _LOSS]
