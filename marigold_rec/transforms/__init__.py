"""Arrow columns -> embedding row ids and dense values.

One object, `FeatureTransforms`, serves training, evaluation and the exported predictor, so that a
feature can never be computed in two ways.
"""

from marigold_rec.transforms.arrow_types import common_type, is_hashable, plain_type, same_meaning
from marigold_rec.transforms.columns import cast_table, float64_values, lone_array
from marigold_rec.transforms.feature_transforms import FeatureTransforms, Transformed
from marigold_rec.transforms.jagged import JaggedIds

__all__ = [
    "FeatureTransforms",
    "JaggedIds",
    "Transformed",
    "cast_table",
    "common_type",
    "float64_values",
    "is_hashable",
    "lone_array",
    "plain_type",
    "same_meaning",
]
