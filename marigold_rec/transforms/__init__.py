"""Arrow columns -> embedding row ids and dense values.

One object, `FeatureTransforms`, serves training, evaluation and the exported predictor, so that a
feature can never be computed in two ways.
"""

from marigold_rec.transforms.columns import float64_values, lone_array, plain_type
from marigold_rec.transforms.feature_transforms import FeatureTransforms, Transformed
from marigold_rec.transforms.jagged import JaggedIds

__all__ = [
    "FeatureTransforms",
    "JaggedIds",
    "Transformed",
    "float64_values",
    "lone_array",
    "plain_type",
]
