"""Serving: an artefact folder -> predictions, without the training stack.

Imports neither torchrec nor torch.distributed's process groups: the transforms, torch and numpy are
all it needs. `launch/export.py` makes artefacts; `python -m marigold_rec.serving` scores Parquet.
"""

from marigold_rec.serving.artefact import Artefact, Output, Precision, read_artefact
from marigold_rec.serving.predictor import Predictions, Predictor

__all__ = ["Artefact", "Output", "Precision", "Predictions", "Predictor", "read_artefact"]
